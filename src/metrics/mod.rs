//! The only place that spells a metric: names, help and buckets in `families`, labels and a typed function for each thing
//! that happens here.
//!
//! Label values come from closed sets: configured queue names, registered job and event types, enums. An aggregate's id, a
//! job's id or the text of an error is never a label.

mod families;
mod fleet;
mod jobs;
mod lock;
mod process;
mod queue;
mod registry;
mod retention;
mod running;
mod store;
mod subscription;

pub use families::{FAMILIES, Family, Kind, Unit};
pub use fleet::{Released, TakenFrom, Taking};
pub use jobs::{EndedJob, OutcomeLabel};
pub use lock::{Extension, LockLoss, NodeState};
pub use process::{Asked, DrainOutcome, Stalled, State};
pub use queue::{QueueSample, Source};
pub use registry::{Known, Metrics};
pub use running::InFlight;
pub use subscription::PageOutcome;
