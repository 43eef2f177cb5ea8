//! The playbooks and modules that are part of the program, so that it works from any folder.

/// Playbooks by name.
pub const PLAYBOOKS: &[(&str, &str)] = &[];

/// Modules of the standard library by name, without `std/`.
pub const MODULES: &[(&str, &str)] = &[];
