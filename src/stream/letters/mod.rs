//! Dead letters as an operator sees them: listed in pages, shown, put back into their stream, dropped.

pub(super) mod held;

use std::sync::{Arc, LazyLock};

use redis::Script;
use uuid::Uuid;

use super::connection::Broker;
use super::connection::BrokerError;
use super::group::read::entries;
use super::keys::{dead_letters, held as held_key, id_args};
use crate::job::{self, Entry, EntryId, JobId, Lineage};

/// Reads a page of a stream: only some fields of each entry, and only the beginning of each value, so that the reply stays
/// small whatever the jobs carry. KEYS: a stream. ARGV: from, to, number, length of values, names of fields.
pub(super) static PAGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local wanted, page = {}, {}
        for i = 5, #ARGV do wanted[ARGV[i]] = true end
        for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])) do
            local fields = {}
            for i = 1, #entry[2], 2 do
                if wanted[entry[2][i]] then
                    fields[#fields + 1] = entry[2][i]
                    fields[#fields + 1] = string.sub(entry[2][i + 1], 1, tonumber(ARGV[4]))
                end
            end
            page[#page + 1] = {entry[1], fields}
        end
        return page",
    )
});

/// The id of the last entry, without its contents, which may be large. KEYS: a stream.
pub(super) static NEWEST: LazyLock<Script> =
    LazyLock::new(|| Script::new("return (redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1] or {})[1]"));

/// Puts a letter's job back into its stream, without what the letter says of its end. A letter that is gone was requeued or
/// dropped before, so a second call adds nothing. One that holds later jobs is only marked: the stream's owner runs it in its old
/// place; and one that is held itself waits on. Returns 0 for a letter that is gone, 2 for one that waits on, else 1.
/// KEYS: dead letters, stream, held. ARGV: letter id.
pub(super) static REQUEUE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
        if not letter then return 0 end
        local record = redis.call('HGET', KEYS[3], ARGV[1])
        if record then
            redis.call('HDEL', KEYS[3], 'n' .. ARGV[1])
            redis.call('HINCRBY', KEYS[3], 'changes', 1)
            if string.sub(record, 1, 1) == 'h' then return 2 end
            redis.call('HSET', KEYS[3], ARGV[1], 'r' .. string.sub(record, 2))
            return 1
        end
        local ours = {reason = 1, error = 1, deliveries = 1, source = 1, time = 1, job = 1}
        local entry = {}
        for i = 1, #letter[2], 2 do
            local empty_id = letter[2][i] == 'id' and letter[2][i + 1] == ''
            if not ours[letter[2][i]] and not empty_id then
                entry[#entry + 1] = letter[2][i]
                entry[#entry + 1] = letter[2][i + 1]
            end
        end
        redis.call('XADD', KEYS[2], '*', unpack(entry))
        redis.call('XDEL', KEYS[1], ARGV[1])
        return 1",
    )
});

/// Deletes letters for good. Those that held later jobs are marked, so that the stream's owner lets these go on. Says of each
/// whether it was there. KEYS: dead letters, held. ARGV: letter ids.
pub(super) static DROP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local dropped = {}
        for i, letter in ipairs(ARGV) do
            dropped[i] = redis.call('XDEL', KEYS[1], letter)
            local record = redis.call('HGET', KEYS[2], letter)
            if record then
                redis.call('HSET', KEYS[2], letter, 'x' .. string.sub(record, 2))
                redis.call('HINCRBY', KEYS[2], 'changes', 1)
            end
        end
        return dropped",
    )
});

/// Entries per page. A script stops the broker while it runs, and it copies each entry whole.
const PAGE_COUNT: usize = 100;

/// Longer values are cut in pages. An id may have 128 bytes, and what is longer must still be seen to be longer.
pub(super) const CUT_BYTES: usize = 600;

/// The fields of a letter that a page has.
const SUMMARY: [&str; 8] = ["reason", "deliveries", "source", "time", "job", "id", "type", "key"];

/// The fields of a letter that tell of its job's end; the others are the job's own.
const OWN: [&str; 6] = ["reason", "error", "deliveries", "source", "time", "job"];

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The stream that its job came from.
    pub stream: Arc<str>,
    /// Its id among the dead letters; the time in it is when the job was dead-lettered.
    pub id: EntryId,
    /// Names and values, as bytes that nobody has checked.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Letter {
    /// The first field of that name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(given, _)| given == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// Whether its job has not run, since it waits behind a dead one.
    pub fn is_held(&self) -> bool {
        self.field("reason").is_some_and(|reason| reason.starts_with(b"held:"))
    }

    /// A field that holds a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        std::str::from_utf8(self.field(name)?).ok()?.parse().ok()
    }

    /// The id of its job, which is also the id of the receipt.
    pub fn job(&self) -> JobId {
        let text = |name| self.field(name).and_then(|text| std::str::from_utf8(text).ok());
        let told = text("job").and_then(|job| Uuid::try_parse(job).ok());
        // Letters of earlier versions do not tell.
        let source = || text("source").and_then(|source| source.parse().ok()).unwrap_or(self.id);
        told.map_or_else(|| job::id_of(Lineage::default(), &self.stream, source(), &self.fields), JobId)
    }

    /// The fields of the entry that it was made of.
    pub fn of_the_job(&self) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
        self.fields.iter().filter(|(name, _)| !OWN.iter().any(|own| own.as_bytes() == name))
    }
}

