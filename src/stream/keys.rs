//! The names of the keys beside a stream, and its entries as arguments.

use crate::job::EntryId;

/// The name of the stream that holds `stream`'s dead letters.
pub fn dead_letters(stream: &str) -> String {
    format!("{stream}:dead")
}

/// The name of the hash of `stream`'s dead letters that hold later jobs.
pub(super) fn held(stream: &str) -> String {
    format!("{stream}:held")
}

/// The name of the counter of `stream`'s entries that have been run: what is neither in the stream nor counted here was
/// trimmed or deleted by somebody else.
pub fn finished(stream: &str) -> String {
    format!("{stream}:finished")
}

/// The name of the key that says whose turn it is to look for what is old.
pub(super) fn retention(stream: &str) -> String {
    format!("{stream}:retention")
}

/// The name of the sorted set that holds `stream`'s jobs that are not due.
pub fn scheduled(stream: &str) -> String {
    format!("{stream}:scheduled")
}

/// The name of the hash that says who owns `stream`.
pub fn owner(stream: &str) -> String {
    format!("{stream}:owner")
}

/// The name of the hash that lists the daemons of the fleet whose first stream is `first`.
pub(super) fn fleet(first: &str) -> String {
    format!("{first}:fleet")
}

/// The name of the hash that says why `stream`'s jobs are not started.
pub(super) fn paused(stream: &str) -> String {
    format!("{stream}:paused")
}

/// Ids as arguments of a script.
pub(super) fn id_args(ids: &[EntryId]) -> impl Iterator<Item = String> + '_ {
    ids.iter().map(EntryId::to_string)
}

/// An id as an argument of a script, or an empty text.
pub(super) fn id_or_none(id: Option<EntryId>) -> String {
    id.map_or(String::new(), |id| id.to_string())
}
