//! The daemon as a process: how it starts, tells of itself, survives and ends.

mod drain;
pub mod load;
mod logs;
mod memory;
mod outages;
mod ready;
mod signals;
mod startup;
