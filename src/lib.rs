//! Jobs flow in on Redis **streams**, pass a **lock** per aggregate, and leave as **events** in MySQL: none lost, none
//! applied twice, each aggregate's history without gaps.
//!
//! # Layers
//!
//! A module imports only from earlier ranks, and no file from one that imports from it; a test holds both lines.
//!
//! | rank | modules | |
//! |---|---|---|
//! | pure | [`domain`] [`job`] [`plan`] [`config`] [`fleet`] [`metrics`] [`lifecycle`] [`exit`] | no I/O |
//! | adapters | [`store`] [`projection`] [`stream`] [`lock`] [`spans`] | one server each |
//! | story | [`batch`] [`page`] | one batch: lock, load, decide, commit; one page of the log: read, write, commit |
//! | loops | [`worker`] [`retention`] [`subscription`] [`rebuild`] [`audit`] | intake, dispatch, settle; what is old goes; readers of the log; read models filled anew; what the tables promise |
//! | wiring | [`daemon`] [`http`] [`connect`] [`signals`] [`reload`] [`telemetry`] [`view`] [`cli`] | |
//!
//! # A job's journey
//!
//! Of a fleet one daemon owns a stream, and all others stand by ([`fleet`]). [`worker::Intake`] reads the streams that it owns through
//! a consumer group, each as a log from its head on. [`job::decode`] makes each a job, also the malformed ones.
//! [`plan::Plan`] picks the next batch: jobs whose aggregates no batch in flight touches, in stream order per aggregate, or
//! are only touched by batches that are already prepared, whose result it then assumes.
//! [`batch::run`] locks the batch's aggregates in one round, has the broker count the start of jobs that another owner may have begun, reads
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
//! 5. The jobs of one stream come to what they would come to if one daemon ran them one by one in stream order: events and
//!    rejections of every aggregate. Kills, freezes, drains and more or fewer daemons do not change that. It does not hang on who
//!    owns the stream: whoever runs its jobs has read them from the head, starts none before an older one that shares an aggregate
//!    with it, and what another daemon did first is refused by 2. A job with `at` has its place where it comes back into the stream,
//!    a requeued dead letter where it is put back.
//! 6. [`domain`] imports no I/O, no clock, no randomness.
//! 7. A checkpoint and the rows of its page commit together; a page of whoever has lost the subscription leaves nothing.
//! 8. A checkpoint passes no event that was not written, or passed by because of its type.
//! 9. What the name of a read model shows equals the fold of the events, up to the log's end or its checkpoint: also while it is filled
//!    anew, shown and shown back.
//!
//! Each has a test that notices: 1 `load` and `recovery` (kills, also between COMMIT and acknowledge), 2 `engine` (a second
//! writer in between, a log that lost its end) and `load` (a frozen holder), 3 and 4 the audit in [`audit`] after every
//! load, 5 `order` (jobs held against a serial run), the search in `tests/model`, the fleets of `tests/simulation` and the property of
//! [`plan`], 6 `layers`, 7 and 8 `subscriptions`, 9 `projections`; the others in `tests/suite`.
//!
//! # Words
//!
//! | word | is |
//! |---|---|
//! | entry | a message of a stream, as the producer wrote it |
//! | job | an entry with a meaning: a command, or the reason why there is none |
//! | command | a job's data, parsed by the domain |
//! | event | what a command brought about, on one aggregate: new, to be appended, recorded, or stored (as far as a state needs it) |
//! | receipt | the row that keeps a job from having a second effect |
//! | batch | jobs that are decided together and committed in one transaction |
//! | prepared batch | one that is decided and not committed: others may build on it |
//! | append condition | what a transaction requires of the log, and is refused without |
//! | anchor | an event that is known to be in the log, and with it all before |
//! | generation | of the cache: what all states in it rest on; of read models: what every transaction writes |
//! | put back | returned to the plan, to be in a later batch |
//! | prefetch | entries in hand: read and not acknowledged, bounded by number and bytes |
//! | owner | the daemon that runs a stream's jobs; the others stand by |
//! | spell | one reading of a stream, from its head on |
//! | turn | a job's place in the line: by id within a spell, by arrival between them |
//! | lease | for how long something is held: a lock by its nodes' time, a stream by its owner's beats |
//! | projection | what keeps a read model |
//! | subscription | a reader of the log with a checkpoint |
//! | checkpoint | the position up to which a subscription has done all events |
//! | page | the piece of the log that a subscription does at once |
//! | build | one filling of a read model, with tables and a number of its own |
//!
//! # A domain of your own
//!
//! Implement [`domain::Domain`] and [`projection::StateProjection`], and call [`daemon::run`] with them, or `cli::main`, which has
//! every command of an operator. The library knows no domain; the shop of this repository is a program beside it, `src/bin/lockkeeper`,
//! which sees what any other program sees.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
// They panic where nobody reads, and `cli::output` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]
// A module names what its tests need beside what its neighbours do.
#![cfg_attr(not(feature = "testing"), allow(unused_imports))]
// What only the commands of an operator use is not kept apart from the engine line by line.
#![cfg_attr(not(feature = "cli"), allow(dead_code))]

