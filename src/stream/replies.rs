//! Reply streams that nobody has deleted.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, RedisResult, Script, Value};

use super::connection::Broker;
use super::connection::BrokerError;

/// Deletes those reply streams whose last entry is old, or just counts them. The age is looked at in the same step as the
/// deletion, so no fresh reply is lost. A stream that never had an entry may be one that somebody waits on. One that may not
/// be deleted is not counted.
/// KEYS: reply streams. ARGV: age in milliseconds, 1 to delete.
pub(super) static DELETE_STALE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time, stale = redis.call('TIME'), 0
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        for _, key in ipairs(KEYS) do
            local about, last = redis.pcall('XINFO', 'STREAM', key), 0
            for i = 1, #about, 2 do
                if about[i] == 'last-generated-id' then last = tonumber(string.match(about[i + 1], '^%d+')) end
            end
            if last > 0 and now - last > tonumber(ARGV[1]) then
                local gone = ARGV[2] ~= '1' or redis.pcall('UNLINK', key)
                if type(gone) ~= 'table' then stale = stale + 1 end
            end
        end
        return stale",
    )
});

/// Keys looked at per step of a scan.
const SCAN_COUNT: usize = 500;

/// One step through the reply streams.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// Where to go on; 0 at the end.
    pub cursor: u64,
    /// Reply streams that were looked at.
    pub seen: u64,
    /// Those whose last entry was older than the bound.
    pub stale: u64,
}

impl Broker {
    /// Looks at some reply streams, from `cursor` on, and deletes those whose last entry is older than `age`; with `dry_run`
    /// it only counts them.
    pub async fn sweep_replies(&self, cursor: u64, age: Duration, dry_run: bool) -> Result<Swept, BrokerError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("reply:*").arg("COUNT").arg(SCAN_COUNT).arg("TYPE").arg("stream");
        let (cursor, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.connection()).await?;
        let seen = keys.len() as u64;
        if keys.is_empty() {
            return Ok(Swept { cursor, seen, stale: 0 });
        }
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let call_for = |keys: &[Vec<u8>]| {
            let mut call = DELETE_STALE.arg(age_ms);
            call.arg(u8::from(!dry_run));
            keys.iter().for_each(|key| {
                call.key(key);
            });
            call
        };
        let together = call_for(&keys).invoke_async(&mut self.connection()).await.map_err(BrokerError::from);
        let stale = match together {
            // A script is refused as a whole when one of its keys is.
            Err(error) if error.is_about_keys() => {
                let mut apart = redis::pipe();
                apart.load_script(&DELETE_STALE);
                keys.iter().for_each(|key| {
                    apart.invoke_script(&call_for(std::slice::from_ref(key)));
                });
                let answers: Vec<RedisResult<Value>> =
                    apart.ignore_errors().query_async(&mut self.connection()).await?;
                let counts =
                    answers.into_iter().skip(1).flatten().filter_map(|count| u64::from_redis_value(count).ok());
                counts.sum()
            }
            answer => answer?,
        };
        Ok(Swept { cursor, seen, stale })
    }
}
