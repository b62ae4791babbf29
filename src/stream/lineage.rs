//! Which stream it is: what makes the ids of its entries its own.
//!
//! An entry's id is unique in its stream and nowhere else: another broker, or a stream that was deleted and made again, may give
//! it to another entry, since producers may set ids, and clocks go back. So each stream gets a lineage when it is first seen, and a
//! job without an id gets one that is made of it.

use std::sync::{Arc, LazyLock};

use redis::{ErrorKind, RedisError, Script};
use uuid::Uuid;

use super::connection::Broker;
use super::connection::BrokerError;
use super::keys::finished;
use crate::job::{Entry, EntryId, Lineage};

/// The name of the key that holds the lineage of `stream`, and the id of the last entry from before it had one.
pub(super) fn lineage(stream: &str) -> String {
    format!("{stream}:lineage")
}

/// A function that returns the lineage as it is stored, made of `fresh` when there is none, and how many entries are gone from the
/// stream, where the broker can tell (Redis 7.0 or newer). A stream that is not there, or that fewer entries are gone from than
/// were run, is another one than before: it gets a new lineage, and what was run is counted anew. Entries of a stream that had its
/// jobs run before it had a lineage keep the ids that they had: their jobs may be in hand.
/// KEYS: stream, lineage, finished.
pub(super) const OF_STREAM: &str = r"
    local function lineage_of(fresh)
        local known, finished = redis.pcall('GET', KEYS[2]), redis.call('GET', KEYS[3])
        if type(known) ~= 'string' or not string.match(known, '^[%x-]+ %d+%-%d+$') then known = false end
        local is_same, since, gone = redis.call('EXISTS', KEYS[1]) == 1, '0-0', false
        if is_same then
            local info, stream = redis.call('XINFO', 'STREAM', KEYS[1]), {}
            for i = 1, #info, 2 do stream[info[i]] = info[i + 1] end
            if stream['entries-added'] then
                gone = stream['entries-added'] - stream['length']
                is_same = gone >= tonumber(finished or 0)
            end
            if is_same and finished and not known then since = stream['last-generated-id'] end
        end
        if is_same and known then return known, gone end
        if finished and not is_same then redis.call('SET', KEYS[3], gone or 0) end
        known = fresh .. ' ' .. since
        redis.call('SET', KEYS[2], known)
        return known, gone
    end";

/// The lineage of a stream. KEYS: stream, lineage, finished. ARGV: a fresh one, or nothing to change nothing.
pub(super) static ASK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{OF_STREAM}
        if ARGV[1] == '' then return '' end
        return (lineage_of(ARGV[1]))"
    ))
});

/// Makes the group of a stream, and the stream, with its lineage: in one step, so that no entry can be read without one. A group
/// starts at 0: at `$` it would skip every job that was added before it. Returns 1, or 0 when it is there already.
/// KEYS: stream, lineage, finished. ARGV: group, a fresh lineage, or nothing to change nothing.
pub(super) static MAKE_GROUP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{OF_STREAM}
        if ARGV[2] == '' then return 0 end
        lineage_of(ARGV[2])
        local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
        if not made.err then return 1 end
        if string.find(made.err, 'BUSYGROUP', 1, true) then return 0 end
        return made"
    ))
});

/// The lineage of the entries after one, and that one.
fn parse(stored: &str) -> Option<(Lineage, EntryId)> {
    let (lineage, since) = stored.split_once(' ')?;
    Some((Lineage(Some(lineage.parse().ok()?)), since.parse().ok()?))
}

impl Broker {
    /// Makes the group of `stream`, and the stream itself; returns whether it was missing.
    pub(super) async fn make_group(&self, stream: &str) -> Result<bool, BrokerError> {
        let mut call = MAKE_GROUP.key(stream);
        call.key(lineage(stream)).key(finished(stream)).arg(&self.settings.group).arg(Uuid::new_v4().to_string());
        Ok(call.invoke_async::<u8>(&mut self.connection()).await? == 1)
    }

    /// The same as [`Broker::with_lineage`], for entries that are to be run: when the broker keeps lineages from us, those that need
    /// one are left out. They stay pending, and hold up no other.
    pub(super) async fn told_apart(&self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, BrokerError> {
        match self.with_lineage(&mut entries).await {
            Err(error) if error.is_about_keys() => {
                self.doubt();
                tracing::warn!(%error, "jobs to which their producer gave no id cannot be told apart; they wait");
                entries.retain(Entry::is_named);
                Ok(entries)
            }
            done => done.map(|()| entries),
        }
    }

    /// Gives those entries their lineage whose jobs have no id of their producer's. The others cost nothing.
    pub(super) async fn with_lineage(&self, entries: &mut [Entry]) -> Result<(), BrokerError> {
        let mut known: Option<(Arc<str>, (Lineage, EntryId))> = None;
        for entry in entries.iter_mut().filter(|entry| !entry.is_named()) {
            let (lineage, since) = match &known {
                Some((stream, lineage)) if *stream == entry.stream => *lineage,
                _ => known.insert((entry.stream.clone(), self.lineage_of(&entry.stream).await?)).1,
            };
            if entry.id > since {
                entry.lineage = lineage;
            }
        }
        Ok(())
    }

    async fn lineage_of(&self, stream: &str) -> Result<(Lineage, EntryId), BrokerError> {
        let mut call = ASK.key(stream);
        call.key(lineage(stream)).key(finished(stream)).arg(Uuid::new_v4().to_string());
        let stored: String = call.invoke_async(&mut self.connection()).await?;
        let no_lineage = || RedisError::from((ErrorKind::UnexpectedReturnType, "no lineage", stored.clone()));
        Ok(parse(&stored).ok_or_else(no_lineage)?)
    }
}