pub mod audit;
#[cfg(feature = "cli")]
pub mod cli;
pub mod daemon;
pub mod domain;
mod fail;
pub mod projection;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

// What the surface stands on is the library's own business. Its own tests, and its bench, look behind it.
#[cfg(not(feature = "testing"))]
mod batch;
#[cfg(feature = "testing")]
pub mod batch;
#[cfg(not(feature = "testing"))]
mod config;
#[cfg(feature = "testing")]
pub mod config;
#[cfg(not(feature = "testing"))]
mod connect;
#[cfg(feature = "testing")]
pub mod connect;
#[cfg(not(feature = "testing"))]
mod exit;
#[cfg(feature = "testing")]
pub mod exit;
#[cfg(not(feature = "testing"))]
mod fleet;
#[cfg(feature = "testing")]
pub mod fleet;
#[cfg(not(feature = "testing"))]
mod http;
#[cfg(feature = "testing")]
pub mod http;
#[cfg(not(feature = "testing"))]
mod job;
#[cfg(feature = "testing")]
pub mod job;
#[cfg(not(feature = "testing"))]
mod lifecycle;
#[cfg(feature = "testing")]
pub mod lifecycle;
#[cfg(not(feature = "testing"))]
#[allow(dead_code, reason = "it is whole, as the tests beside other clients use it; the daemon needs a part")]
mod lock;
#[cfg(feature = "testing")]
pub mod lock;
#[cfg(not(feature = "testing"))]
mod metrics;
#[cfg(feature = "testing")]
pub mod metrics;
#[cfg(not(feature = "testing"))]
mod page;
#[cfg(feature = "testing")]
pub mod page;
#[cfg(not(feature = "testing"))]
mod plan;
#[cfg(feature = "testing")]
pub mod plan;
#[cfg(not(feature = "testing"))]
mod rebuild;
#[cfg(feature = "testing")]
pub mod rebuild;
#[cfg(not(feature = "testing"))]
mod reload;
#[cfg(feature = "testing")]
pub mod reload;
#[cfg(not(feature = "testing"))]
mod retention;
#[cfg(feature = "testing")]
pub mod retention;
#[cfg(not(feature = "testing"))]
mod signals;
#[cfg(feature = "testing")]
pub mod signals;
#[cfg(not(feature = "testing"))]
mod spans;
#[cfg(feature = "testing")]
pub mod spans;
#[cfg(not(feature = "testing"))]
mod store;
#[cfg(feature = "testing")]
pub mod store;
#[cfg(not(feature = "testing"))]
mod stream;
#[cfg(feature = "testing")]
pub mod stream;
#[cfg(not(feature = "testing"))]
mod subscription;
#[cfg(feature = "testing")]
pub mod subscription;
#[cfg(not(feature = "testing"))]
mod telemetry;
#[cfg(feature = "testing")]
pub mod telemetry;
#[cfg(all(feature = "cli", not(feature = "testing")))]
mod view;
#[cfg(all(feature = "cli", feature = "testing"))]
pub mod view;
#[cfg(not(feature = "testing"))]
mod worker;
#[cfg(feature = "testing")]
pub mod worker;
