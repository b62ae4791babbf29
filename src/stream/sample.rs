//! What the broker can tell about a stream.

use std::collections::HashMap;

use redis::{FromRedisValue, Value};

use super::{Broker, BrokerError, dead_letters};
use crate::metrics::QueueSample;

impl Broker {
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