/// What became of a letter that was to be requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeued {
    /// Its job is to run.
    Done,
    /// Its job is held, and goes on by itself when what holds it does.
    WaitsOn,
    /// The letter is gone.
    Gone,
}

/// Which dead letters are meant; by default all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Their jobs' type.
    pub job_type: Option<String>,
    /// What their reason begins with.
    pub reason: Option<String>,
    /// Dead-lettered at this Unix time in milliseconds or later.
    pub since_ms: Option<u64>,
    /// Dead-lettered at this Unix time in milliseconds or earlier.
    pub until_ms: Option<u64>,
}

impl Selection {
    fn matches(&self, letter: &Letter) -> bool {
        let type_fits = self.job_type.as_ref().is_none_or(|wanted| letter.field("type") == Some(wanted.as_bytes()));
        let reason = letter.field("reason").unwrap_or_default();
        type_fits && self.reason.as_ref().is_none_or(|wanted| reason.starts_with(wanted.as_bytes()))
    }
}

/// Pages of dead letters, oldest first.
pub struct Letters {
    broker: Broker,
    stream: Arc<str>,
    selection: Selection,
    from: String,
    to: Option<String>,
}

impl Letters {
    /// The next page with those fields that a list shows, cut; it may be empty. `None` after the last page.
    pub async fn next(&mut self) -> Result<Option<Vec<Letter>>, BrokerError> {
        let Some(to) = &self.to else { return Ok(None) };
        let page =
            self.broker.page(&dead_letters(&self.stream), &self.stream, (&self.from, to), PAGE_COUNT, &SUMMARY).await?;
        let Some(last) = page.last() else { return Ok(None) };
        self.from = format!("({}", last.id);
        let letters = page.into_iter().map(letter);
        Ok(Some(letters.filter(|letter| self.selection.matches(letter)).collect()))
    }
}

fn letter(Entry { stream, id, fields, .. }: Entry) -> Letter {
    Letter { stream, id, fields }
}

impl Broker {
    /// The dead letters of `stream` that are there now. What is added later is in no page, so that a requeued job that dies
    /// again is not met again.
    pub async fn letters(&self, stream: &str, selection: Selection) -> Result<Letters, BrokerError> {
        let newest: Option<String> = NEWEST.key(dead_letters(stream)).invoke_async(&mut self.connection()).await?;
        let newest: Option<EntryId> = newest.and_then(|id| id.parse().ok());
        let to = newest.map(|newest| match selection.until_ms {
            Some(until) if until < newest.ms => until.to_string(),
            _ => newest.to_string(),
        });
        let stream: Arc<str> = stream.into();
        let from = selection.since_ms.unwrap_or(0).to_string();
        Ok(Letters { broker: self.clone(), stream, selection, from, to })
    }

    /// Moves a dead letter's job back to the end of its stream, where nothing is counted against it; or to its old place, when later
    /// jobs are held behind it. The job's `dead` receipt has to be removed before: see `cli::dead_letters`.
    pub async fn requeue(&self, stream: &str, id: EntryId) -> Result<Requeued, BrokerError> {
        let mut call = REQUEUE.key(dead_letters(stream));
        call.key(stream).key(held_key(stream)).arg(id.to_string());
        Ok(match call.invoke_async::<u64>(&mut self.connection()).await? {
            0 => Requeued::Gone,
            2 => Requeued::WaitsOn,
            _ => Requeued::Done,
        })
    }

    /// Deletes dead letters for good. Says of each whether it was there.
    pub async fn drop_letters(&self, stream: &str, ids: &[EntryId]) -> Result<Vec<bool>, BrokerError> {
        let mut dropped = Vec::new();
        for ids in ids.chunks(PAGE_COUNT) {
            let mut call = DROP.key(dead_letters(stream));
            call.key(held_key(stream)).arg(id_args(ids).collect::<Vec<_>>());
            dropped.extend(call.invoke_async::<Vec<u64>>(&mut self.connection()).await?);
        }
        Ok(dropped.into_iter().map(|count| count == 1).collect())
    }

    /// The jobs that wait in `stream` or are being worked on, after the entry `after`; the last of them says where to go on.
    pub async fn jobs_in_stream(
        &self,
        stream: &str,
        after: Option<EntryId>,
    ) -> Result<Vec<(EntryId, JobId)>, BrokerError> {
        let from = after.map_or("-".to_owned(), |after| format!("({after}"));
        let mut page = self.page(stream, &stream.into(), (&from, "+"), PAGE_COUNT, &["id"]).await?;
        self.with_lineage(&mut page).await?;
        let job = |entry: &Entry| job::id_of(entry.lineage, stream, entry.id, &entry.fields);
        Ok(page.iter().map(|entry| (entry.id, job(entry))).collect())
    }

    pub(super) async fn page(
        &self,
        key: &str,
        stream: &Arc<str>,
        (from, to): (&str, &str),
        count: usize,
        fields: &[&str],
    ) -> Result<Vec<Entry>, BrokerError> {
        let mut call = PAGE.key(key);
        call.arg(from).arg(to).arg(count).arg(CUT_BYTES).arg(fields);
        Ok(entries(stream, call.invoke_async(&mut self.connection()).await?))
    }
}
