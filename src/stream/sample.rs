//! What the broker can tell about a stream.

use std::collections::HashMap;
use std::sync::LazyLock;

use redis::{FromRedisValue, Script, Value};

use super::{Broker, BrokerError, dead_letters, finished};
use crate::metrics::QueueSample;

/// Entries that are gone from the stream without having been run, since the last time that anyone asked: all that were ever
/// added, less those that are there and those that were run. A count that does not fit comes from an earlier stream of the
/// same name, or from the time before there was one; then it starts anew. Redis before 7.0 does not tell how many were added.
/// KEYS: stream, finished.
static LOST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
        local info, stream = redis.call('XINFO', 'STREAM', KEYS[1]), {}
        for i = 1, #info, 2 do stream[info[i]] = info[i + 1] end
        if not stream['entries-added'] then return 0 end
        local gone = stream['entries-added'] - stream['length']
        local lost = gone - tonumber(redis.call('GET', KEYS[2]) or gone)
        redis.call('SET', KEYS[2], gone)
        return math.max(lost, 0)",
    )
});

impl Broker {
    /// How many entries of `stream` have been trimmed or deleted unrun since anyone asked before. Each is told once.
    pub async fn lost(&self, stream: &str) -> Result<u64, BrokerError> {
        let mut call = LOST.key(stream);
        call.key(finished(stream));
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// Lengths and counts of one stream and its dead letters.
    pub async fn sample(&self, stream: &str) -> Result<QueueSample, BrokerError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XLEN").arg(stream).cmd("XLEN").arg(dead_letters(stream));
        pipeline.cmd("XINFO").arg("GROUPS").arg(stream);
        let (length, dead_letters, groups): (u64, u64, Vec<HashMap<String, Value>>) =
            pipeline.query_async(&mut self.connection()).await?;
        let ours = groups.into_iter().find(|group| name(group) == Some(self.settings.group.clone()));
        let number = |field: &str| -> Option<u64> {
            // A nil lag means that the broker cannot tell, and nil does not convert to a number.
            u64::from_redis_value(ours.as_ref()?.get(field)?.clone()).ok()
        };
        Ok(QueueSample { length, dead_letters, lag: number("lag"), pending: number("pending").unwrap_or(0) })
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
