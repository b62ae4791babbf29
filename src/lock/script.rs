//! What is sent to a lock node, and what the replies mean.
//!
//! Scripts are sent as text with every call. A digest would save Redis half a microsecond per call (measured) and cost a
//! path for the node that has lost the script, where a repeated request must not overtake the ones behind it.

use super::quorum::Vote;
use redis::{Cmd, Value};
use std::sync::Arc;
use std::time::Duration;

/// `SET key token NX PX ttl` for every key, and 1 where all are granted.
///
/// The first key that is free is set, and the others are copied from it, token and end alike: `COPY` too leaves alone what
/// is there, of whatever type it is, and costs two thirds of a `SET` here (measured). Time stands still while a script
/// runs, so the first key is there until the last is copied. Where copying fails, because the account lacks the right or
/// the server is older than 6.2, every key is set by itself. The protected call keeps one key's error from failing all the
/// others.
const ACQUIRE: &str = "local call, keys, token, ttl = redis.pcall, KEYS, ARGV[1], ARGV[2]
local source, votes
local function set(key)
  local reply = call('SET', key, token, 'NX', 'PX', ttl)
  return reply and (reply.err or 1) or 0
end
for i = 1, #keys do
  local key = keys[i]
  local vote = source and call('COPY', source, key)
  if vote ~= 1 and vote ~= 0 then
    if vote then source = false end
    vote = set(key)
    if vote == 1 and source == nil then source = key end
  end
  if vote ~= 1 and not votes then
    votes = {}
    for granted = 1, i - 1 do votes[granted] = 1 end
  end
  if votes then votes[i] = vote end
end
return votes or 1";

/// The same, one by one, and a key is granted as well that is held by one who is gone: whose token begins with one of the names
/// that follow the ttl.
const SUCCEED: &str = "local call, token, ttl, gone, votes = redis.pcall, ARGV[1], ARGV[2], {}, {}
for i = 3, #ARGV do gone[ARGV[i]] = 1 end
for i, key in ipairs(KEYS) do
  local reply = call('SET', key, token, 'NX', 'PX', ttl)
  local vote = reply and (reply.err or 1) or 0
  if vote == 0 then
    local holder = call('GET', key)
    if type(holder) == 'string' and gone[string.sub(holder, 1, 16)] then
      reply = call('SET', key, token, 'PX', ttl)
      vote = reply.err or 1
    end
  end
  votes[i] = vote
end
return votes";

