//! What happens with an entry once its job has ended: reply, acknowledge and delete, or dead-letter.

use std::sync::LazyLock;

use futures_util::future::try_join_all;
use redis::{RedisResult, Script, Value};

use super::connection::Broker;
use super::connection::BrokerError;
use super::connection::{ACKNOWLEDGE, proof};
use super::keys::{dead_letters, finished, held, id_args, id_or_none};
use crate::job::{EntryId, JobId};

/// Copies an entry to the dead letters with what is known of its end, then acknowledges and deletes it. An entry that is not
/// pending any more was dead-lettered before. The job's id is among what is known, since the producer's may be of no use. A failed XADD ends the script with the entry still pending. An empty id is left
/// out, since the job's own is added, and an entry with two ids is malformed when it is requeued. A job that comes from a letter gets
/// a new one, and loses the old. With a record, the letter holds later jobs; that is a change to whoever else goes by it.
/// KEYS: stream, dead letters, finished, held. ARGV: group, entry id, job id, reason, error, consumer, its letter or an empty text,
/// record or an empty text.
pub(super) static DEAD_LETTER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local old, deliveries, entry = ARGV[7], 0, nil
        if old == '' then
            local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
            if #pending == 0 then return 0 end
            deliveries, entry = pending[1][4], redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
        else
            entry = redis.call('XRANGE', KEYS[2], old, old)[1]
            if not entry then return 0 end
        end
        local ours = {reason = 1, error = 1, deliveries = 1, source = 1, time = 1, job = 1}
        local letter, has_id = {}, false
        if entry then
            for i = 1, math.min(#entry[2], 6000), 2 do
                local empty_id = entry[2][i] == 'id' and entry[2][i + 1] == ''
                if not ours[entry[2][i]] and not empty_id then
                    letter[#letter + 1] = entry[2][i]
                    letter[#letter + 1] = entry[2][i + 1]
                    has_id = has_id or entry[2][i] == 'id'
                end
            end
        end
        local time = redis.call('TIME')
        if not has_id then
            letter[#letter + 1] = 'id'
            letter[#letter + 1] = ARGV[3]
        end
        local new = redis.call('XADD', KEYS[2], '*', 'reason', ARGV[4], 'error', ARGV[5], 'deliveries', deliveries,
            'source', ARGV[2], 'time', time[1] * 1000 + math.floor(time[2] / 1000), 'job', ARGV[3], unpack(letter))
        if ARGV[8] ~= '' then
            redis.call('HSET', KEYS[4], new, ARGV[8])
            if redis.call('HGET', KEYS[4], 'owner') ~= ARGV[6] then redis.call('HINCRBY', KEYS[4], 'changes', 1) end
        end
        if old == '' then
            redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
            local finished = redis.call('XDEL', KEYS[1], ARGV[2])
            if finished > 0 then redis.call('INCRBY', KEYS[3], finished) end
        else
            redis.call('XDEL', KEYS[2], old)
            redis.call('HDEL', KEYS[4], old, 'n' .. old)
        end
        return 1",
    )
});

/// Writes outcomes to reply streams; one that refuses stops nothing. Returns how many refused. An empty trace context is left
/// out, so that a reply without one looks as it always did.
/// KEYS: reply streams. ARGV: cap, then per stream: id, outcome, reason, first, last, traceparent.
pub(super) static REPLY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local failed = 0
        for i = 1, #KEYS do
            local at = 2 + (i - 1) * 6
            local entry = {'id', ARGV[at], 'outcome', ARGV[at + 1], 'reason', ARGV[at + 2], 'first', ARGV[at + 3],
                'last', ARGV[at + 4]}
            if ARGV[at + 5] ~= '' then
                entry[11], entry[12] = 'traceparent', ARGV[at + 5]
            end
            local reply = redis.pcall('XADD', KEYS[i], 'MAXLEN', '~', ARGV[1], '*', unpack(entry))
            if type(reply) == 'table' and reply.err then failed = failed + 1 end
        end
        return failed",
    )
});

/// Replies per script call, bounded because a script stops the broker while it runs.
const REPLIES_PER_CALL: usize = 500;

/// The fields of a reply, in the order of [`Reply::fields`].
const REPLY_FIELDS: [&str; 6] = ["id", "outcome", "reason", "first", "last", "traceparent"];

/// What a reply stream is told.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The stream.
    pub stream: String,
    /// The job.
    pub job: JobId,
    /// What it ended as.
    pub outcome: String,
    /// Why, or empty.
    pub reason: String,
    /// Positions of its first and last event.
    pub positions: Option<(u64, u64)>,
    /// The job's trace context, or empty.
    pub traceparent: String,
}

