//! The broker's connections.

use std::sync::Arc;
use std::time::Duration;

use super::error::BrokerError;
use super::holder::Holder;
use crate::job::Server;
use crate::stream::keys::retention;
use crate::stream::probe::Probed;
use crate::stream::settings::Settings;

/// The streams of one broker. Clones share one connection, which is replaced by itself when it is of no use any more.
#[derive(Clone)]
pub struct Broker {
    pub(in crate::stream) client: redis::Client,
    pub(in crate::stream) holder: Holder,
    pub(in crate::stream) settings: Arc<Settings>,
    pub(in crate::stream) consumer: Arc<str>,
    pub(in crate::stream) probed: Probed,
}

/// A connection that had an answer of more bytes is replaced, since it keeps the room for it.
pub const LARGE_ANSWER: usize = 4 << 20;

impl Broker {
    /// Connects. `consumer` must be unique per process start, so that a successor never takes a dead process's entries for
    /// its own.
    pub async fn connect(client: redis::Client, settings: Settings, consumer: String) -> Result<Self, BrokerError> {
        let settings = Arc::new(settings);
        let holder = Holder::start(client.clone(), settings.clone()).await?;
        Ok(Self { client, holder, settings, consumer: consumer.into(), probed: Probed::default() })
    }

    /// The names and limits it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The same, for what is meant for one server: it fails when the connection leads to another one.
    pub fn bound_to(&self, server: Option<&Server>) -> Self {
        Self { holder: self.holder.bound_to(server), ..self.clone() }
    }

    /// The shared connection.
    pub(in crate::stream) fn connection(&self) -> Holder {
        self.holder.clone()
    }

    /// Begins anew with all connections, though nothing is wrong with them: their buffers may have grown with a large answer,
    /// and never shrink. Requests under way are answered all the same.
    pub fn retire(&self) {
        self.holder.retire();
    }

    /// The broker's clock, Unix milliseconds.
    pub async fn time_ms(&self) -> Result<u64, BrokerError> {
        let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(&mut self.connection()).await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    /// Creates each stream and group that does not exist, and returns the streams whose group was missing.
    pub async fn ensure_groups(&self) -> Result<Vec<String>, BrokerError> {
        let (mut created, mut refused) = (Vec::new(), None);
        for name in &self.settings.names {
            match self.make_group(name).await {
                Ok(true) => created.push(name.clone()),
                Ok(false) => {}
                // The others are not kept waiting for it.
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if created.is_empty() => Err(error),
            _ => Ok(created),
        }
    }

    /// True for one of all daemons that ask within `interval`: it is its turn to look for what is old.
    pub async fn take_turn(&self, interval: Duration) -> Result<bool, BrokerError> {
        let Some(first) = self.settings.names.first() else { return Ok(false) };
        let mut command = redis::cmd("SET");
        command.arg(retention(first)).arg(&*self.consumer).arg("NX").arg("PX").arg(interval.as_millis() as u64);
        Ok(command.query_async::<Option<String>>(&mut self.connection()).await?.is_some())
    }
}
