//! What goes wrong, and what builds are called.

use crate::page;
use crate::store::{Build, StoreError};

/// Why something about a build came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A page of the log did not.
    #[error(transparent)]
    Page(#[from] page::Failure),
    /// It is not to be done, and the text says why.
    #[error("{0}")]
    Refused(String),
}

impl Problem {
    pub(super) fn refused(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }
}

/// `items@2`.
pub fn label(build: &Build) -> String {
    format!("{}@{}", build.name, build.build)
}