impl Reply {
    fn fields(&self) -> [String; 6] {
        let position = |position: Option<u64>| position.map_or(String::new(), |position| position.to_string());
        [
            self.job.to_string(),
            self.outcome.clone(),
            self.reason.clone(),
            position(self.positions.map(|(first, _)| first)),
            position(self.positions.map(|(_, last)| last)),
            self.traceparent.clone(),
        ]
    }
}

/// A job that goes to the dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its entry.
    pub entry: EntryId,
    /// The job, written into the letter when the producer gave no id.
    pub job: JobId,
    /// The receipt's reason.
    pub reason: String,
    /// All that is known, for the operator.
    pub error: String,
    /// The letter that the job comes from.
    pub letter: Option<EntryId>,
    /// What is kept of the letter when later jobs are held behind it.
    pub record: Option<String>,
}

/// A job that is not due.
#[derive(Clone, Copy, Debug)]
pub struct Postponed {
    /// Its entry.
    pub entry: EntryId,
    /// The job.
    pub job: JobId,
    /// When it is due, Unix milliseconds.
    pub at: u64,
    /// The letter that the job comes from.
    pub letter: Option<EntryId>,
}

impl Broker {
    /// Acknowledges and deletes entries whose receipts are committed.
    pub async fn acknowledge(&self, stream: &str, ids: &[EntryId]) -> Result<(), BrokerError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut call = ACKNOWLEDGE.key(stream);
        call.key(finished(stream)).arg(&self.settings.group);
        id_args(ids).for_each(|id| {
            call.arg(id);
        });
        call.invoke_async::<u64>(&mut self.connection()).await?;
        Ok(())
    }

    /// Shows that entries of every stream can be acknowledged now.
    pub async fn prove(&self) -> Result<(), BrokerError> {
        let each =
            self.settings.names.iter().map(async |stream| {
                proof(stream, &self.settings.group).invoke_async::<u64>(&mut self.connection()).await
            });
        try_join_all(each).await?;
        Ok(())
    }

    /// Moves an entry to the dead letters. Its receipt is committed; doing it twice writes one letter.
    pub async fn dead_letter(&self, stream: &str, letter: &DeadLetter) -> Result<(), BrokerError> {
        let mut call = DEAD_LETTER.key(stream);
        call.key(dead_letters(stream)).key(finished(stream)).key(held(stream));
        call.arg(&self.settings.group).arg(letter.entry.to_string());
        call.arg(letter.job.to_string()).arg(&letter.reason).arg(&letter.error).arg(&*self.consumer);
        call.arg(id_or_none(letter.letter)).arg(letter.record.as_deref().unwrap_or_default());
        call.invoke_async::<u64>(&mut self.connection()).await?;
        Ok(())
    }

    /// Writes outcomes to their reply streams. Returns how many streams refused.
    pub async fn reply(&self, replies: &[Reply]) -> Result<u64, BrokerError> {
        let mut failed = 0;
        for replies in replies.chunks(REPLIES_PER_CALL) {
            failed += match self.reply_together(replies).await {
                Err(error) if error.is_about_keys() => self.reply_apart(replies).await?,
                answer => answer?,
            };
        }
        Ok(failed)
    }

    async fn reply_together(&self, replies: &[Reply]) -> Result<u64, BrokerError> {
        let mut call = REPLY.arg(self.settings.reply_length);
        for reply in replies {
            call.key(&reply.stream).arg(&reply.fields());
        }
        Ok(call.invoke_async(&mut self.connection()).await?)
    }

    /// Each in a command of its own: a script is refused as a whole when one of its keys is.
    async fn reply_apart(&self, replies: &[Reply]) -> Result<u64, BrokerError> {
        let mut pipeline = redis::pipe();
        for reply in replies {
            let command =
                pipeline.cmd("XADD").arg(&reply.stream).arg("MAXLEN").arg("~").arg(self.settings.reply_length);
            command.arg("*");
            let named = REPLY_FIELDS.into_iter().zip(reply.fields());
            named.filter(|(name, value)| *name != "traceparent" || !value.is_empty()).for_each(|(name, value)| {
                command.arg(name).arg(value);
            });
        }
        let answers: Vec<RedisResult<Value>> = pipeline.ignore_errors().query_async(&mut self.connection()).await?;
        let mut failed = 0;
        for error in answers.into_iter().filter_map(Result::err).map(BrokerError::from) {
            if !error.is_about_keys() {
                return Err(error);
            }
            failed += 1;
        }
        Ok(failed)
    }
}
