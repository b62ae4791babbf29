//! Read models: written in the transaction of the events they come from, or read from the log later.
//!
//! A projection turns what a batch changed into statements; the store sends them in the batch's own transaction, before
//! the events. So a read model always equals the fold of the events, and no reader sees one without the other.
//!
//! A log projection is about what happened when, across aggregates: sales per day. It reads the log in order, page by page, each with
//! its checkpoint in one transaction, so its rows are at any moment those of all events up to the checkpoint. One that is added to an
//! old log begins with the first event.
//!
//! Whose tables are [described](Table) can be filled anew at any time: each filling is a build, with tables and a number of its own, and
//! the plain name is a view that shows one of them.

mod builds;
mod code;
mod inline;
mod log;
mod state;
mod table;
mod write;

pub use crate::store::Migration;
pub use crate::store::sql::Sql;
pub(crate) use builds::{Written, next_build, read_from_log, shown};
#[doc(hidden)]
pub use code::{Code, Source};
pub use inline::{Change, Projection};
pub use log::{Happened, LogProjection};
pub use state::{Rows, StateProjection, Touches, Value};
pub(crate) use table::shape;
pub use table::{Column, Table};

#[cfg(test)]
mod tests;
