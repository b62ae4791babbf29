//! What goes, how fast, and what came of it.

use std::time::Duration;

use crate::lifecycle::{Lifecycle, Phase};
use crate::store::StoreError;
use crate::stream::BrokerError;

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Receipts of jobs that nobody will send again.
    Receipts,
    /// Dead letters that nobody has requeued.
    DeadLetters,
    /// Reply streams that nobody has deleted.
    ReplyStreams,
}

impl What {
    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receipts => "receipts",
            Self::DeadLetters => "dead_letters",
            Self::ReplyStreams => "reply_streams",
        }
    }
}

/// What a step, or a whole sweep, came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Looked at.
    pub seen: u64,
    /// Deleted, or to be deleted if this were not a dry run.
    pub deleted: u64,
    /// Old enough, and kept since the broker holds their jobs.
    pub held: u64,
}

impl Tally {
    pub(super) fn add(&mut self, step: Tally) {
        self.seen += step.seen;
        self.deleted += step.deleted;
        self.held += step.held;
    }
}

/// A sweep that came to an end before its time.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The broker could not be asked.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The database could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process drains.
    #[error("the process drains")]
    Draining,
}

/// How a sweep goes about it.
pub struct Pace {
    /// Counts, and deletes nothing.
    pub dry_run: bool,
    /// Between two steps, so that the servers have time for the jobs.
    pub pause: Duration,
    /// Its drain ends the sweep.
    pub lifecycle: Lifecycle,
    /// Is told of each step.
    pub told: Box<dyn Fn(What, Tally) + Send + Sync>,
}

impl Pace {
    pub(super) async fn step(&self, what: What, step: Tally) -> Result<(), Stopped> {
        (self.told)(what, step);
        tokio::select! {
            () = tokio::time::sleep(self.pause) => Ok(()),
            () = self.lifecycle.reached(Phase::Draining) => Err(Stopped::Draining),
        }
    }
}
