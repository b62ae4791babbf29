//! What the broker can tell about a stream.

use std::collections::HashMap;
use std::sync::LazyLock;

use redis::{FromRedisValue, Script, Value};
use uuid::Uuid;

use super::lineage::{OF_STREAM, lineage};
use super::{Broker, BrokerError, dead_letters, finished, scheduled};
use crate::job::{EntryId, age_ms};
use crate::metrics::QueueSample;

/// Entries that are gone from the stream without having been run, since the last time that anyone asked: all that were ever
/// added, less those that are there and those that were run. A count that does not fit comes from an earlier stream of the
/// same name; then it starts anew. Redis before 7.0 does not tell how many were added.
/// KEYS: stream, lineage, finished. ARGV: a fresh lineage, or nothing to change nothing.
pub(super) static LOST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{OF_STREAM}
        if ARGV[1] == '' or redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
        local _, gone = lineage_of(ARGV[1])
        if not gone then return 0 end
        local lost = gone - tonumber(redis.call('GET', KEYS[3]) or gone)
        redis.call('SET', KEYS[3], gone)
        return lost"
    ))
});

/// Length, dead letters, schedule, clock, groups, pending entries.
type Answers = (u64, u64, u64, (u64, u64), Vec<HashMap<String, Value>>, Pending);

/// How many entries are pending, the first and the last of them, and whose they are.
type Pending = (u64, Option<String>, Option<String>, Value);

impl Broker {
    /// How many entries of `stream` have been trimmed or deleted unrun since anyone asked before. Each is told once.
    pub async fn lost(&self, stream: &str) -> Result<u64, BrokerError> {
        let mut call = LOST.key(stream);
        call.key(lineage(stream)).key(finished(stream)).arg(Uuid::new_v4().to_string());
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
        let first_due = self.due(stream, false).await?;
        let now_ms = time.0 * 1000 + time.1 / 1000;
        let age_of = |id: &str| age_ms(id.parse::<EntryId>().ok()?.ms, now_ms);
        let ours =
            groups.into_iter().find(|group| name(group) == Some(self.settings.group.clone())).unwrap_or_default();
        // A nil lag means that the broker cannot tell, and nil does not convert to a number.
        let lag = ours.get("lag").and_then(|lag| u64::from_redis_value(lag.clone()).ok());
        let delivered = ours.get("last-delivered-id").and_then(|id| String::from_redis_value(id.clone()).ok());
        let undelivered_age_ms = match delivered {
            Some(delivered) => self.first_after(stream, &delivered).await?.map_or(Some(0), |id| age_of(&id)),
            None => Some(0),
        };
        Ok(QueueSample {
            length,
            lag,
            pending: pending.0,
            dead_letters,
            scheduled,
            undelivered_age_ms,
            pending_age_ms: pending.1.map_or(Some(0), |id| age_of(&id)),
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
