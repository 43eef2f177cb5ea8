//! Layer 6: commands. The only place that names clap or prints.

pub mod lines;
pub mod plan;
pub mod progress;
pub mod report;
pub mod screen;
pub mod sinks;
pub mod summary;
