//! gateway.

pub mod path;
