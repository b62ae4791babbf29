//! How the broker refuses.

use redis::RedisError;

use super::trouble::Trouble;

/// The broker could not be asked, or refused.
#[derive(Debug, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct BrokerError(#[from] RedisError);

impl BrokerError {
    /// True when a stream or its group is gone, which [`Broker::ensure_groups`](super::Broker::ensure_groups) mends.
    pub fn is_group_gone(&self) -> bool {
        Trouble::of(&self.0) == Trouble::GroupGone
    }

    /// True when the broker refuses a key, a command or an argument of the call, and may well do others: what shares the call
    /// with it is better tried apart.
    pub fn is_about_keys(&self) -> bool {
        let is_refused = matches!(Trouble::of(&self.0), Trouble::Forbidden | Trouble::Refused);
        is_refused && self.0.code().is_some_and(|code| !matches!(code, "OOM" | "BUSY"))
    }

    /// The kind of trouble in a word, of which there are few.
    pub fn cause(&self) -> &'static str {
        Trouble::of(&self.0).as_str()
    }

    /// True when the broker says no to our name, password or rights; waiting does not help.
    pub fn is_denied(&self) -> bool {
        matches!(Trouble::of(&self.0), Trouble::LoggedOut | Trouble::Forbidden)
    }
}
