//! Why a page came to nothing.

use crate::store::StoreError;

/// Why a page is not committed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The database did not take it, or could not be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log has no event at this position, and has some behind it.
    #[error("the log has no event at position {0}, and has some behind it")]
    Gap(u64),
    /// A newer program wrote the event at this position.
    #[error("position {0} is {1} v{2}, which a newer program has written")]
    Newer(u64, String, u16),
    /// An event of this page cannot be read, or the projection's code fails on it.
    #[error("position {position}: {problem}")]
    Poison {
        /// Where; of several, the first.
        position: u64,
        /// What is wrong.
        problem: String,
    },
}
