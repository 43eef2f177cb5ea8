//! Layer 1: the only place that touches the operating system or the network.

pub mod postgres;
