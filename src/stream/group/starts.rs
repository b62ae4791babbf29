//! How often in a row work on an entry was started and did not come to an end.
//!
//! The broker keeps it as the delivery count of the entry, so that it outlives a process which the job kills. A read counts as the
//! first start. Taking an entry over does not count; the start of a job that was taken over does, from when it is about to be
//! decided. When it has been decided nothing is counted against it any more.

use std::sync::LazyLock;

use redis::Script;

use crate::job::EntryId;
use crate::stream::connection::{Broker, BrokerError};

/// Sets the delivery count of those entries that are still ours to the one that is given for each. A call may be repeated,
/// since the answer to it may have been lost. KEYS: stream. ARGV: group, consumer, then id and count in turn.
pub(in crate::stream) static SET_STARTS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i = 3, #ARGV, 2 do
            local mine = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
            if mine and mine[4] ~= tonumber(ARGV[i + 1]) then
                redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
            end
        end
        return 0",
    )
});

/// Entries per script call, bounded because a script stops the broker while it runs.
const ENTRIES_PER_CALL: usize = 256;

impl Broker {
    /// Sets how often in a row work on each of these entries was started.
    pub async fn set_starts(&self, stream: &str, entries: &[(EntryId, u64)]) -> Result<(), BrokerError> {
        for entries in entries.chunks(ENTRIES_PER_CALL) {
            let mut call = SET_STARTS.key(stream);
            call.arg(&self.settings.group).arg(&*self.consumer);
            entries.iter().for_each(|(id, deliveries)| {
                call.arg(id.to_string()).arg(*deliveries);
            });
            call.invoke_async::<u64>(&mut self.connection()).await?;
        }
        Ok(())
    }
}
