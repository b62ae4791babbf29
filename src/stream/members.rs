//! The daemons of the fleet that could do the work: each writes itself down, beside the first stream, when it has shown that it can.
//!
//! It is a courtesy: for whoever cannot do it any more, for people, and for nothing that has to be right.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::connection::BrokerError;
use super::keys::fleet;
use super::lease::LeaseLine;

/// How long a daemon is one of the fleet after it was written down last.
const LIFETIME: Duration = Duration::from_secs(5);

/// Writes a daemon down, unless its text is empty, strikes out whoever has not been written down for long, and lists the others with
/// the milliseconds since. The broker's clock may be set: what lies ahead of it is struck out too. KEYS: fleet. ARGV: id, text, lifetime.
pub(super) static ENLIST: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2]) end
        local all, there = redis.call('HGETALL', KEYS[1]), {}
        for i = 1, #all, 2 do
            local at, text = string.match(all[i + 1], '^(%d+) (.*)$')
            local age = now - (tonumber(at) or 0)
            if at and age >= 0 and age <= tonumber(ARGV[3]) then
                there[#there + 1] = {all[i], age, text}
            else
                redis.call('HDEL', KEYS[1], all[i])
            end
        end
        return there",
    )
});

/// A daemon that could do the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, which no other has or had.
    pub id: String,
    /// Machine and process, for people.
    pub host: String,
    /// How long ago it has shown that it could.
    pub age: Duration,
}

impl LeaseLine {
    /// Writes this daemon down as one of the fleet if it `is_fit`, and lists all that are.
    pub async fn enlist(
        &mut self,
        first: &str,
        (id, host): (&str, &str),
        is_fit: bool,
    ) -> Result<Vec<Member>, BrokerError> {
        let mut call = ENLIST.key(fleet(first));
        call.arg(id).arg(if is_fit { host } else { "" }).arg(LIFETIME.as_millis() as u64);
        let members: Vec<(String, u64, String)> = call.invoke_async(&mut self.connection).await?;
        let member = |(id, age, host)| Member { id, host, age: Duration::from_millis(age) };
        Ok(members.into_iter().map(member).collect())
    }

    /// Strikes this daemon out.
    pub async fn dismiss(&mut self, first: &str, id: &str) -> Result<(), BrokerError> {
        let mut call = redis::cmd("HDEL");
        call.arg(fleet(first)).arg(id);
        Ok(call.query_async(&mut self.connection).await?)
    }
}
