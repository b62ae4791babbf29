//! The composition root: builds the parts, starts the loops, and drains them in order.

mod connect;
mod health;
mod open;
mod sampler;
mod shutdown;
mod vouch;
mod watchdog;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::batch::Incidents;
use crate::domain::Domain;
use crate::http::{self, Endpoints};
use crate::metrics::{DrainOutcome, Metrics};
use crate::plan::{Limits, Terms};
use crate::retention;
use crate::subscription::{self, Subscriptions};
use crate::worker::{self, Dispatcher, Drained, Intake, IntakeStatus};
use connect::{Daemon, connect_all, unix_seconds};
use sampler::Sampler;

pub use connect::ReadModels;
pub use open::StartError;

pub use crate::config::{Config, Problems, load};
pub use crate::lifecycle::{Lifecycle, Phase};

pub(crate) use connect::machine;
pub(crate) use health::Health;
pub(crate) use open::{broker, locks, store, unread_events};

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything in flight was finished.
    Drained,
    /// The time for draining ran out; what was in flight is left to the streams' next owner.
    Overrun,
    /// A loop ended or panicked.
    Broken,
    /// A second signal came.
    Aborted,
}

/// Runs the daemon until `lifecycle` says otherwise.
pub async fn run<D: Domain>(
    config: &Config,
    read_models: ReadModels<D>,
    lifecycle: Lifecycle,
) -> Result<End, StartError> {
    let metrics = Metrics::new().map_err(|error| StartError::Refused(error.to_string()))?;
    run_with(config, read_models, lifecycle, Arc::new(metrics)).await
}

/// As [`run`], with metrics that the caller looks at as well.
#[doc(hidden)]
pub async fn run_with<D: Domain>(
    config: &Config,
    read_models: ReadModels<D>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
) -> Result<End, StartError> {
    let daemon = tokio::select! {
        daemon = connect_all(config, read_models, lifecycle.clone(), metrics) => daemon?,
        // Whatever server it waits for, there is nothing to drain yet.
        () = lifecycle.reached(Phase::Draining) => {
            tracing::info!("a signal came before every server was connected: there is nothing to drain");
            return Ok(End::Drained);
        }
    };
    let address = daemon.listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    tracing::info!(
        http = %address, queues = %config.stream.names.join(","), lock.nodes = config.lock.nodes.len(),
        version = env!("CARGO_PKG_VERSION"), "lockkeeper is running"
    );
    if !config.stream.heartbeat.is_zero() {
        tracing::info!(
            "stream.heartbeat_ms is without effect: a stream has one owner, whose jobs need no signs of life"
        );
    }
    if config.lock.nodes.len() == 1 {
        tracing::info!(
            "one lock node: it only saves work as long as it is up; a quorum needs three. The database decides"
        );
    }
    Ok(daemon.supervise(config).await)
}

impl<D: Domain> Daemon<D> {
    /// Starts every loop, waits for the end of one of them or for the drain, and sees the drain through.
    async fn supervise(self, config: &Config) -> End {
        let Self { engine, sources, prefetch, seats, lifecycle, listener, spans, fitness } = self;
        let (metrics, locks) = (engine.metrics.clone(), engine.locks.clone());
        let broker = engine.broker.clone();
        let reading = IntakeStatus::new(metrics.clone());
        let health = Health::default();
        let endpoints = Endpoints {
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
            health: health.clone(),
            reading: reading.clone(),
            locks,
            seats: seats.clone(),
        };
        let watch = health::Watch {
            engine: engine.clone(),
            prefetch: prefetch.clone(),
            reading: reading.clone(),
            health,
            fitness,
            sources: sources.clone(),
            decide_timeout: config.batch.decide_timeout,
            despite_schemas: config.despite_schemas,
        };
        let max_connections = config.database.max_connections;
        let sampler = Sampler {
            engine: engine.clone(),
            endpoints: endpoints.clone(),
            prefetch: prefetch.clone(),
            max_connections,
            retains: config.retention.is_on(),
        };
        let mut beside: JoinSet<&str> = JoinSet::new();
        beside.spawn(async move {
            let _ = http::serve(listener, endpoints).await;
            "http"
        });
        beside.spawn(async move {
            watch.run().await;
            "health"
        });
        beside.spawn(async move {
            sampler.run().await;
            "sampler"
        });

        let watched = seats.clone();
        beside.spawn(async move {
            watched.ended().await;
            "seats"
        });

        let (sender, entries) = mpsc::unbounded_channel();
        let read_count = config.stream.read_count as usize;
        let (intake_metrics, intake_lifecycle) = (metrics.clone(), lifecycle.clone());
        let incidents = Arc::new(Incidents::default());
        let intake = Intake {
            broker: broker.clone(),
            prefetch: prefetch.clone(),
            entries: sender,
            lifecycle: intake_lifecycle,
            metrics: intake_metrics,
            reading: reading.clone(),
            incidents,
            seats: seats.clone(),
            read_count,
            hold_after_dead: config.stream.hold_after_dead,
            first: config.stream.first.clone(),
        };
        if config.retention.is_on() {
            let (store, broker, metrics) = (engine.store.clone(), broker.clone(), metrics.clone());
            let kept = retention::keep(config.clone(), store, broker, metrics, lifecycle.clone());
            beside.spawn(async move {
                kept.await;
                "retention"
            });
        }
        let dispatcher = Dispatcher::new(
            engine.clone(),
            prefetch.clone(),
            seats.clone(),
            lifecycle.clone(),
            reading,
            settings(config),
            spans.clone(),
        );
        let mut loops: Loops = JoinSet::new();
        loops.spawn(async move { dispatcher.run(entries).await });
        loops.spawn(async move {
            intake.run().await;
            Ok(Drained::default())
        });
        if config.subscriptions.run {
            let owner = seats.clone();
            let subscriptions = Subscriptions {
                engine: engine.clone(),
                sources,
                lifecycle: lifecycle.clone(),
                settings: subscription_settings(config),
                holder: connect::host(),
                is_owner: Arc::new(move || owner.held().iter().any(Option::is_some)),
            };
            loops.spawn(async move {
                subscriptions.run().await;
                Ok(Drained::default())
            });
        }
        let (end, drained) = watch_over(loops, beside, &lifecycle, &metrics, config.drain.timeout).await;
        let abandoned = match end {
            End::Drained => shutdown::leave(&broker, &prefetch, &seats).await,
            End::Overrun | End::Broken | End::Aborted => shutdown::abandon(&engine, &prefetch, &seats).await,
        };
        metrics.drained(DrainOutcome::Abandoned, abandoned);
        // A release that is lost keeps its keys from everyone for a ttl, so a drain waits for the nodes; a second signal is
        // in a hurry.
        engine.locks.settle(if end == End::Aborted { ABORT_SETTLES } else { DRAIN_SETTLES }).await;
        // Connections that do not close in time are closed by the end of the process.
        let _ = tokio::time::timeout(Duration::from_millis(200), engine.store.close()).await;
        tokio::select! {
            () = spans.finish(SPANS_LIMIT) => {}
            () = lifecycle.reached(Phase::Aborting) => {}
        }
        let Drained { finished, left } = drained;
        tracing::info!(end = ?end, finished, left, abandoned, "lockkeeper has ended");
        end
    }
}