/// Compare and delete: only the holder's own token is removed, never the next holder's.
const RELEASE_ONE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/// The same for many keys, which are read and deleted at once: half the time of a call for each (measured). Lua unpacks
/// some thousand values at most. A key of another type reads as nil, and is not ours. Names take the place of values that
/// have been looked at, which spares a table.
const RELEASE: &str = "local keys, token, released = KEYS, ARGV[1], 0
for first = 1, #keys, 4000 do
  local values, mine = redis.call('MGET', unpack(keys, first, math.min(first + 3999, #keys))), 0
  for i = 1, #values do
    if values[i] == token then
      mine = mine + 1
      values[mine] = keys[first + i - 1]
    end
  end
  if mine > 0 then released = released + redis.call('DEL', unpack(values, 1, mine)) end
end
return released";

/// Reset the life of every key that is still ours. A key that is gone is not set again: somebody may have had it since.
const EXTEND: &str = "local extended = {}
for i, key in ipairs(KEYS) do
  local reply = 0
  if redis.pcall('GET', key) == ARGV[1] then reply = redis.pcall('PEXPIRE', key, ARGV[2]) end
  extended[i] = type(reply) == 'table' and reply.err or reply
end
return extended";

/// The call that sets all keys that are free, or held by one of those who are gone. For a single key that may only be free the
/// plain command does, at half the cost (measured).
pub(super) fn acquire(keys: &[String], token: &str, ttl: Duration, gone: &[Arc<str>]) -> Cmd {
    let ttl = ttl.as_millis().to_string();
    if !gone.is_empty() {
        let mut cmd = call(SUCCEED, keys, token);
        cmd.arg(ttl);
        for name in gone {
            cmd.arg(&**name);
        }
        return cmd;
    }
    if let [key] = keys {
        let mut cmd = redis::cmd("SET");
        cmd.arg(key).arg(token).arg("NX").arg("PX").arg(ttl);
        return cmd;
    }
    let mut cmd = call(ACQUIRE, keys, token);
    cmd.arg(ttl);
    cmd
}

/// The call that lets all keys which still carry the token live for another ttl.
pub(super) fn extend(keys: &[String], token: &str, ttl: Duration) -> Cmd {
    let mut cmd = call(EXTEND, keys, token);
    cmd.arg(ttl.as_millis().to_string());
    cmd
}

/// The call that deletes all keys that still carry the token.
pub(super) fn release(keys: &[String], token: &str) -> Cmd {
    call(if keys.len() == 1 { RELEASE_ONE } else { RELEASE }, keys, token)
}

fn call(script: &str, keys: &[String], token: &str) -> Cmd {
    let size = script.len() + token.len() + keys.iter().map(String::len).sum::<usize>();
    // The name, the number of keys and the ttl come on top.
    let mut cmd = Cmd::with_capacity(keys.len() + 5, size + 32);
    cmd.arg("EVAL").arg(script).arg(keys.len()).arg(keys).arg(token);
    cmd
}

/// A node's answer to one call: a vote per key, and the first error among them.
pub(super) struct Answer {
    pub votes: Vec<Vote>,
    pub error: Option<String>,
    /// Whether the node has become the replica of another: its name may lead to that one by now.
    pub is_replica: bool,
}

impl Answer {
    fn granted(keys: usize) -> Self {
        Self { votes: vec![Vote::Granted; keys], error: None, is_replica: false }
    }

    fn refused(keys: usize, error: String) -> Self {
        Self { votes: vec![Vote::Failed; keys], error: Some(error), is_replica: false }
    }
}

/// Reads a reply to an acquire or an extension of so many keys. For an extension, `Granted` is a key that was ours and
/// `Held` one that was not any more.
pub(super) fn read(reply: Value, keys: usize) -> Answer {
    let values = match reply {
        Value::Array(values) if values.len() == keys => values,
        // The script has set every key.
        Value::Int(1) if keys > 1 => return Answer::granted(keys),
        // The plain command sets its key, or does not.
        Value::Okay if keys == 1 => return Answer::granted(keys),
        Value::Nil if keys == 1 => vec![Value::Int(0)],
        Value::ServerError(error) => {
            let is_replica = is_replica(error.code());
            return Answer { is_replica, ..Answer::refused(keys, error.to_string()) };
        }
        _ => return Answer::refused(keys, "the reply has another shape than one value per key".into()),
    };
    let mut answer = Answer { votes: Vec::with_capacity(keys), error: None, is_replica: false };
    for value in values {
        answer.votes.push(match value {
            Value::Int(1) => Vote::Granted,
            Value::Int(0) => Vote::Held,
            other => {
                let error = text(other);
                // The script hands errors on as they were sent, with the code as their first word.
                answer.is_replica |= error.split(' ').next().is_some_and(is_replica);
                answer.error.get_or_insert(error);
                Vote::Failed
            }
        });
    }
    answer
}

fn is_replica(code: &str) -> bool {
    matches!(code, "READONLY" | "MASTERDOWN")
}

/// Reads a reply to a release: whether it was carried out, however many keys were still ours.
pub(super) fn is_released(reply: &Value) -> bool {
    matches!(reply, Value::Int(_))
}

fn text(value: Value) -> String {
    redis::from_redis_value(value).unwrap_or_else(|_| "the script's reply is neither a number nor an error".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_own_vote() {
        let oom = Value::BulkString(b"OOM command not allowed".to_vec());
        let answer = read(Value::Array(vec![Value::Int(1), Value::Int(0), oom]), 3);
        assert_eq!(answer.votes, [Vote::Granted, Vote::Held, Vote::Failed]);
        assert_eq!(answer.error.as_deref(), Some("OOM command not allowed"));
        assert!(!answer.is_replica);
    }

    #[test]
    fn a_node_that_has_become_a_replica_says_so_by_the_code_of_its_answer() {
        let read_only = || Value::BulkString(b"READONLY You can't write against a read only replica.".to_vec());
        assert!(read(Value::Array(vec![Value::Int(1), read_only()]), 2).is_replica);
        let other = Value::BulkString(b"ERR about READONLY".to_vec());
        assert!(!read(Value::Array(vec![Value::Int(1), other]), 2).is_replica);
    }

    #[test]
    fn one_number_grants_every_key_of_many() {
        let answer = read(Value::Int(1), 2);
        assert!(answer.votes == [Vote::Granted, Vote::Granted] && answer.error.is_none());
        assert_eq!(read(Value::Int(1), 1).votes, [Vote::Failed]);
    }

    #[test]
    fn a_reply_of_another_length_or_kind_is_no_vote_for_anything() {
        for reply in [Value::Array(vec![Value::Int(1)]), Value::Nil, Value::Okay, Value::Int(2), Value::Int(0)] {
            let answer = read(reply, 2);
            assert_eq!(answer.votes, [Vote::Failed, Vote::Failed]);
            assert!(answer.error.is_some());
        }
    }

    #[test]
    fn a_single_key_is_set_or_held_or_refused() {
        assert_eq!(read(Value::Okay, 1).votes, [Vote::Granted]);
        assert_eq!(read(Value::Nil, 1).votes, [Vote::Held]);
        assert_eq!(read(Value::SimpleString("PONG".into()), 1).votes, [Vote::Failed]);
        let packed = acquire(&["a".into()], "t", Duration::from_millis(1500), &[]).get_packed_command();
        assert_eq!(packed, b"*6\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nt\r\n$2\r\nNX\r\n$2\r\nPX\r\n$4\r\n1500\r\n");
    }

    #[test]
    fn a_call_names_its_keys_then_token_and_ttl() {
        let packed = acquire(&["a".into(), "b".into()], "t", Duration::from_millis(1500), &[]).get_packed_command();
        let packed = String::from_utf8(packed).expect("ASCII");
        assert!(packed.ends_with("$1\r\n2\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nt\r\n$4\r\n1500\r\n"), "{packed}");
    }
}
