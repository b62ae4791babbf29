//! Whose entry is it: keeping ours alive, taking over those of consumers that have gone quiet, handing ours back.
//!
//! Redis lets any consumer claim, acknowledge or hand back any pending entry. So each script here looks at the owner first,
//! in the same step: a process that was frozen and wakes takes nothing back.
//!
//! The delivery count of an entry is the number of times in a row that work on it was started and did not come to an end. A
//! read counts as the first start. Claiming does not count; the start of a claimed job does ([`Broker::set_starts`]), from when
//! it is about to be decided, and in the broker, so that the count outlives a process which the job kills. When it has been
//! decided nothing is counted against it any more.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Script, Value};

use super::read::entries;
use super::{Broker, BrokerError, LARGE_ANSWER, id_args};
use crate::job::{Entry, EntryId};

/// Claims the given entries that are ours already or have been idle for long enough, as far as they are not too heavy together:
/// the last may exceed it. An entry whose contents are gone is acknowledged: there is nothing left of it to run. Returns the
/// number of those, of each other one its contents and delivery count, and how many were looked at.
/// KEYS: stream. ARGV: group, consumer, idle time in ms, bytes, ids.
pub(super) static CLAIM: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local lost, claimed, counts, bytes, looked = 0, {}, {}, 0, 0
        for i = 5, #ARGV do
            if bytes >= tonumber(ARGV[4]) then break end
            looked = looked + 1
            local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)[1]
            if pending and (pending[2] == ARGV[2] or pending[3] >= tonumber(ARGV[3])) then
                local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
                if entry then
                    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
                    claimed[#claimed + 1] = entry
                    counts[#counts + 1] = pending[4]
                    for _, value in ipairs(entry[2]) do bytes = bytes + #value end
                else
                    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
                    lost = lost + 1
                end
            end
        end
        return {lost, claimed, counts, looked}",
    )
});

/// Sets the idle time of those entries to zero that are still ours, and returns how many there are. One that has been handed
/// back is nobody's: the signs of life and the handing back are not in step, and a late sign would take it away from the
/// peers for as long as a dead consumer's entry waits. KEYS: stream. ARGV: group, consumer, ids.
pub(super) static KEEP_ALIVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local kept = 0
        for i = 3, #ARGV do
            local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
            if mine and mine[3] < 3600000 then
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
                kept = kept + 1
            end
        end
        return kept",
    )
});

/// Sets the delivery count of those entries that are still ours to the one that is given for each. A call may be repeated,
/// since the answer to it may have been lost. KEYS: stream. ARGV: group, consumer, then id and count in turn.
pub(super) static SET_STARTS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i = 3, #ARGV, 2 do
            local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
            if mine and mine[4] ~= tonumber(ARGV[i + 1]) then
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
            end
        end
        return 0",
    )
});

/// Makes those entries claimable at once that are still ours, with the delivery count that is given for each. An idle time of
/// an hour is what tells them from entries in hand.
/// KEYS: stream. ARGV: group, consumer, then id and count in turn.
pub(super) static HAND_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local handed = 0
        for i = 3, #ARGV, 2 do
            if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 1 then
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i],
                    'IDLE', 3600000, 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
                handed = handed + 1
            end
        end
        return handed",
    )
});

/// Removes consumers that hold nothing and have been idle for long: deleting one with pending entries would lose them.
/// KEYS: stream. ARGV: group, idle time in ms, a consumer to be removed however short its idle time.
pub(super) static REMOVE_CONSUMERS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local removed = 0
        for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
            local consumer = {}
            for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
            local gone = consumer.idle >= tonumber(ARGV[2]) or consumer.name == ARGV[3]
            if consumer.pending == 0 and gone then
                redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
                removed = removed + 1
            end
        end
        return removed",
    )
});

/// Entries per script call, bounded because a script stops the broker while it runs.
const ENTRIES_PER_CALL: usize = 256;

/// About how many bytes a claim may bring.
const CLAIM_BYTES: usize = 8 << 20;

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::bytes).sum()
}

/// What a claim brought.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Entries that are ours now, each with its delivery count.
    pub entries: Vec<Entry>,
    /// Pending entries whose contents somebody had deleted: lost jobs.
    pub lost: u64,
    /// Those that were not looked at, since the others are heavy enough for one call.
    pub left: Vec<EntryId>,
}