/// How long the lock nodes may take to answer the last releases.
const DRAIN_SETTLES: Duration = Duration::from_secs(1);
const ABORT_SETTLES: Duration = Duration::from_millis(200);

/// How long the last spans may take to be exported at the end of a drain, which nobody should wait for.
const SPANS_LIMIT: Duration = Duration::from_secs(1);

/// The loops that must end with the drain and not before; each says what became of its jobs.
type Loops = JoinSet<Result<Drained, worker::Broken>>;

fn settings(config: &Config) -> worker::Settings {
    worker::Settings {
        limits: Limits {
            jobs: config.batch.max_jobs as usize,
            bytes: config.batch.max_bytes as usize,
            aggregates: MAX_KEYS,
            touches: config.batch.max_jobs as usize * TOUCHES_PER_JOB,
        },
        in_flight: config.batch.in_flight as usize,
        max_data_bytes: config.stream.max_data_bytes as usize,
        terms: Terms { retry_delay: config.lock.retry_delay, retry_count: config.lock.retry_count },
        max_deliveries: u64::from(config.stream.max_deliveries),
        unknown_wait: config.stream.unknown_types_wait,
    }
}

fn subscription_settings(config: &Config) -> subscription::Settings {
    let crate::config::Subscriptions { poll, pace, lease, page_events, page_bytes, .. } = config.subscriptions;
    subscription::Settings { poll, pace, lease, page_events, page_bytes }
}

/// The most aggregates of a batch: a lock script stops its node while it runs, and this many keys take it about a
/// millisecond.
const MAX_KEYS: usize = 2000;

/// A full batch of orders of a hundred lines would hold 100,000 events in memory, and the sequence row for as long as they take.
/// Two thousand aggregates, of 512 orders of three items, take the daemon to some 55 MiB; twice as many took 64 (measured).
const TOUCHES_PER_JOB: usize = 2;

/// Waits for the drain, or for a loop that ends before its time, which is a fault; then for the loops, the second signal, or
/// the end of the time for draining. Metrics and readiness are served meanwhile.
async fn watch_over(
    mut loops: Loops,
    mut beside: JoinSet<&'static str>,
    lifecycle: &Lifecycle,
    metrics: &Metrics,
    limit: Duration,
) -> (End, Drained) {
    let mut drained = Drained::default();
    let mut broken = tokio::select! {
        biased;
        () = lifecycle.reached(Phase::Draining) => false,
        // A loop with nothing in hand may have drained before anyone else has heard of it.
        Some(ended) = loops.join_next(), if !loops.is_empty() => match ended {
            Ok(Ok(part)) if !lifecycle.is_running() => {
                drained.add(part);
                false
            }
            ended => {
                tracing::error!(?ended, "a loop ended that must not end");
                true
            }
        },
        ended = beside.join_next() => {
            tracing::error!(?ended, "a loop ended that must not end");
            true
        }
    };
    lifecycle.advance(Phase::Draining);
    let now = unix_seconds();
    metrics.draining(now, now + limit.as_secs_f64());
    tracing::info!(limit.ms = limit.as_millis() as u64, "draining");
    let finish = async {
        while let Some(ended) = loops.join_next().await {
            match ended {
                Ok(Ok(part)) => drained.add(part),
                fault => {
                    tracing::error!(?fault, "a loop ended with a fault");
                    broken = true;
                }
            }
        }
        broken
    };
    let end = tokio::select! {
        broken = finish => if broken { End::Broken } else { End::Drained },
        () = lifecycle.reached(Phase::Aborting) => End::Aborted,
        () = tokio::time::sleep(limit) => End::Overrun,
    };
    (end, drained)
}

#[cfg(test)]
mod tests;
