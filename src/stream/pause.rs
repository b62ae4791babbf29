//! Streams whose jobs are not started for a while, because somebody has said so: for the whole fleet, and over restarts.

use std::sync::LazyLock;

use redis::Script;
use redis::aio::ConnectionLike;

use super::connection::{Broker, BrokerError};
use super::keys::paused;
use super::lease::LeaseLine;

/// Keeps the jobs of a stream from being started. One that is paused already is paused for these reasons from now on.
/// Nobody's name is empty. KEYS: paused. ARGV: reason, actor, until when, or nothing.
pub(super) static PAUSE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if ARGV[2] == '' then return 0 end
        local time = redis.call('TIME')
        local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
        redis.call('HSET', KEYS[1], 'reason', ARGV[1], 'actor', ARGV[2], 'since', now, 'until', ARGV[3])
        return now",
    )
});

/// What is said of each pause that is not over, and nothing of the others. KEYS: paused, for each stream.
pub(super) static PAUSED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now, all = time[1] * 1000 + math.floor(time[2] / 1000), {}
        for i, key in ipairs(KEYS) do
            local said = redis.call('HMGET', key, 'reason', 'actor', 'since', 'until')
            local over = tonumber(said[4] or '')
            all[i] = said[3] and not (over and over <= now) and said or {}
        end
        return all",
    )
});

/// Why, by whom and for how long the jobs of a stream are not started. Times are Unix milliseconds by the broker's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// Why.
    pub reason: String,
    /// By whom.
    pub actor: String,
    /// Since when.
    pub since: u64,
    /// Until when; for ever, if nothing is said.
    pub until: Option<u64>,
}

impl Broker {
    /// Keeps jobs of the stream from being started, whoever owns it, for `reason`, in the name of `actor`.
    pub async fn pause(&self, stream: &str, pause: &Pause) -> Result<(), BrokerError> {
        let mut call = PAUSE.key(paused(stream));
        call.arg(&pause.reason).arg(&pause.actor).arg(pause.until.map(|until| until.to_string()).unwrap_or_default());
        Ok(call.invoke_async::<()>(&mut self.connection()).await?)
    }

    /// Lets jobs of the stream be started again.
    pub async fn resume(&self, stream: &str) -> Result<(), BrokerError> {
        let mut call = redis::cmd("HDEL");
        call.arg(paused(stream)).arg(&["reason", "actor", "since", "until"]);
        Ok(call.query_async(&mut self.connection()).await?)
    }

    /// The pauses of these streams, as far as there are any.
    pub async fn pauses(&self, streams: &[String]) -> Result<Vec<Option<Pause>>, BrokerError> {
        read(streams, &mut self.connection()).await
    }
}

impl LeaseLine {
    /// The pauses of these streams, as far as there are any.
    pub async fn pauses(&mut self, streams: &[String]) -> Result<Vec<Option<Pause>>, BrokerError> {
        read(streams, &mut self.connection).await
    }
}

async fn read(
    streams: &[String],
    connection: &mut (impl ConnectionLike + Send),
) -> Result<Vec<Option<Pause>>, BrokerError> {
    let mut call = PAUSED.prepare_invoke();
    streams.iter().for_each(|stream| {
        call.key(paused(stream));
    });
    let said: Vec<Vec<Option<String>>> = call.invoke_async(connection).await?;
    Ok(said.into_iter().map(pause).collect())
}

fn pause(said: Vec<Option<String>>) -> Option<Pause> {
    let [reason, actor, since, until] = <[Option<String>; 4]>::try_from(said).ok()?;
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    let (reason, actor) = (reason.unwrap_or_default(), actor.unwrap_or_default());
    Some(Pause { reason, actor, since: number(since)?, until: number(until) })
}
