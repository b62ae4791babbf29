//! How a fleet keeps the order of a stream, as a model that is searched whole: every interleaving of every step and fault.
//!
//! Nobody owns the stream here: **every daemon believes that it does, all the time**. So what holds here does not rest on a
//! lease, on clocks, or on who is frozen for how long (a daemon that takes no step is frozen). What it rests on:
//!
//! - **L1** A daemon reads from the head first, and then on without a gap: what others have been given in between is found by a look
//!   at all pending entries after each read, before anything of it is started.
//! - **L2** It starts a job when every older one that it has read and that shares an aggregate is decided before it.
//! - **L3** An entry leaves the stream when its job has a committed end.
//! - **L4** A packet commits when its receipt is new, its versions are the next ones, the heads it went by are unchanged, and the
//!   batch that it succeeds is in the log.
//! - **L5** After a doubt it drops what waits, lets what is in flight run out, and reads from the head again.
//!
//! A [`Mutant`] breaks one of them, and has to be found. Three that were thought of break nothing here: to keep the hand through a
//! doubt (what it has is still right, and the look finds the rest), and to leave out either the check of heads or the expected
//! batch (each refuses what the other would; without both, a rejection may come before the job that it rests on).

mod daemon;
pub mod domain;
mod properties;
mod protocol;
pub mod readers;
pub mod rebuild;
mod servers;

pub use protocol::{Fleet, Mutant};
