//! Files of what was once stored, which no later program may read or write in another way without a new number.
//!
//! Such a file belongs to the tests of a domain and only grows: [`events()`] by a line for each version of an event type, [`states()`] by
//! a few for each [`STATE_SCHEMA`](crate::domain::Domain::STATE_SCHEMA), [`rows()`] and [`log_rows()`] for each version of a read model's
//! code. What a failing test tells ends with the number that is due,
//! or with the line to add.

mod events;
mod problems;
mod rows;
mod states;

pub use events::{Stored, events, stored};
pub use rows::{log_rows, rows};
pub use states::states;
