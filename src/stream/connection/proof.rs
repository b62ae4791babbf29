//! The proof that entries can be acknowledged.

use std::sync::LazyLock;

use redis::{Pipeline, Script, ScriptInvocation};

use crate::stream::keys::finished;
use crate::stream::settings::Settings;

/// Acknowledges and deletes. Safe whoever owns the entries by now, since their receipts are committed. A counter that is not
/// there is made by the first entry that it counts: at 0 it would say that all before it were lost.
/// KEYS: stream, finished. ARGV: group, ids.
pub(in crate::stream) static ACKNOWLEDGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        redis.call('XACK', KEYS[1], unpack(ARGV))
        local finished = redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
        if finished > 0 then redis.call('INCRBY', KEYS[2], finished) end
        return finished",
    )
});

/// An id that no entry has.
const NO_ENTRY: &str = "0-0";

/// Acknowledges no entry of `stream`, in the very step in which entries are acknowledged.
pub(in crate::stream) fn proof(stream: &str, group: &str) -> ScriptInvocation<'static> {
    let mut call = ACKNOWLEDGE.key(stream);
    call.key(finished(stream)).arg(group).arg(NO_ENTRY);
    call
}

/// Asks for the proof that entries of each stream can be acknowledged, together with whatever else is asked.
pub(in crate::stream) fn ask_for_proof(pipeline: &mut Pipeline, settings: &Settings) {
    pipeline.load_script(&ACKNOWLEDGE);
    for stream in &settings.names {
        pipeline.invoke_script(&proof(stream, &settings.group));
    }
}
