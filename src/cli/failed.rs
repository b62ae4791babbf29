//! How a command fails.

use crate::daemon::StartError;
use crate::exit::Exit;
use crate::store::{MigrateError, StoreError};
use crate::stream::BrokerError;

/// A command that failed: what to print, and the exit code.
#[derive(Debug)]
pub struct Failed {
    pub(super) code: u8,
    pub(super) text: String,
}

impl Failed {
    /// Fails with this code and text.
    pub fn new(code: u8, text: impl ToString) -> Self {
        Self { code, text: text.to_string() }
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::Unavailable(_) => Exit::UNAVAILABLE,
            StartError::Denied(_) => Exit::DENIED,
            StartError::Refused(_) => Exit::CONFIG,
        };
        Self::new(code, error)
    }
}

impl From<MigrateError> for Failed {
    fn from(error: MigrateError) -> Self {
        StartError::from(error).into()
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        StartError::from(error).into()
    }
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Self {
        StartError::from(error).into()
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
