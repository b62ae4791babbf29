//! Deciding ahead of the commit.
//!
//! The database runs one transaction after the other, each behind the sequence row; deciding takes as long again. So a batch that is
//! decided is announced as *prepared*, before the database has answered, and the next one on the same aggregates decides on its
//! result. Whether that result comes to be is part of the next one's append condition, so nothing is committed on what failed.
//!
//! ```text
//!            decide          send, in the order of preparation        answer
//! batch 1   ────────▶ prepared ───────▶ sequenced ───────▶ committed
//!                        │ states, versions, condition         │
//! batch 2                └──▶ decide ───────▶ prepared ────────┴──▶ sequenced ──▶ committed
//!                                                              │
//!                                    1 aborted ────────────────┘  then 2 is aborted too, and decided again
//! ```
//!
//! - [`PreparedBatch`] is the handle that successors hold: results, condition, and how far the commit is. Its other end is the
//!   `CommitResolver`; when that is dropped without a word, the batch is aborted.
//! - `PipelineSlot` is a running batch's own view: its predecessors, and its one announcement.
//! - [`LockTable`] counts per batch which locks this process holds, so that a successor needs none of its own. It is locked before
//!   any lease inside, never after.
//! - [`PositionPredictor`] says at which position the next transaction begins, so that positions are sent as numbers. A wrong
//!   prediction is refused by the database, and costs one repetition.
//! - [`CommittedHead`] is the newest position that is known to be committed; a database that is behind it has lost commits.

mod head;
mod lock_table;
mod position;
mod prepared;
mod slot;

pub use head::CommittedHead;
pub use lock_table::LockTable;
pub(in crate::batch) use lock_table::lock_key;
pub use position::PositionPredictor;
pub(in crate::batch) use prepared::{CommitResolver, StatesAfter};
pub use prepared::{Prepared, PreparedBatch, PreparedSender};
pub(in crate::batch) use slot::PipelineSlot;
