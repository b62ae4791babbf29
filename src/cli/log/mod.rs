//! What the log says: of a job, of an aggregate, of everything, from any moment on.

pub mod events;
mod format;
pub mod job;
mod moment;
pub mod schemas;
pub mod state;

use super::failed::Failed;
use crate::exit::Exit;

/// Type and id of an aggregate that is named like `item/pen`.
fn aggregate(text: &str) -> Result<(&str, &str), Failed> {
    text.split_once('/')
        .ok_or_else(|| Failed::new(Exit::USAGE, format!("`{text}` is not of the form AGGREGATE/ID, like item/pen")))
}
