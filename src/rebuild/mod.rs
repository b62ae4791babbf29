//! Builds of read models: made while everybody writes, compared, shown, and let go.
//!
//! A build is filled from the log page by page, each with its checkpoint, and is nobody's concern until it has caught up. Then one
//! transaction holds the sequence row, writes the last events' rows and says that the build is written from now on: nobody can have
//! missed an event, and nobody commits by the old list. After that it equals the fold of the events like the one that is shown, so
//! that showing it, and going back, is another view and nothing else.

mod adopt;
mod fill;
mod finish;
mod models;
mod problem;
mod retry;
mod show;
mod verify;

pub use crate::projection::Code;
pub(crate) use adopt::strangers;
pub use adopt::{Adopted, adopt, missing, pending};
pub use fill::{Fill, Progress};
pub use finish::finish;
pub use models::Models;
pub use problem::{Problem, label};
pub use retry::retry;
pub use show::{drop_build, retire, switch};
pub use verify::{Checked, Verify};
