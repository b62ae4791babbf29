//! Taking over the entries of consumers that have gone quiet, and handing our own back when we leave.

use std::sync::{Arc, LazyLock};

use redis::{Script, Value};

use super::read::{bytes, entries};
use super::{Broker, BrokerError, id_args};
use crate::job::{Entry, EntryId};

/// Makes entries claimable at once, those that are still ours. Their delivery count goes back by the delivery that did
/// nothing with them. KEYS: stream. ARGV: group, consumer, ids.
static HAND_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local handed = 0
        for i = 3, #ARGV do
            local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
            if #mine == 1 then
                local before = math.max(mine[1][4] - 1, 0)
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i],
                    'IDLE', 3600000, 'RETRYCOUNT', before, 'JUSTID')
                handed = handed + 1
            end
        end
        return handed",
    )
});

/// One step of claiming.
pub struct Claimed {
    /// Entries that are ours now; some may have been ours before.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` at the end of the list.
    pub next: Option<String>,
    /// Pending entries whose contents somebody had deleted: lost jobs.
    pub lost: usize,
}

impl Broker {
    /// Claims up to `count` entries of `stream` that nobody has touched for the configured time, from `cursor` on.
    pub async fn claim(&self, stream: &str, cursor: &str, count: usize) -> Result<Claimed, BrokerError> {
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(stream).arg(&self.settings.group).arg(&*self.consumer);
        command.arg(self.settings.claim_after.as_millis() as u64).arg(cursor).arg("COUNT").arg(count);
        let reply: Value = command.query_async(&mut self.connection.clone()).await?;
        let Value::Array(parts) = reply else { return Ok(Claimed { entries: vec![], next: None, lost: 0 }) };
        let mut parts = parts.into_iter();
        let next = parts.next().map(bytes).and_then(|cursor| String::from_utf8(cursor).ok());
        let list = parts.next().unwrap_or(Value::Nil);
        let stream: Arc<str> = stream.into();
        Ok(Claimed {
            entries: entries(&stream, list),
            next: next.filter(|cursor| cursor != "0-0"),
            // Before 7.0 the reply has no third part.
            lost: parts.next().map_or(0, |deleted| deleted.as_sequence().map_or(0, <[Value]>::len)),
        })
    }

    /// Hands entries back that nothing was done with: another daemon's next claim takes them. Returns how many were still
    /// ours.
    pub async fn hand_back(&self, stream: &str, ids: &[EntryId]) -> Result<u64, BrokerError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut call = HAND_BACK.key(stream);
        call.arg(&self.settings.group).arg(&*self.consumer);
        id_args(ids).for_each(|id| {
            call.arg(id);
        });
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }
}
