//! The broker: streams read through a consumer group, and everything that is done with an entry afterwards.
//!
//! ```text
//!            XADD                   read                  batch committed
//! producer ───────▶ undelivered ──────────▶ pending ──┬──▶ acknowledged and deleted
//!                                            │  ▲      ├──▶ dead letters   (<stream>:dead)
//!                                            └──┘      └──▶ schedule       (<stream>:scheduled) ──▶ undelivered
//!                                       another owner
//! ```
//!
//! A stream is read by its owner alone ([`crate::fleet`], `lease`), and as a log: what was delivered and not finished is read again
//! from the head whenever something may be missing (`group`).
//!
//! Every step out of "pending" is one script, so an entry is never in two places and never in none. Nothing here decides:
//! an entry leaves only when the batch that ran it says so.

mod connection;
mod group;
mod keys;
mod lease;
mod letters;
mod lineage;
mod members;
mod pause;
mod probe;
mod replies;
mod sample;
mod schedule;
mod settings;
mod settle;

pub use connection::{Broker, BrokerError, LARGE_ANSWER, Nature, Unfit};
pub use group::consumers::OWNERS;
pub use group::log::{Seized, Survey};
pub use group::read::{Read, Reader, streams as entries_of};
pub use keys::{dead_letters, finished, owner, scheduled};
pub use lease::{LeaseLine, Name};
pub use letters::held::HeldLetters;
pub use letters::{Letter, Letters, Requeued, Selection};
pub use members::{Member, Skills, skill};
pub use pause::Pause;
pub use probe::{Finding, Lack};
pub use replies::Swept;
pub use schedule::{Place, Waiting};
pub use settle::{DeadLetter, Postponed, Reply};

pub use settings::Settings;
