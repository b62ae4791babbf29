//! The event store: events, receipts and the sequence row, on MySQL or MariaDB.
//!
//! A batch costs one packet: [`Connection::commit`] sends the whole transaction, from START TRANSACTION to COMMIT. The server
//! runs it whether or not this process is still there, so a frozen daemon holds the sequence row only when a statement failed
//! in between; then the session's own time limit ends the transaction. Before it, [`Store::read`] asks for the receipts and heads
//! that are not known, [`Store::events_of`] reads what the cache lacks, and for what has a long history [`Store::snapshots`] is
//! asked first.

mod audit;
mod builds;
mod commit;
mod connection;
mod error;
mod history;
mod log;
mod pool;
mod read;
mod retention;
mod row;
mod schema;
mod sequence;
mod session;
pub mod sql;

pub use audit::StoredSnapshot;
pub use builds::{Alone, Build, BuildState, Compared, Difference, Mode, Named, NewBuild, TakeOver, subscription_of};
pub use commit::{Anchor, AppendCondition, Committed, EventToAppend, Expected, Packet, Receipt, Snapshot, Transaction};
pub use connection::Connection;
pub use error::{Conflict, Outage, Repeat, StoreError};
pub use history::StoredEvent;
pub use log::{
    Checkpoint, CheckpointState, EventPlace, HeldCheckpoint, Leave, LogPage, Only, Parked, ParkedAggregates,
    RecordedEvent, park,
};
pub use pool::{Server, Store};
use read::text;
pub use read::{BatchRead, StoredReceipt};
pub use retention::ReceiptPage;
pub use row::column;
pub use schema::{Applied, MigrateError, Migration, SchemaState, WrittenSchema};
pub use sequence::Sequence;
