//! What a batch commits, as one packet.
//!
//! ```sql
#![doc = include_str!("packet.sql")]
//! ```

mod condition;
mod event;
mod packet;
pub(super) mod part;
mod snapshot;
#[cfg(test)]
mod tests;
mod transaction;

pub use condition::{Anchor, AppendCondition, Expected};
pub use event::{EventToAppend, Receipt};
pub use packet::{Committed, Packet};
pub use snapshot::Snapshot;
pub use transaction::Transaction;
