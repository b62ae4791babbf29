//! Fleets of daemons on simulated servers, run by a seed: which message, timer or fault comes next is drawn from it, so a seed repeats a
//! run. Ownership ([`Seat`](lockkeeper::fleet::Seat)), the plan, the hand and the order in it are the real code. What is around them
//! (reading, looking after each read, deciding, settling) is written down again here, without its I/O.
//!
//! In half of the runs the lease is ignored: every daemon believes all the time that it owns the stream.

mod daemon;
mod servers;
mod steps;
mod world;

pub use world::{Mutant, Summary, run};
