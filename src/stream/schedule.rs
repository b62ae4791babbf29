//! Jobs that are not due: out of the stream until their time, then back at its end.

use std::sync::LazyLock;

use redis::Script;

use super::{Broker, BrokerError, Postponed, scheduled};

/// Moves an entry to the schedule: its fields, and the job's id if the producer gave none, packed as one member. An entry
/// that is not pending any more has been moved before. KEYS: stream, schedule. ARGV: group, entry id, job id, due time.
static POSTPONE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
        local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
        if entry then
            local fields, has_id = entry[2], false
            for i = 1, #fields, 2 do
                has_id = has_id or (fields[i] == 'id' and fields[i + 1] ~= '')
            end
            if not has_id then
                fields[#fields + 1] = 'id'
                fields[#fields + 1] = ARGV[3]
            end
            redis.call('ZADD', KEYS[2], ARGV[4], cmsgpack.pack(fields))
        end
        redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
        redis.call('XDEL', KEYS[1], ARGV[2])
        return 1",
    )
});

/// Moves up to a number of due jobs back to the stream, oldest first. Several daemons may do it at once: a member is added
/// and removed in one step. KEYS: stream, schedule. ARGV: number.
static PROMOTE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1])
        for _, member in ipairs(due) do
            redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(member)))
            redis.call('ZREM', KEYS[2], member)
        end
        return #due",
    )
});

impl Broker {
    /// Moves an entry to the schedule.
    pub async fn postpone(&self, stream: &str, job: Postponed) -> Result<(), BrokerError> {
        let mut call = POSTPONE.key(stream);
        call.key(scheduled(stream)).arg(&self.settings.group).arg(job.entry.to_string());
        call.arg(job.job.to_string()).arg(job.at);
        call.invoke_async::<u64>(&mut self.connection.clone()).await?;
        Ok(())
    }

    /// Moves up to `count` due jobs back to the stream and returns how many there were.
    pub async fn promote(&self, stream: &str, count: usize) -> Result<usize, BrokerError> {
        let mut call = PROMOTE.key(stream);
        call.key(scheduled(stream)).arg(count);
        Ok(call.invoke_async(&mut self.connection.clone()).await?)
    }
}
