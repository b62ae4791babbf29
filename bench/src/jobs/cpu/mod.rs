//! Which processor runs whom, and how much of it each takes.

pub mod pin;
pub mod usage;
