//! What the broker can tell about a stream.

use std::collections::HashMap;
use std::sync::LazyLock;

use redis::{FromRedisValue, Script, Value};

use super::{Broker, BrokerError, dead_letters, finished, scheduled};
use crate::job::EntryId;
use crate::metrics::QueueSample;

/// Entries that are gone from the stream without having been run, since the last time that anyone asked: all that were ever
/// added, less those that are there and those that were run. A count that does not fit comes from an earlier stream of the
/// same name, or from the time before there was one; then it starts anew. Redis before 7.0 does not tell how many were added.
/// KEYS: stream, finished. ARGV: anything, to ask and change nothing.
pub(super) static LOST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if ARGV[1] or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
        local info, stream = redis.call('XINFO', 'STREAM', KEYS[1]), {}
        for i = 1, #info, 2 do stream[info[i]] = info[i + 1] end
        if not stream['entries-added'] then return 0 end
        local gone = stream['entries-added'] - stream['length']
        local lost = gone - tonumber(redis.call('GET', KEYS[2]) or gone)
        redis.call('SET', KEYS[2], gone)
        return math.max(lost, 0)",
    )
});

/// Length, dead letters, schedule, clock, groups, pending entries.
type Answers = (u64, u64, u64, (u64, u64), Vec<HashMap<String, Value>>, Pending);

/// How many entries are pending, the first and the last of them, and whose they are.
type Pending = (u64, Option<String>, Option<String>, Value);

impl Broker {
    /// How many entries of `stream` have been trimmed or deleted unrun since anyone asked before. Each is told once.
    pub async fn lost(&self, stream: &str) -> Result<u64, BrokerError> {
        let mut call = LOST.key(stream);
        call.key(finished(stream));
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// Lengths, counts and ages of one stream, its schedule and its dead letters.
    pub async fn sample(&self, stream: &str) -> Result<QueueSample, BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XLEN").arg(stream).cmd("XLEN").arg(dead_letters(stream)).cmd("ZCARD").arg(scheduled(stream));
        pipeline.cmd("TIME").cmd("XINFO").arg("GROUPS").arg(stream);
        pipeline.cmd("XPENDING").arg(stream).arg(&self.settings.group);
        let (length, dead_letters, scheduled, time, groups, pending): Answers =
            pipeline.query_async(&mut self.connection()).await?;
        let first_due = self.due(stream, 0).await?;
        let now_ms = time.0 * 1000 + time.1 / 1000;
        let age_ms = |id: &str| id.parse().map_or(0, |id: EntryId| now_ms.saturating_sub(id.ms));
        let ours =
            groups.into_iter().find(|group| name(group) == Some(self.settings.group.clone())).unwrap_or_default();
        // A nil lag means that the broker cannot tell, and nil does not convert to a number.
        let lag = ours.get("lag").and_then(|lag| u64::from_redis_value(lag.clone()).ok());
        let delivered = ours.get("last-delivered-id").and_then(|id| String::from_redis_value(id.clone()).ok());
        let undelivered_age_ms = match delivered {
            Some(delivered) => self.first_after(stream, &delivered).await?.map_or(0, |id| age_ms(&id)),
            None => 0,
        };
        Ok(QueueSample {
            length,
            lag,
            pending: pending.0,
            dead_letters,
            scheduled,
            undelivered_age_ms,
            pending_age_ms: pending.1.map_or(0, |id| age_ms(&id)),
            overdue_ms: first_due.map_or(0, |due| now_ms.saturating_sub(due)),
        })
    }

    /// The id of the first entry after `id`, when there is one.
    async fn first_after(&self, stream: &str, id: &str) -> Result<Option<String>, BrokerError> {
        // Its contents may be large, and nobody wants them.
        let first = self.page(stream, &stream.into(), (&format!("({id}"), "+"), 1, &[]).await?;
        Ok(first.first().map(|entry| entry.id.to_string()))
    }

    /// Names of other groups on `stream`, which is a mistake: what this daemon acknowledges it deletes.
    pub async fn other_groups(&self, stream: &str) -> Result<Vec<String>, BrokerError> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(stream);
        match command.query_async::<Vec<HashMap<String, Value>>>(&mut self.connection()).await {
            Ok(groups) => Ok(groups.iter().filter_map(name).filter(|name| *name != self.settings.group).collect()),
            // No stream, no groups.
            Err(error) if error.code() == Some("ERR") => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

fn name(group: &HashMap<String, Value>) -> Option<String> {
    String::from_redis_value(group.get("name")?.clone()).ok()
}
