//! What the broker keeps of letters that hold later jobs: a hash beside the stream, `<stream>:held`.
//!
//! Under a letter's id stands its record ([`HeldLetter`]), under `n` and that id how often work on its job was started since. The
//! field `owner` names the daemon that goes by the hash, and `changes` counts what others have changed since: an operator, or a
//! former owner that has not noticed yet.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use redis::{Script, Value};

use super::Letter;
use crate::job::{Entry, EntryId, HeldLetter};
use crate::stream::connection::{Broker, BrokerError, LARGE_ANSWER};
use crate::stream::group::read::entries;
use crate::stream::keys::{dead_letters, held, id_args};

/// Reads the hash, and makes this daemon the one that goes by it. KEYS: held. ARGV: consumer, 1 when there is to be one.
pub(in crate::stream) static GO_BY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if ARGV[2] == '1' or redis.call('EXISTS', KEYS[1]) == 1 then
            redis.call('HSET', KEYS[1], 'owner', ARGV[1])
        end
        return redis.call('HGETALL', KEYS[1])",
    )
});

/// Marks the records of letters that are gone as dropped, a page of them. Returns where to go on, or 0 at the end.
/// KEYS: held, dead letters. ARGV: cursor.
pub(in crate::stream) static SWEEP_HELD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 100)
        for i = 1, #page[2], 2 do
            local letter, record = page[2][i], page[2][i + 1]
            if string.match(letter, '^%d+%-%d+$') and string.sub(record, 1, 1) ~= 'x'
                and #redis.call('XRANGE', KEYS[2], letter, letter) == 0 then
                redis.call('HSET', KEYS[1], letter, 'x' .. string.sub(record, 2))
                redis.call('HINCRBY', KEYS[1], 'changes', 1)
            end
        end
        return page[1]",
    )
});

/// Deletes letters whose jobs have come to their end. KEYS: dead letters, held. ARGV: letters.
pub(in crate::stream) static END_LETTERS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for _, letter in ipairs(ARGV) do
            redis.call('XDEL', KEYS[1], letter)
            redis.call('HDEL', KEYS[2], letter, 'n' .. letter)
        end
        return 0",
    )
});

/// Sets how often work on the jobs of these letters was started. KEYS: held. ARGV: letter and count in turn.
pub(in crate::stream) static SET_LETTER_STARTS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for i = 1, #ARGV, 2 do
            if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
                redis.call('HSET', KEYS[1], 'n' .. ARGV[i], ARGV[i + 1])
            end
        end
        return 0",
    )
});

/// What the hash says.
#[derive(Debug, Default)]
pub struct HeldLetters {
    /// The letters that hold others.
    pub letters: Vec<HeldLetter>,
    /// How often work on the job of a letter was started, where it was.
    pub starts: BTreeMap<EntryId, u64>,
    /// What others have changed so far; `None` where there is no such hash.
    pub changes: Option<u64>,
}

impl Broker {
    /// What is held in `stream`. From now on this daemon goes by it, if there is anything, or there `may_be` later.
    pub async fn held_letters(&self, stream: &str, may_be: bool) -> Result<HeldLetters, BrokerError> {
        let mut cursor = "0".to_owned();
        loop {
            let mut call = SWEEP_HELD.key(held(stream));
            call.key(dead_letters(stream)).arg(&cursor);
            cursor = call.invoke_async(&mut self.connection()).await?;
            if cursor == "0" {
                break;
            }
        }
        let mut call = GO_BY.key(held(stream));
        call.arg(&*self.consumer).arg(u8::from(may_be));
        let fields: BTreeMap<String, String> = call.invoke_async(&mut self.connection()).await?;
        let mut found = HeldLetters { changes: changes(&fields), ..HeldLetters::default() };
        for (name, value) in &fields {
            if let Some(letter) = name.strip_prefix('n').and_then(|letter| letter.parse().ok()) {
                found.starts.extend(value.parse().ok().map(|starts: u64| (letter, starts)));
            }
            found.letters.extend(HeldLetter::parse(name, value));
        }
        Ok(found)
    }

    /// Whether this daemon goes by what is held in `stream`, and what others have changed of it; `None` where there is no such hash.
    pub async fn held_changes(&self, stream: &str) -> Result<Option<(bool, u64)>, BrokerError> {
        let mut command = redis::cmd("HMGET");
        command.arg(held(stream)).arg("owner").arg("changes");
        let (owner, changes): (Option<String>, Option<u64>) = command.query_async(&mut self.connection()).await?;
        Ok(owner.map(|owner| (*owner == *self.consumer, changes.unwrap_or(0))))
    }

    /// The job of a letter, as the entry that it was; `None` when the letter is gone.
    pub async fn held_job(&self, stream: &str, held: &HeldLetter) -> Result<Option<Entry>, BrokerError> {
        let Some(letter) = self.letter(stream, held.letter).await? else { return Ok(None) };
        let fields = letter.of_the_job().cloned().collect();
        let entry = Entry { letter: Some(held.letter), ..Entry::new(letter.stream.clone(), held.source, fields) };
        if entry.bytes() > LARGE_ANSWER {
            self.retire();
        }
        Ok(self.told_apart(vec![entry]).await?.pop())
    }

    /// These are dropped for good, or gone: they hold nobody any more.
    pub async fn forget_held(&self, stream: &str, letters: &[EntryId]) -> Result<(), BrokerError> {
        let mut command = redis::cmd("HDEL");
        command.arg(held(stream));
        for letter in id_args(letters) {
            command.arg(format!("n{letter}")).arg(letter);
        }
        command.query_async::<u64>(&mut self.connection()).await?;
        Ok(())
    }

    /// Deletes letters whose jobs' receipts are committed.
    pub async fn end_letters(&self, stream: &str, letters: &[EntryId]) -> Result<(), BrokerError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut call = END_LETTERS.key(dead_letters(stream));
        call.key(held(stream)).arg(id_args(letters).collect::<Vec<_>>());
        call.invoke_async::<u64>(&mut self.connection()).await?;
        Ok(())
    }

    /// Sets how often in a row work on the jobs of these letters was started.
    pub async fn set_letter_starts(&self, stream: &str, letters: &[(EntryId, u64)]) -> Result<(), BrokerError> {
        if letters.is_empty() {
            return Ok(());
        }
        let mut call = SET_LETTER_STARTS.key(held(stream));
        letters.iter().for_each(|(letter, starts)| {
            call.arg(letter.to_string()).arg(*starts);
        });
        call.invoke_async::<u64>(&mut self.connection()).await?;
        Ok(())
    }

    /// One dead letter with all of its fields.
    pub async fn letter(&self, stream: &str, id: EntryId) -> Result<Option<Letter>, BrokerError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(dead_letters(stream)).arg(id.to_string()).arg(id.to_string());
        let reply: Value = command.query_async(&mut self.connection()).await?;
        Ok(entries(&stream.into(), reply).pop().map(super::letter))
    }
}

fn changes(fields: &BTreeMap<String, String>) -> Option<u64> {
    fields.get("owner")?;
    Some(fields.get("changes").and_then(|changes| changes.parse().ok()).unwrap_or(0))
}
