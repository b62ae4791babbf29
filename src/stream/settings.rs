//! Names and limits of the streams.

use std::time::Duration;

/// Names and limits of the streams.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The streams to read.
    pub names: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// How long a read waits for entries.
    pub block: Duration,
    /// An entry that was silent for so long belongs to a dead consumer.
    pub claim_after: Duration,
    /// About how many outcomes a reply stream keeps.
    pub reply_length: u32,
}

/// How long the broker may take to answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
