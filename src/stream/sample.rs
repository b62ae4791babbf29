//! What the broker can tell about a stream.

use std::collections::HashMap;
use std::sync::LazyLock;

use redis::{FromRedisValue, RedisError, RedisResult, Script, Value};
use uuid::Uuid;

use super::connection::Broker;
use super::connection::BrokerError;
use super::keys::{dead_letters, finished, scheduled};
use super::lineage::{OF_STREAM, lineage};
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

/// How many entries are pending, the first and the last of them, and whose they are.
type Pending = (u64, Option<String>, Option<String>, Value);

/// An answer among others. What is refused is unknown, and stops none of the others; all else is an error of all.
fn known<T: FromRedisValue>(answer: Option<RedisResult<Value>>) -> Result<Option<T>, BrokerError> {
    match answer {
        Some(Ok(answer)) => Ok(Some(redis::from_redis_value(answer).map_err(RedisError::from)?)),
        Some(Err(error)) => {
            let error = BrokerError::from(error);
            if error.is_about_keys() || error.is_group_gone() { Ok(None) } else { Err(error) }
        }
        None => Ok(None),
    }
}

impl Broker {
    /// Whether none of these streams has an entry.
    pub async fn are_empty(&self, streams: &[String]) -> Result<bool, BrokerError> {
        let mut pipeline = redis::pipe();
        streams.iter().for_each(|stream| {
            pipeline.cmd("XLEN").arg(stream);
        });
        let lengths: Vec<u64> = pipeline.query_async(&mut self.connection()).await?;
        Ok(lengths.iter().all(|length| *length == 0))
    }

    /// How many entries of `stream` have been trimmed or deleted unrun since anyone asked before. Each is told once.
    pub async fn lost(&self, stream: &str) -> Result<u64, BrokerError> {
        let mut call = LOST.key(stream);
        call.key(lineage(stream)).key(finished(stream)).arg(Uuid::new_v4().to_string());
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// Lengths, counts and ages of one stream, its schedule and its dead letters; `None` is what the broker does not tell.
    pub async fn sample(&self, stream: &str) -> Result<QueueSample, BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME").cmd("XLEN").arg(stream).cmd("XLEN").arg(dead_letters(stream));
        pipeline.cmd("ZCARD").arg(scheduled(stream)).cmd("XINFO").arg("GROUPS").arg(stream);
        pipeline.cmd("XPENDING").arg(stream).arg(&self.settings.group);
        let answers: Vec<RedisResult<Value>> = pipeline.ignore_errors().query_async(&mut self.connection()).await?;
        let mut answers = answers.into_iter();
        let time: Option<(u64, u64)> = known(answers.next())?;
        let length: Option<u64> = known(answers.next())?;
        let (dead_letters, scheduled) = (known(answers.next())?, known(answers.next())?);
        let groups: Option<Vec<HashMap<String, Value>>> = known(answers.next())?;
        let pending: Option<Pending> = known(answers.next())?;
        let first_due = match self.due(stream, false).await {
            Err(error) if error.is_about_keys() => None,
            due => Some(due?),
        };
        let now_ms = time.map(|(seconds, micros)| seconds * 1000 + micros / 1000);
        let age_of = |id: &str| age_ms(id.parse::<EntryId>().ok()?.ms, now_ms?);
        let of_group = |group: &HashMap<String, Value>| name(group) == Some(self.settings.group.clone());
        let ours = groups.map(|groups| groups.into_iter().find(of_group).unwrap_or_default());
        let told = |field: &str| ours.as_ref().and_then(|ours| ours.get(field)).cloned();
        // A nil lag means that the broker cannot tell, and nil does not convert to a number.
        let lag = told("lag").and_then(|lag| u64::from_redis_value(lag).ok());
        // What was delivered and is there is pending: its owner sees to that. So what is not pending was not delivered.
        let lag = lag.or_else(|| length?.checked_sub(pending.as_ref()?.0));
        let undelivered_age_ms = match told("last-delivered-id").and_then(|id| String::from_redis_value(id).ok()) {
            Some(delivered) => self.first_after(stream, &delivered).await?.map_or(Some(0), |id| age_of(&id)),
            None => ours.as_ref().map(|_| 0),
        };
        let pending_age_ms =
            pending.as_ref().and_then(|(_, first, ..)| first.as_ref().map_or(Some(0), |id| age_of(id)));
        Ok(QueueSample {
            length,
            lag,
            pending: pending.map(|(count, ..)| count),
            dead_letters,
            scheduled,
            undelivered_age_ms,
            pending_age_ms,
            overdue_ms: first_due.map(|due| due.map_or(0, |due| now_ms.unwrap_or(due).saturating_sub(due))),
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
