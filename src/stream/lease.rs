//! The lease of a stream: a small hash beside it that says who owns it, with a beat that grows.
//!
//! It lives in the broker, with its stream: whoever cannot reach it cannot read either. It has no time in it and never expires:
//! see [`crate::fleet`].

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, Value};

use super::connection::{Broker, BrokerError, Generation};
use super::group::consumers;
use super::keys::owner;
use crate::fleet::{Lease, Take, Tenancy};

/// Takes the stream, if its lease is still as it was seen; one that is not there was seen with empty values.
/// KEYS: owner. ARGV: id and beats as they were seen, id, host.
pub(super) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local was = redis.call('HMGET', KEYS[1], 'id', 'beats')
        if (was[1] or '') ~= ARGV[1] or (was[2] or '') ~= ARGV[2] then return 0 end
        redis.call('HSET', KEYS[1], 'id', ARGV[3], 'host', ARGV[4], 'state', 'owning', 'clean', 0, 'wants', '')
        redis.call('HINCRBY', KEYS[1], 'beats', 1)
        return redis.call('HINCRBY', KEYS[1], 'epoch', 1)",
    )
});

/// Says that the owner is there, unless somebody else has taken the stream. A lease that is gone is made again: nobody has taken the
/// stream since. Nobody's name is empty. Returns the beats, or 0. KEYS: owner. ARGV: id, host, epoch, state, 1 when nothing is left behind, and what a job needs of the next
/// owner.
pub(super) static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local id = redis.call('HGET', KEYS[1], 'id')
        if ARGV[1] == '' or (id and id ~= ARGV[1]) then return 0 end
        if not id then redis.call('HSET', KEYS[1], 'id', ARGV[1], 'host', ARGV[2], 'epoch', ARGV[3]) end
        redis.call('HSET', KEYS[1], 'state', ARGV[4], 'clean', ARGV[5], 'wants', ARGV[6])
        return redis.call('HINCRBY', KEYS[1], 'beats', 1)",
    )
});

/// The fields of a lease that are read, in the order of [`Row`].
const FIELDS: [&str; 7] = ["id", "host", "state", "epoch", "beats", "clean", "wants"];

type Row = (Option<String>, Option<String>, Option<String>, Option<u64>, Option<u64>, Option<u8>, Option<String>);

/// How a process is known to the others.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    /// Its name for this time; nobody else's.
    pub id: &'a str,
    /// Machine and process, for people.
    pub host: &'a str,
}

/// A connection for leases alone, so that nothing delays a beat, to the server of the shared one. After an error it is of no use.
/// Clones share it.
#[derive(Clone)]
pub struct LeaseLine {
    pub(super) connection: MultiplexedConnection,
    broker: Broker,
    generation: Generation,
}

impl Broker {
    /// Opens a line on which no answer may take longer than `limit`.
    pub async fn lease_line(&self, limit: Duration) -> Result<LeaseLine, BrokerError> {
        let (mut connection, generation) = self.beside().await?;
        // So that a sign of life is one way there and back, also over a slow line.
        let mut scripts = redis::pipe();
        scripts.load_script(&TAKE).load_script(&BEAT);
        scripts.query_async::<()>(&mut connection).await?;
        connection.set_response_timeout(limit);
        Ok(LeaseLine { connection, broker: self.clone(), generation })
    }

    /// The leases of these streams as they are now.
    pub async fn leases(&self, streams: &[String]) -> Result<Vec<Lease>, BrokerError> {
        read(streams, &mut self.connection()).await
    }
}

impl LeaseLine {
    /// Whether it leads to the server where the jobs are read.
    pub fn is_current(&self) -> bool {
        self.broker.holder.is_current(self.generation.number)
    }

    /// The leases of these streams as they are now.
    pub async fn look(&mut self, streams: &[String]) -> Result<Vec<Lease>, BrokerError> {
        read(streams, &mut self.connection).await
    }

    /// Whether a daemon of an earlier version, which shares the stream, is alive.
    pub async fn is_shared(&mut self, stream: &str) -> Result<bool, BrokerError> {
        let settings = self.broker.settings.clone();
        match consumers::list(stream, &settings.group)
            .query_async(&mut self.connection)
            .await
            .map_err(BrokerError::from)
        {
            Ok(consumers) => {
                let consumers: Vec<HashMap<String, Value>> = consumers;
                Ok(consumers::is_shared(&consumers, settings.claim_after))
            }
            // No stream or no group, no consumers.
            Err(error) if error.is_group_gone() || error.is_about_keys() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the stream, if its lease is still as it was `seen`; else somebody was faster.
    pub async fn take(&mut self, stream: &str, seen: &Lease, name: Name<'_>) -> Result<Option<Take>, BrokerError> {
        let beats = if seen.id.is_empty() { String::new() } else { seen.beats.to_string() };
        let mut call = TAKE.key(owner(stream));
        call.arg(&seen.id).arg(beats).arg(name.id).arg(name.host);
        let epoch: u64 = call.invoke_async(&mut self.connection).await?;
        // Of a lease that is gone nobody knows what its owner has begun.
        let is_clean = seen.tenancy == Tenancy::Free && seen.is_clean && !seen.id.is_empty();
        Ok((epoch > 0).then_some(Take { epoch, is_clean }))
    }

    /// Says that the owner is there, or with [`Tenancy::Free`] that it is not any more, and whether nothing is left behind that it
    /// may have begun. Returns false when somebody else has taken the stream.
    pub async fn beat(
        &mut self,
        stream: &str,
        name: Name<'_>,
        epoch: u64,
        (tenancy, is_clean): (Tenancy, bool),
        wants: &str,
    ) -> Result<bool, BrokerError> {
        let mut call = BEAT.key(owner(stream));
        call.arg(name.id).arg(name.host).arg(epoch).arg(tenancy.as_str()).arg(u8::from(is_clean)).arg(wants);
        Ok(call.invoke_async::<u64>(&mut self.connection).await? > 0)
    }
}

async fn read(streams: &[String], connection: &mut impl redis::aio::ConnectionLike) -> Result<Vec<Lease>, BrokerError> {
    let mut pipeline = redis::pipe();
    for stream in streams {
        pipeline.cmd("HMGET").arg(owner(stream)).arg(&FIELDS);
    }
    let rows: Vec<RedisResult<Value>> = pipeline.ignore_errors().query_async(connection).await?;
    let lease = |row: RedisResult<Value>| -> Result<Lease, BrokerError> {
        let (id, host, state, epoch, beats, clean, wants): Row =
            redis::from_redis_value(row?).map_err(redis::RedisError::from)?;
        Ok(Lease {
            id: id.unwrap_or_default(),
            host: host.unwrap_or_default(),
            tenancy: state.as_deref().map(Tenancy::of).unwrap_or_default(),
            epoch: epoch.unwrap_or_default(),
            beats: beats.unwrap_or_default(),
            is_clean: clean == Some(1),
            wants: wants.unwrap_or_default(),
        })
    };
    rows.into_iter().map(lease).collect()
}
