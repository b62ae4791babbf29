//! Entries that no list has: not unread, since the group is past them, and not pending.
//!
//! No step of ours leaves such an entry behind. But a group that was made or set past it, somebody else who acknowledges, or a
//! consumer that was deleted with what it had, does; and nothing would ever deliver it again.

use std::sync::LazyLock;

use redis::Script;

use super::{Broker, BrokerError};

/// Makes entries pending that the group is past and that are not pending, oldest first, as a daemon that drains leaves entries
/// behind: the next look takes them with all others, in their order. Their contents stay in the broker. The counts say whether there
/// are any, where the broker can tell the lag; else, or when they differ, the pending entries are gone through, and the gaps between
/// them looked into. Returns how many there were, and where to go on, or an empty text at the end.
/// KEYS: stream. ARGV: group, a consumer that nobody is, entry to begin after or an empty text, the most entries to go through.
pub(super) static ADOPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local group
        for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
            local one = {}
            for i = 1, #info, 2 do one[info[i]] = info[i + 1] end
            if one.name == ARGV[1] then group = one end
        end
        if not group then return {0, ''} end
        if group.lag and redis.call('XLEN', KEYS[1]) - group.lag == group.pending then return {0, ''} end
        local most, adopted, bytes = tonumber(ARGV[4]), 0, 0
        local from = ARGV[3] == '' and '-' or '(' .. ARGV[3]
        local last = group['last-delivered-id']
        local function adopt(to)
            while adopted < most and bytes < 1048576 do
                local entry = redis.call('XRANGE', KEYS[1], from, to, 'COUNT', 1)[1]
                if not entry then return true end
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, entry[1],
                    'IDLE', 3600000, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
                for _, value in ipairs(entry[2]) do bytes = bytes + #value end
                from, adopted = '(' .. entry[1], adopted + 1
            end
            return false
        end
        local pending = redis.call('XPENDING', KEYS[1], ARGV[1], from, last, most)
        for _, row in ipairs(pending) do
            if not adopt('(' .. row[1]) then return {adopted, string.sub(from, 2)} end
            from = '(' .. row[1]
        end
        if #pending < most and adopt(last) then return {adopted, ''} end
        return {adopted, string.sub(from, 2)}",
    )
});

/// Pending entries per call, bounded because a script stops the broker while it runs.
const PENDING_PER_CALL: usize = 100;

/// The consumer that has them until they are claimed: no daemon, so that all that nobody works on is claimed in one order.
const NOBODY: &str = "nobody";

/// How far a look for such entries is, from the oldest entry to the last that was delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    after: String,
    /// Nothing is left to look into.
    pub is_done: bool,
}

impl Broker {
    /// Looks on for entries of `stream` that are neither unread nor pending, and makes them pending, until it has found `most` or
    /// there are no more. Returns how many.
    pub async fn adopt(&self, stream: &str, sought: &mut Sought, most: u64) -> Result<u64, BrokerError> {
        let mut found = 0;
        while !sought.is_done && found < most {
            let mut call = ADOPT.key(stream);
            call.arg(&self.settings.group).arg(NOBODY).arg(&sought.after).arg(PENDING_PER_CALL);
            let (adopted, after): (u64, String) = call.invoke_async(&mut self.connection()).await?;
            found += adopted;
            sought.is_done = after.is_empty();
            sought.after = after;
        }
        Ok(found)
    }
}
