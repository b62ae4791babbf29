//! Jobs that are not due: out of the stream until their time, then back at its end, unless an operator cancels them.

use std::sync::{Arc, LazyLock};

use redis::{Script, Value};

use super::Postponed;
use super::connection::Broker;
use super::connection::BrokerError;
use super::group::read::{bytes, pairs};
use super::keys::{dead_letters, finished, held, id_or_none, scheduled};
use super::letters::CUT_BYTES;
use crate::job::{self, EntryId, JobId, LATEST_MS, Lineage};

/// Moves an entry to the schedule: its fields, and the job's id if the producer gave none, packed as one member. An
/// empty id is left out, since two ids make the job malformed when it is due. An entry that is not pending any more has been
/// moved before. A job that comes from a dead letter leaves it. KEYS: stream, schedule, finished, dead letters, held.
/// ARGV: group, entry id, job id, due time, its letter or an empty text.
pub(super) static POSTPONE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local letter, entry, ours = ARGV[5], nil, {}
        if letter == '' then
            if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then return 0 end
            entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
        else
            entry = redis.call('XRANGE', KEYS[4], letter, letter)[1]
            ours = {reason = 1, error = 1, deliveries = 1, source = 1, time = 1, job = 1}
        end
        if entry then
            local fields, has_id = {}, false
            for i = 1, math.min(#entry[2], 6000), 2 do
                if not ours[entry[2][i]] and (entry[2][i] ~= 'id' or entry[2][i + 1] ~= '') then
                    fields[#fields + 1] = entry[2][i]
                    fields[#fields + 1] = entry[2][i + 1]
                    has_id = has_id or entry[2][i] == 'id'
                end
            end
            if not has_id then
                fields[#fields + 1] = 'id'
                fields[#fields + 1] = ARGV[3]
            end
            redis.call('ZADD', KEYS[2], ARGV[4], cmsgpack.pack(fields))
        end
        if letter ~= '' then
            redis.call('XDEL', KEYS[4], letter)
            redis.call('HDEL', KEYS[5], letter, 'n' .. letter)
            return 1
        end
        redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
        local finished = redis.call('XDEL', KEYS[1], ARGV[2])
        if finished > 0 then redis.call('INCRBY', KEYS[3], finished) end
        return 1",
    )
});

/// Moves up to a number of due jobs back to the stream, oldest first. Several daemons may do it at once: a member is added
/// and removed in one step. A member that no daemon wrote cannot become an entry; it goes to the dead letters as it is,
/// so that it holds nobody up. One that is refused there stays, and those behind it go on; the refusal is told when nothing
/// else is due. What can be no time never falls due, and is moved at once: the job's form is looked at, and says so.
/// KEYS: stream, schedule, dead letters. ARGV: number, the last moment that can be meant.
pub(super) static PROMOTE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local most, moved, stay, refusal = tonumber(ARGV[1]), 0, 0, nil
        local function is_entry(fields)
            if type(fields) ~= 'table' or #fields < 2 or #fields % 2 == 1 or #fields > 7000 then return false end
            for _, value in ipairs(fields) do
                if type(value) ~= 'string' then return false end
            end
            return true
        end
        local function move(member)
            local packed, fields = pcall(cmsgpack.unpack, member)
            local added
            if packed and is_entry(fields) then
                added = redis.pcall('XADD', KEYS[1], '*', unpack(fields))
            else
                added = redis.pcall('XADD', KEYS[3], '*', 'reason',
                    'malformed: the member of the schedule is not a job',
                    'deliveries', 0, 'time', now, 'member', member)
            end
            if type(added) == 'table' and added.err then
                stay, refusal = stay + 1, added
            else
                redis.call('ZREM', KEYS[2], member)
                moved = moved + 1
            end
        end
        local function move_all(from, to)
            stay = 0
            while moved < most and stay < 10 * most do
                local due = redis.call('ZRANGEBYSCORE', KEYS[2], from, to, 'LIMIT', stay, most - moved)
                if #due == 0 then break end
                for _, member in ipairs(due) do move(member) end
            end
        end
        move_all('-inf', now)
        move_all('(' .. ARGV[2], '+inf')
        if moved == 0 and refusal then return refusal end
        return moved",
    )
});

/// What both ways of reading the schedule do with what they find: `summary` gives a job's fields that a list shows, with
/// the beginning of each value. A member that this daemon did not write has none.
const SUMMARY: &str = r"
    local wanted = {id = 1, type = 1, key = 1}
    local function summary(member, cut)
        local good, packed = pcall(cmsgpack.unpack, member)
        local fields = {}
        if not good or type(packed) ~= 'table' then return fields end
        for i = 1, #packed, 2 do
            if wanted[packed[i]] then
                fields[#fields + 1] = packed[i]
                fields[#fields + 1] = string.sub(packed[i + 1], 1, cut)
            end
        end
        return fields
    end";

/// Reads jobs in the order in which they are due. KEYS: schedule. ARGV: lowest due time, how many of those to pass over,
/// number, length of values.
pub(super) static IN_ORDER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{SUMMARY}
        local found = {{}}
        local members = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', ARGV[2], ARGV[3])
        for i = 1, #members, 2 do
            found[#found + 1] = {{members[i + 1], '', summary(members[i], tonumber(ARGV[4]))}}
        end
        return found"
    ))
});

/// Reads jobs in no order, with their members if they are wanted: they hold all that the jobs carry. Whatever is in the schedule
/// from the first step to the last is found, also when others come and go meanwhile.
/// KEYS: schedule. ARGV: cursor, number, length of values, 1 for the members.
pub(super) static ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&format!(
        "{SUMMARY}
        local found = {{}}
        local step = redis.call('ZSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
        for i = 1, #step[2], 2 do
            local member = ARGV[4] == '1' and step[2][i] or ''
            found[#found + 1] = {{step[2][i + 1], member, summary(step[2][i], tonumber(ARGV[3]))}}
        end
        return {{step[1], found}}"
    ))
});

