//! The group's stream as a log: all that it has delivered and not finished, in the order of the ids, whoever it was delivered to.
//!
//! The group knows of each entry that it has passed by who has it, and nothing of what it owes: an entry that somebody else
//! acknowledged, or that it was set past, is on no list. So whoever begins to read goes through the stream itself up to the last id
//! that was delivered, makes all of that its own, and goes on with what was not delivered yet.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use redis::{Script, Value};

use super::consumers::OWNERS;
use super::read::entries;
use crate::job::{Entry, EntryId};
use crate::stream::connection::{Broker, BrokerError, LARGE_ANSWER};
use crate::stream::keys::id_args;

/// What the group says of itself, for the scripts here. KEYS: stream. ARGV: group.
const GROUP: &str = r"
    local group
    if redis.call('EXISTS', KEYS[1]) == 1 then
        for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
            local one = {}
            for i = 1, #info, 2 do one[info[i]] = info[i + 1] end
            if one.name == ARGV[1] then group = one end
        end
    end
    if not group then return redis.error_reply('NOGROUP the stream or its group is gone') end";

/// Ids of the entries that the group has passed by and that are still there, oldest first. Their contents stay in the broker.
/// Returns them, and whether there are no more. KEYS: stream. ARGV: group, entry to begin after or an empty text, the most ids.
pub(in crate::stream) static DELIVERED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{GROUP}
        local from, last = ARGV[2] == '' and '-' or '(' .. ARGV[2], group['last-delivered-id']
        local ids, bytes = {{}}, 0
        while #ids < tonumber(ARGV[3]) and bytes < 1048576 do
            local entry = redis.call('XRANGE', KEYS[1], from, last, 'COUNT', 1)[1]
            if not entry then return {{ids, 1}} end
            for _, value in ipairs(entry[2]) do bytes = bytes + #value end
            ids[#ids + 1] = entry[1]
            from = '(' .. entry[1]
        end
        return {{ids, 0}}"
    ))
});

/// Makes the given entries this consumer's, whoever had them, or nobody, as far as they are not too heavy together: the last may
/// exceed it. One whose contents are gone is acknowledged: there is nothing left of it to run. Returns the number of those, and of
/// those that no list had; of each other one its contents, delivery count and former consumer; and how many were looked at.
/// KEYS: stream. ARGV: group, consumer, bytes, ids.
pub(in crate::stream) static SEIZE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local lost, orphaned, seized, counts, holders, bytes, looked = 0, 0, {}, {}, {}, 0, 0
        for i = 4, #ARGV do
            if bytes >= tonumber(ARGV[3]) then break end
            looked = looked + 1
            local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
            if entry then
                local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
                local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID'}
                if not pending then
                    orphaned = orphaned + 1
                    claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', 0, 'FORCE', 'JUSTID'}
                end
                redis.call(unpack(claim))
                seized[#seized + 1] = entry
                counts[#counts + 1] = pending and pending[4] or 0
                holders[#holders + 1] = pending and pending[2] or ''
                for _, value in ipairs(entry[2]) do bytes = bytes + #value end
            else
                lost = lost + redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
            end
        end
        return {lost, orphaned, seized, counts, holders, looked}",
    )
});

/// Acknowledges entries that are pending and not in the stream any more, oldest first: there is nothing left of them to run.
/// Returns how many there were, and where to go on, or an empty text at the end.
/// KEYS: stream. ARGV: group, entry to begin after or an empty text, the most pending ones to look at.
pub(in crate::stream) static EXORCISE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local from, lost = ARGV[2] == '' and '-' or '(' .. ARGV[2], 0
        local rows = redis.call('XPENDING', KEYS[1], ARGV[1], from, '+', ARGV[3])
        for _, row in ipairs(rows) do
            if #redis.call('XRANGE', KEYS[1], row[1], row[1]) == 0 then
                lost = lost + redis.call('XACK', KEYS[1], ARGV[1], row[1])
            end
        end
        return {lost, (#rows == 0 or #rows < tonumber(ARGV[3])) and '' or rows[#rows][1]}",
    )
});

/// What can be said of a stream and its group at one moment: the first entry, unless it was not delivered yet; how many of the
/// entries that are there were delivered, where the broker can tell the lag, else -1; and how many are pending.
/// KEYS: stream. ARGV: group.
pub(in crate::stream) static SURVEY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{GROUP}
        local first = redis.call('XRANGE', KEYS[1], '-', group['last-delivered-id'], 'COUNT', 1)[1]
        return {{first and first[1] or '', group.lag and redis.call('XLEN', KEYS[1]) - group.lag or -1, group.pending}}"
    ))
});

/// Entries per script call, bounded because a script stops the broker while it runs.
const ENTRIES_PER_CALL: usize = 256;

/// About how many bytes one call of [`Broker::seize`] may bring.
const SEIZED_BYTES: usize = 8 << 20;

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::bytes).sum()
}

/// What [`Broker::seize`] brought.
#[derive(Debug, Default)]
pub struct Seized {
    /// Entries that are ours now, each with its delivery count.
    pub entries: Vec<Entry>,
    /// Those of them that no daemon of this version had.
    pub foreign: BTreeSet<EntryId>,
    /// Entries that were pending and whose contents somebody had deleted: lost jobs.
    pub lost: u64,
    /// How many of the entries no list had.
    pub orphaned: u64,
    /// Those that were not looked at, since the others are heavy enough for one call.
    pub left: Vec<EntryId>,
}

