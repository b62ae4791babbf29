//! Why a batch, or a job of it, came to nothing.

use crate::store::StoreError;

/// Why jobs go back to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutBackReason {
    /// Somebody else holds a lock.
    Busy,
    /// Too few lock nodes answered.
    NoQuorum,
    /// An older job that touches the same had to go back.
    Behind,
    /// A lock that was held ran out.
    LockLost,
    /// The job touches other aggregates than was thought.
    Targets,
    /// An aggregate that the job touches has events which this program cannot read.
    Unreadable,
    /// Somebody else kept writing in between.
    Contended,
    /// The database refused the batch; smaller ones will show which job it is.
    Refused,
    /// The database cannot be used, or the broker, where the start of a job that was taken over is to be counted.
    Unavailable,
}

impl PutBackReason {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 9] = [
        Self::Busy,
        Self::NoQuorum,
        Self::Behind,
        Self::LockLost,
        Self::Targets,
        Self::Unreadable,
        Self::Contended,
        Self::Refused,
        Self::Unavailable,
    ];

    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "lock_busy",
            Self::NoQuorum => "lock_no_quorum",
            Self::Behind => "behind",
            Self::LockLost => "lock_lost",
            Self::Targets => "targets",
            Self::Unreadable => "unreadable",
            Self::Contended => "contended",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("a lock ran out")]
    LockLost,
    #[error("a batch that this one succeeds failed")]
    PredecessorAborted,
    #[error("the broker did not count the start of the jobs")]
    Uncounted,
    #[error(transparent)]
    Store(#[from] StoreError),
}