/// When the first or the last job is due, without the job; of those that ever can be. KEYS: schedule. ARGV: the last moment that can
/// be meant, and 1 for the last job.
pub(super) static DUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if ARGV[2] == '1' then
            return redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
        end
        return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, 1)[2]",
    )
});

/// Jobs per page. A script stops the broker while it runs, and it unpacks each job whole.
const PAGE_COUNT: usize = 100;

/// A job that waits in the schedule.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The stream that it goes back to.
    pub stream: Arc<str>,
    /// When it is due, Unix milliseconds.
    pub due_ms: u64,
    /// Its `id`, `type` and `key`, as bytes that nobody has checked.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    due: String,
    member: Vec<u8>,
}

impl Waiting {
    /// The first field of that name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(given, _)| given == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// The job's id.
    pub fn job(&self) -> JobId {
        // What is in the schedule has an id, so none is made of this.
        job::id_of(Lineage::default(), &self.stream, EntryId { ms: 0, seq: 0 }, &self.fields)
    }
}

/// How far a list of the schedule is: the due time of the last job, and how many with just that time have been seen.
#[derive(Clone, Debug)]
pub struct Place {
    due: String,
    seen: usize,
}

impl Default for Place {
    fn default() -> Self {
        Self { due: "-inf".to_owned(), seen: 0 }
    }
}

fn waiting(stream: &str, reply: Value) -> Vec<Waiting> {
    let Value::Array(list) = reply else { return Vec::new() };
    let job = |item: Value| {
        let Value::Array(parts) = item else { return None };
        let [due, member, fields] = <[Value; 3]>::try_from(parts).ok()?;
        let due = String::from_utf8(bytes(due)).ok()?;
        // A score is a floating-point number; the cast takes one that is out of range to the nearest that is not.
        let due_ms = due.parse::<f64>().ok()? as u64;
        Some(Waiting { stream: stream.into(), due_ms, fields: pairs(fields)?, due, member: bytes(member) })
    };
    list.into_iter().filter_map(job).collect()
}

impl Broker {
    /// The next page of jobs, in the order in which they are due; empty at the end.
    pub async fn scheduled(&self, stream: &str, place: &mut Place) -> Result<Vec<Waiting>, BrokerError> {
        let mut call = IN_ORDER.key(scheduled(stream));
        call.arg(&place.due).arg(place.seen).arg(PAGE_COUNT).arg(CUT_BYTES);
        let page = waiting(stream, call.invoke_async(&mut self.connection()).await?);
        if let Some(last) = page.last() {
            let seen_before = if last.due == place.due { place.seen } else { 0 };
            let seen = seen_before + page.iter().filter(|job| job.due == last.due).count();
            *place = Place { due: last.due.clone(), seen };
        }
        Ok(page)
    }

    /// A step through all jobs of the schedule, in no order, some perhaps twice. The first cursor is 0, and so is the one
    /// after the last step. Only `whole` jobs can be cancelled.
    pub async fn scan_scheduled(
        &self,
        stream: &str,
        cursor: u64,
        whole: bool,
    ) -> Result<(u64, Vec<Waiting>), BrokerError> {
        let mut call = ALL.key(scheduled(stream));
        call.arg(cursor).arg(PAGE_COUNT).arg(CUT_BYTES).arg(u8::from(whole));
        let (cursor, found): (u64, Value) = call.invoke_async(&mut self.connection()).await?;
        Ok((cursor, waiting(stream, found)))
    }

    /// Takes a job of [`Broker::scan_scheduled`] out of the schedule. Returns false when it is not there any more: it fell
    /// due, or somebody else was first. A member is removed or promoted, never both.
    pub async fn cancel(&self, job: &Waiting) -> Result<bool, BrokerError> {
        let mut command = redis::cmd("ZREM");
        command.arg(scheduled(&job.stream)).arg(&job.member);
        Ok(command.query_async::<u64>(&mut self.connection()).await? == 1)
    }

    /// When the last job of the schedule is due, Unix milliseconds.
    pub async fn furthest_due(&self, stream: &str) -> Result<Option<u64>, BrokerError> {
        self.due(stream, true).await
    }

    /// When the first job of the schedule is due, or the `last`; Unix milliseconds.
    pub(super) async fn due(&self, stream: &str, last: bool) -> Result<Option<u64>, BrokerError> {
        let mut call = DUE.key(scheduled(stream));
        let due: Option<f64> = call.arg(LATEST_MS).arg(u8::from(last)).invoke_async(&mut self.connection()).await?;
        Ok(due.map(|due| due as u64))
    }

    /// Moves an entry to the schedule.
    pub async fn postpone(&self, stream: &str, job: Postponed) -> Result<(), BrokerError> {
        let mut call = POSTPONE.key(stream);
        call.key(scheduled(stream)).key(finished(stream)).key(dead_letters(stream)).key(held(stream));
        call.arg(&self.settings.group).arg(job.entry.to_string());
        call.arg(job.job.to_string()).arg(job.at).arg(id_or_none(job.letter));
        call.invoke_async::<u64>(&mut self.connection()).await?;
        Ok(())
    }

    /// Moves up to `count` due jobs back to the stream and returns how many there were.
    pub async fn promote(&self, stream: &str, count: usize) -> Result<usize, BrokerError> {
        let mut call = PROMOTE.key(stream);
        call.key(scheduled(stream)).key(dead_letters(stream)).arg(count).arg(LATEST_MS);
        Ok(call.invoke_async(&mut self.connection()).await?)
    }
}