/// What a stream and its group look like at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Survey {
    /// The first entry, unless it was not delivered yet.
    pub first: Option<EntryId>,
    /// How many of the entries that are there were delivered; `None` where the broker cannot tell.
    pub delivered: Option<u64>,
    /// How many are pending, of whatever consumer.
    pub pending: u64,
}

impl Broker {
    /// Ids of entries of `stream` that the group has passed by and that are there, oldest first, after `after`; and whether those
    /// are all.
    pub async fn delivered(&self, stream: &str, after: Option<EntryId>) -> Result<(Vec<EntryId>, bool), BrokerError> {
        let mut call = DELIVERED.key(stream);
        let after = after.map_or(String::new(), |id| id.to_string());
        call.arg(&self.settings.group).arg(after).arg(ENTRIES_PER_CALL);
        let (ids, is_last): (Vec<String>, u8) = call.invoke_async(&mut self.connection()).await?;
        Ok((ids.iter().filter_map(|id| id.parse().ok()).collect(), is_last == 1))
    }

    /// Ids of the entries of `stream` that are pending, whoever has them, oldest first, after the one id and until the other; fewer
    /// than `count` at the end.
    pub async fn pending(
        &self,
        stream: &str,
        (after, until): (Option<EntryId>, EntryId),
        count: usize,
    ) -> Result<Vec<EntryId>, BrokerError> {
        let mut command = redis::cmd("XPENDING");
        let from = after.map_or("-".to_owned(), |id| format!("({id}"));
        command.arg(stream).arg(&self.settings.group).arg(from).arg(until.to_string()).arg(count);
        let rows: Vec<(String, String, u64, u64)> = command.query_async(&mut self.connection()).await?;
        Ok(rows.iter().filter_map(|(id, ..)| id.parse().ok()).collect())
    }

    /// Makes these entries this consumer's, whoever had them; all of them, unless they are too heavy together.
    pub async fn seize(&self, stream: &str, ids: &[EntryId]) -> Result<Seized, BrokerError> {
        let mut all = Seized::default();
        let name: Arc<str> = stream.into();
        let mut left = ids;
        while !left.is_empty() && bytes_of(&all.entries) < SEIZED_BYTES {
            let ids = &left[..left.len().min(ENTRIES_PER_CALL)];
            let mut call = SEIZE.key(stream);
            call.arg(&self.settings.group).arg(&*self.consumer).arg(SEIZED_BYTES - bytes_of(&all.entries));
            let answer = call.arg(id_args(ids).collect::<Vec<_>>()).invoke_async(&mut self.connection()).await;
            if answer.is_err() {
                // It may still come, and be large.
                self.retire();
            }
            let (lost, orphaned, list, counts, holders, looked): (u64, u64, Value, Vec<u64>, Vec<String>, usize) =
                answer?;
            left = &left[looked.min(left.len())..];
            all.lost += lost;
            all.orphaned += orphaned;
            let seized = entries(&name, list).into_iter().zip(counts);
            let seized = seized.map(|(entry, deliveries)| Entry { deliveries: Some(deliveries), ..entry });
            let seized: Vec<Entry> = seized.collect();
            let foreign = seized.iter().zip(&holders).filter(|(_, holder)| !holder.starts_with(OWNERS));
            all.foreign.extend(foreign.map(|(entry, _)| entry.id));
            all.entries.extend(self.told_apart(seized).await?);
        }
        if bytes_of(&all.entries) > LARGE_ANSWER {
            self.retire();
        }
        all.left = left.to_vec();
        Ok(all)
    }

    /// Acknowledges what is pending in `stream` and not there any more, and returns how many entries that was: lost jobs.
    pub async fn exorcise(&self, stream: &str) -> Result<u64, BrokerError> {
        let (mut lost, mut after) = (0, String::new());
        loop {
            let mut call = EXORCISE.key(stream);
            call.arg(&self.settings.group).arg(&after).arg(ENTRIES_PER_CALL);
            let (found, next): (u64, String) = call.invoke_async(&mut self.connection()).await?;
            (lost, after) = (lost + found, next);
            if after.is_empty() {
                return Ok(lost);
            }
        }
    }

    /// What `stream` and its group look like now.
    pub async fn survey(&self, stream: &str) -> Result<Survey, BrokerError> {
        let mut call = SURVEY.key(stream);
        let answer = call.arg(&self.settings.group).invoke_async(&mut self.connection()).await?;
        let (first, delivered, pending): (String, i64, u64) = answer;
        Ok(Survey { first: first.parse().ok(), delivered: u64::try_from(delivered).ok(), pending })
    }
}

impl Survey {
    /// Whether something was delivered that is not among the entries in hand, as they were when the broker was asked.
    pub fn exceeds(&self, hand: &BTreeSet<EntryId>) -> bool {
        let most = hand.len() as u64;
        self.first.is_some_and(|first| !hand.contains(&first))
            || self.delivered.is_some_and(|delivered| delivered > most)
            || self.pending > most
    }
}
