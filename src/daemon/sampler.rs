//! Samples what needs a question to be known, off the path of the jobs.
//!
//! Each server is asked on its own: one that does not answer leaves what the others tell as it is. What it would have told
//! is unknown meanwhile, and left out of the metrics.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Interval, MissedTickBehavior};

use crate::batch::Engine;
use crate::domain::Domain;
use crate::http::{self, Endpoints};
use crate::lifecycle::Phase;
use crate::lock::NodeHealth;
use crate::metrics::{Asked, NodeState, QueueSample, State};
use crate::worker::Prefetch;

/// Time between two samples.
const INTERVAL: Duration = Duration::from_secs(2);

/// Samples from one look at our rights to the next, unless something was refused.
const RIGHTS_EVERY: u64 = 5;

/// What is sampled.
pub(super) struct Sampler<D: Domain> {
    pub engine: Arc<Engine<D>>,
    pub endpoints: Endpoints,
    pub prefetch: Prefetch,
    pub max_connections: u32,
    pub retains: bool,
}

impl<D: Domain> Sampler<D> {
    /// Samples for as long as it is polled.
    pub async fn run(self) {
        let (mut broker, mut database, mut process) = (ticks(INTERVAL), ticks(INTERVAL), ticks(INTERVAL / 2));
        let brokers = async {
            for round in 0_u64.. {
                broker.tick().await;
                let rights = round % RIGHTS_EVERY == 0 || self.engine.broker.is_in_doubt();
                self.broker(rights).await;
            }
        };
        let databases = async {
            loop {
                database.tick().await;
                self.database().await;
            }
        };
        let processes = async {
            loop {
                process.tick().await;
                self.process();
            }
        };
        tokio::join!(brokers, databases, processes);
    }

    async fn broker(&self, rights: bool) {
        let (broker, metrics) = (&self.engine.broker, &self.engine.metrics);
        let time = broker.time_ms().await;
        if rights && time.is_ok() {
            self.rights().await;
        }
        match time {
            Ok(now_ms) => self.engine.clock.set(now_ms),
            Err(_) => metrics.collect_failed(Asked::Clock),
        }
        let asked = broker.settings().names.iter();
        let asked = asked.map(async |queue| (queue, tokio::join!(broker.sample(queue), broker.lost(queue))));
        for (queue, (sample, lost)) in join_all(asked).await {
            if !sample.as_ref().is_ok_and(QueueSample::is_whole) {
                metrics.collect_failed(Asked::Queue);
            }
            metrics.queue(queue, &broker.settings().group, sample.ok());
            match lost {
                Ok(0) => {}
                Ok(lost) => {
                    metrics.entries_lost(queue, lost);
                    tracing::error!(queue = %queue, lost, "entries were trimmed or deleted before they were run");
                }
                Err(_) => metrics.collect_failed(Asked::Lost),
            }
        }
    }

    /// Whether the broker still lets us do all that we do. What it says while it is away is nothing about that.
    async fn rights(&self) {
        let broker = &self.engine.broker;
        let before = broker.permits();
        if broker.probe(self.retains).await.is_err() {
            return;
        }
        match broker.permits() {
            now if now == before => {}
            Ok(()) => tracing::info!("the broker lets this daemon do all that it has to"),
            Err(why) => tracing::error!(%why, "the broker refuses what this daemon has to do"),
        }
    }

    /// Where the log ends; and whether the database still has what it had: an idle daemon must not go by states that rest on commits
    /// which are gone.
    async fn database(&self) {
        let metrics = &self.engine.metrics;
        let known = self.engine.head.get();
        match self.engine.store.sequence().await {
            Ok(head) => {
                self.engine.note_head(known, head);
            }
            Err(_) => {
                metrics.collect_failed(Asked::Database);
                metrics.head(None);
            }
        }
    }

    /// What this process knows without asking.
    fn process(&self) {
        let (engine, metrics, lifecycle) = (&self.engine, &self.engine.metrics, &self.endpoints.lifecycle);
        let nodes = engine.locks.nodes();
        let states: Vec<_> = nodes
            .iter()
            .map(|node| NodeState {
                name: &node.name,
                up: node.is_up(),
                breaker_open: node.health == NodeHealth::Silent,
                quarantined: node.health == NodeHealth::Quarantined,
            })
            .collect();
        metrics.nodes(engine.locks.quorum(), &states);
        metrics.ready("locks", http::locks(&self.endpoints).is_ok());
        metrics.ready("lifecycle", http::lifecycle(&self.endpoints).is_ok());
        let (used, idle) = engine.store.connections();
        metrics.pool(used, idle, self.max_connections);
        if lifecycle.phase() == Phase::Running {
            metrics.state(if lifecycle.is_quiet() { State::Paused } else { State::Running });
        } else {
            metrics.drain_waits_for(self.prefetch.count());
        }
        for queue in &engine.broker.settings().names {
            metrics.suspects(queue, self.prefetch.suspects(queue));
        }
        if let Some(reloaded) = lifecycle.reloaded() {
            metrics.configured(reloaded.succeeded, reloaded.unix_seconds);
        }
        metrics.upkeep();
    }
}

/// The first tick comes at once.
fn ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
