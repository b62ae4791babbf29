//! What a probe found.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// What the broker does not let us do, or cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The command or the script.
    pub what: String,
    /// The keys, or none.
    pub keys: Vec<String>,
    /// What is missing.
    pub lack: Lack,
    /// The broker's answer.
    pub answer: String,
}

/// What is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A right of our account.
    Right,
    /// The server is not one that can do it, or the key is not what it should be.
    Ability,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = if self.keys.is_empty() { String::new() } else { format!(" on {}", self.keys.join(", ")) };
        write!(f, "{}{on}: {}", self.what, self.answer)
    }
}

/// What the last probe found, and whether something has been refused since. Clones share it.
#[derive(Clone, Debug, Default)]
pub(in crate::stream) struct Probed {
    pub(super) found: Arc<Mutex<Vec<Finding>>>,
    pub(super) in_doubt: Arc<AtomicBool>,
}
