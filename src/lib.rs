//! Jobs flow in on Redis **streams**, pass a **lock** per aggregate, and leave as **events** in MySQL: none lost, none
//! applied twice, each aggregate's history without gaps.
//!
//! # Layers
//!
//! A module imports only from earlier ranks; a test holds that line.
//!
//! | rank | modules | |
//! |---|---|---|
//! | pure | [`domain`] [`job`] [`plan`] [`config`] [`metrics`] [`lifecycle`] | no I/O; property-tested |
//! | adapters | [`store`] [`projection`] [`stream`] [`lock`] [`spans`] | one server each |
//! | story | [`batch`] | one batch: lock, load, decide, commit |
//! | loops | [`worker`] [`retention`] | intake, dispatch, settle; what is old goes |
//! | wiring | [`app`] [`http`] [`connect`] [`signals`] [`reload`] [`telemetry`] [`cli`] [`dev`] | |
//!
//! # A job's journey
//!
//! [`worker::Intake`] reads entries through a consumer group. [`job::decode`] makes each a job, also the malformed ones.
//! [`plan::Plan`] picks the next batch: jobs whose aggregates no batch in flight touches, in stream order per aggregate, or
//! only such as have decided already: then it goes by what they will come to.
//! [`batch::run`] locks the batch's aggregates in one round, has the broker count the start of jobs that were claimed, reads
//! receipts, heads and states, decides every job in memory with [`batch::decide`], and commits read models, receipts and
//! events in one packet, which the database refuses unless the batches that it goes by are in the log. It is sent when those
//! hold the sequence row, so that the database has one transaction after the other without asking for it. Then the broker is
//! told: reply, acknowledge and delete, or dead-letter.
//!
//! # Invariants
//!
//! 1. Nothing is acknowledged before its receipt is committed. Killing the process at any line loses nothing and repeats
//!    nothing.
//! 2. The lock only saves work, and so does what is remembered; the unique keys over an aggregate's versions and over receipts,
//!    and the heads and anchors that are checked in the transaction, decide. A paused holder's batch fails if anyone wrote
//!    first, and so does one that rests on commits which a failover has lost, or on a batch that has failed.
//! 3. Events, read models and receipts commit together or not at all. Read models equal a fold of the events, always.
//! 4. `position` is dense and in commit order, so a reader that has seen n has seen all before n.
//! 5. Per aggregate, events follow the order in which its jobs stand in the stream, within one daemon's life. Crashes,
//!    hand-back and peers on the same stream may reorder, and a rejection stays final.
//! 6. [`domain`] imports no I/O, no clock, no randomness.
//!
//! Each has a test that notices: 1 `load` and `recovery` (kills, also between COMMIT and acknowledge), 2 `engine` (a second
//! writer in between, a log that lost its end) and `load` (a frozen holder), 3 and 4 the audit in [`dev::audit`] after every
//! load, 5 `load` (every order of four jobs) and the property of [`plan`], 6 `layers`; all in `tests/suite`.
//!
//! # A domain of your own
//!
//! Implement [`domain::Domain`] and [`projection::Projection`], and call [`app::run`] with them. The engine never names an
//! item or an order.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
// They panic where nobody reads, and `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod app;
pub mod batch;
pub mod cli;
pub mod config;
pub mod connect;
pub mod dev;
pub mod domain;
mod fail;
pub mod http;
pub mod job;
pub mod lifecycle;
pub mod lock;
pub mod metrics;
pub mod plan;
pub mod projection;
pub mod reload;
pub mod retention;
pub mod signals;
pub mod spans;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod worker;