impl Broker {
    /// Ids of up to `count` pending entries of `stream`, oldest first, after `after`: with `ours` those of this consumer that
    /// cannot be on their way to it any more, else those that nobody has touched for the configured time.
    pub async fn pending(
        &self,
        stream: &str,
        ours: bool,
        after: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<EntryId>, BrokerError> {
        let claim_after = self.settings.claim_after;
        let idle = if ours { claim_after.min(DELIVERY_LIMIT) } else { claim_after };
        let mut command = redis::cmd("XPENDING");
        command.arg(stream).arg(&self.settings.group).arg("IDLE").arg(idle.as_millis() as u64);
        let from = after.map_or("-".to_owned(), |id| format!("({id}"));
        command.arg(from).arg("+").arg(count);
        if ours {
            command.arg(&*self.consumer);
        }
        let rows: Vec<(String, String, u64, u64)> = command.query_async(&mut self.connection()).await?;
        Ok(rows.iter().filter_map(|(id, ..)| id.parse().ok()).collect())
    }

    /// Claims those of `ids` that are ours already, or that nobody has touched for the configured time; all of them, unless they
    /// are too heavy together.
    pub async fn claim(&self, stream: &str, ids: &[EntryId]) -> Result<Claimed, BrokerError> {
        let mut all = Claimed::default();
        let name: Arc<str> = stream.into();
        let mut left = ids;
        while !left.is_empty() && bytes_of(&all.entries) < CLAIM_BYTES {
            let ids = &left[..left.len().min(ENTRIES_PER_CALL)];
            let mut call = CLAIM.key(stream);
            call.arg(&self.settings.group).arg(&*self.consumer).arg(self.settings.claim_after.as_millis() as u64);
            call.arg(CLAIM_BYTES - bytes_of(&all.entries)).arg(id_args(ids).collect::<Vec<_>>());
            let answer = call.invoke_async(&mut self.connection()).await;
            if answer.is_err() {
                // It may still come, and be large.
                self.retire();
            }
            let (lost, list, counts, looked): (u64, Value, Vec<u64>, usize) = answer?;
            left = &left[looked.min(left.len())..];
            all.lost += lost;
            let claimed = entries(&name, list).into_iter().zip(counts);
            let claimed = claimed.map(|(entry, deliveries)| Entry { deliveries: Some(deliveries), ..entry });
            all.entries.extend(self.told_apart(claimed.collect()).await?);
        }
        if bytes_of(&all.entries) > LARGE_ANSWER {
            self.retire();
        }
        all.left = left.to_vec();
        Ok(all)
    }

    /// Tells the broker that these entries are still being worked on. Returns how many of them are still ours.
    pub async fn keep_alive(&self, stream: &str, ids: &[EntryId]) -> Result<u64, BrokerError> {
        let mut kept = 0;
        for ids in ids.chunks(ENTRIES_PER_CALL) {
            let mut call = KEEP_ALIVE.key(stream);
            call.arg(&self.settings.group).arg(&*self.consumer);
            ids.iter().for_each(|id| {
                call.arg(id.to_string());
            });
            kept += call.invoke_async::<u64>(&mut self.connection()).await?;
        }
        Ok(kept)
    }

    /// Sets how often in a row work on each of these claimed entries was started.
    pub async fn set_starts(&self, stream: &str, entries: &[(EntryId, u64)]) -> Result<(), BrokerError> {
        self.invoke_with_counts(&SET_STARTS, stream, entries).await.map(drop)
    }

    /// Hands entries back, each with the delivery count that it shall have: another daemon's next look takes them. Returns
    /// how many were still ours.
    pub async fn hand_back(&self, stream: &str, entries: &[(EntryId, u64)]) -> Result<u64, BrokerError> {
        self.invoke_with_counts(&HAND_BACK, stream, entries).await
    }

    async fn invoke_with_counts(
        &self,
        script: &Script,
        stream: &str,
        entries: &[(EntryId, u64)],
    ) -> Result<u64, BrokerError> {
        let mut done = 0;
        for entries in entries.chunks(ENTRIES_PER_CALL) {
            let mut call = script.key(stream);
            call.arg(&self.settings.group).arg(&*self.consumer);
            entries.iter().for_each(|(id, deliveries)| {
                call.arg(id.to_string()).arg(*deliveries);
            });
            done += call.invoke_async::<u64>(&mut self.connection()).await?;
        }
        Ok(done)
    }

    /// Removes consumers of dead processes from `stream`'s group, and with `leave` this process's own. None of them holds
    /// an entry.
    pub async fn remove_consumers(&self, stream: &str, leave: bool) -> Result<u64, BrokerError> {
        let idle_ms = self.settings.claim_after.as_millis() as u64 * CONSUMER_LIFE;
        let mut call = REMOVE_CONSUMERS.key(stream);
        call.arg(&self.settings.group).arg(idle_ms).arg(if leave { &*self.consumer } else { "" });
        Ok(call.invoke_async(&mut self.connection()).await?)
    }
}

/// An entry that was assigned to this consumer so long ago is not in a reply that is being read just now. Taken up earlier, it
/// would count as a second delivery.
const DELIVERY_LIMIT: Duration = Duration::from_secs(1);

/// A consumer without entries is removed after so many times the silence after which its entries are claimed.
const CONSUMER_LIFE: u64 = 10;
