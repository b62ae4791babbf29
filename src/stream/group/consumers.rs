//! Consumers of processes that are gone.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, Script, Value};

use crate::stream::connection::{Broker, BrokerError};

/// Removes consumers that hold nothing: deleting one with pending entries would lose them. Those whose name begins with a prefix
/// go at once, since their streams have another owner by now; others when they have been idle for long.
/// KEYS: stream. ARGV: group, idle time in ms, the prefix or an empty text, the consumer that stays.
pub(in crate::stream) static REMOVE_CONSUMERS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local removed = 0
        for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
            local consumer = {}
            for i = 1, #info, 2 do consumer[info[i]] = info[i + 1] end
            local is_kin = ARGV[3] ~= '' and string.sub(consumer.name, 1, #ARGV[3]) == ARGV[3]
            local is_gone = is_kin or consumer.idle >= tonumber(ARGV[2])
            if consumer.pending == 0 and is_gone and consumer.name ~= ARGV[4] then
                redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
                removed = removed + 1
            end
        end
        return removed",
    )
});

/// What the names of all consumers begin with that own their streams. Earlier versions shared them, under other names.
pub const OWNERS: &str = "2/";

/// A consumer of an earlier version that has no entry is removed after so many times the silence after which its entries were
/// claimed.
const CONSUMER_LIFE: u64 = 10;

/// What the names of consumers begin with whose daemons share a stream: those of earlier versions.
const SHARERS: &str = "lockkeeper-";

/// Such a daemon reads at least so often, where the broker tells when a consumer last tried (Redis 7.2).
const SHARER_READS_WITHIN: Duration = Duration::from_secs(2);

/// Asks for the consumers of a stream's group.
pub(in crate::stream) fn list(stream: &str, group: &str) -> redis::Cmd {
    let mut command = redis::cmd("XINFO");
    command.arg("CONSUMERS").arg(stream).arg(group);
    command
}

/// Whether a daemon of an earlier version is alive among these consumers. Before Redis 7.2 their idle time goes by what they were
/// given, so one that had nothing to do for `claim_after` is taken for dead.
pub(in crate::stream) fn is_shared(consumers: &[HashMap<String, Value>], claim_after: Duration) -> bool {
    consumers.iter().any(|consumer| {
        let text = |field: &str| String::from_redis_value(consumer.get(field)?.clone()).ok();
        let idle =
            consumer.get("idle").and_then(|idle| u64::from_redis_value(idle.clone()).ok()).map(Duration::from_millis);
        let limit = if consumer.contains_key("inactive") { SHARER_READS_WITHIN } else { claim_after };
        text("name").is_some_and(|name| name.starts_with(SHARERS)) && idle.is_some_and(|idle| idle < limit)
    })
}

impl Broker {
    /// Removes the consumers of `stream`'s group that hold nothing and whose processes are gone or own it no more; with `leave` this
    /// process's own among them.
    pub async fn remove_consumers(&self, stream: &str, leave: bool) -> Result<u64, BrokerError> {
        let idle_ms = self.settings.claim_after.as_millis() as u64 * CONSUMER_LIFE;
        let mut call = REMOVE_CONSUMERS.key(stream);
        let prefix = if leave { &*self.consumer } else { OWNERS };
        call.arg(&self.settings.group).arg(idle_ms).arg(prefix).arg(if leave { "" } else { &*self.consumer });
        Ok(call.invoke_async(&mut self.connection()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumer(name: &str, idle: i64, inactive: Option<i64>) -> HashMap<String, Value> {
        let mut fields = HashMap::from([
            ("name".to_owned(), Value::BulkString(name.as_bytes().to_vec())),
            ("idle".to_owned(), Value::Int(idle)),
        ]);
        fields.extend(inactive.map(|inactive| ("inactive".to_owned(), Value::Int(inactive))));
        fields
    }

    #[test]
    fn a_daemon_of_an_earlier_version_is_alive_as_long_as_it_reads() {
        let is_shared = |name, idle, inactive| is_shared(&[consumer(name, idle, inactive)], Duration::from_secs(30));
        assert!(is_shared("lockkeeper-0198", 1_000, None) && is_shared("lockkeeper-0198", 29_000, None));
        assert!(!is_shared("lockkeeper-0198", 30_000, None), "what it was given last was long ago");
        assert!(is_shared("lockkeeper-0198", 100, Some(90_000)), "it tries, and nothing comes");
        assert!(!is_shared("lockkeeper-0198", 2_000, Some(2_000)));
        assert!(!is_shared("2/lockkeeper-0198", 0, Some(0)), "an owner");
        assert!(!is_shared("somebody", 0, Some(0)), "no daemon");
    }
}
