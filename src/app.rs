//! The composition root: builds the parts, starts the loops, and drains them in order.

mod farewell;
mod health;
mod open;
mod sample;
mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::batch::{
    Back, BrokerClock, Cache, DECIDED_IN_VAIN, Deciding, Engine, Forecast, Incidents, Keyring, Newest, Progress, Trust,
};
use crate::config::Config;
use crate::connect;
use crate::domain::Domain;
use crate::http::{self, Endpoints};
use crate::lifecycle::{Lifecycle, Phase};
use crate::lock;
use crate::metrics::{DrainOutcome, Known, Metrics};
use crate::plan::{Limits, Terms};
use crate::projection::Projection;
use crate::retention;
use crate::spans::Spans;
use crate::store::{Conflict, Outage, Repeat};
use crate::worker::{self, Dispatcher, Drained, Hand, Intake, Reading};
use open::{accept, inspect, prepare};
use sample::Sampler;

pub use health::Health;
pub use open::{StartError, broker, locks, store};

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything in flight was finished.
    Drained,
    /// The time for draining ran out; what was in flight is claimed by others.
    Overrun,
    /// A loop ended or panicked.
    Broken,
    /// A second signal came.
    Aborted,
}

/// A daemon whose parts are connected.
struct Daemon<D: Domain> {
    engine: Arc<Engine<D>>,
    hand: Hand,
    lifecycle: Lifecycle,
    listener: tokio::net::TcpListener,
    spans: Spans,
}

/// Runs the daemon until `lifecycle` says otherwise. `projections` are the domain's read models.
pub async fn run<D: Domain>(
    config: &Config,
    projections: Vec<Box<dyn Projection<D>>>,
    lifecycle: Lifecycle,
) -> Result<End, StartError> {
    let metrics = Metrics::new().map_err(|error| StartError::Refused(error.to_string()))?;
    run_with(config, projections, lifecycle, Arc::new(metrics)).await
}

/// As [`run`], with metrics that the caller looks at as well.
pub async fn run_with<D: Domain>(
    config: &Config,
    projections: Vec<Box<dyn Projection<D>>>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
) -> Result<End, StartError> {
    let daemon = tokio::select! {
        daemon = connect_all(config, projections, lifecycle.clone(), metrics) => daemon?,
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
    if config.lock.nodes.len() == 1 {
        tracing::info!(
            "one lock node: it only saves work as long as it is up; a quorum needs three. The database decides"
        );
    }
    Ok(daemon.supervise(config).await)
}

async fn connect_all<D: Domain>(
    config: &Config,
    projections: Vec<Box<dyn Projection<D>>>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
) -> Result<Daemon<D>, StartError> {
    let nodes: Vec<String> = (1..=config.lock.nodes.len()).map(connect::node_name).collect();
    let repeats: Vec<_> = Repeat::ALL.map(Repeat::as_str).into_iter().chain([DECIDED_IN_VAIN]).collect();
    metrics.start(&Known {
        queues: &config.stream.names,
        job_types: D::JOBS,
        event_types: D::EVENTS,
        put_back: &Back::ALL.map(Back::as_str),
        conflicts: &Conflict::ALL.map(Conflict::as_str),
        repeats: &repeats,
        outages: &Outage::ALL.map(Outage::as_str),
        lock_nodes: &nodes,
        lock_ops: &lock::Op::ALL.map(lock::Op::as_str),
        lock_outcomes: &lock::NodeOutcome::ALL.map(lock::NodeOutcome::as_str),
    });
    let spans = Spans::from_environment().map_err(|error| StartError::Refused(error.to_string()))?;
    metrics.configured(true, unix_seconds());
    let store = store(config).await?.observed(metrics.clone()).only_to_write();
    prepare(&store, config).await?;
    let broker = broker(config).await?;
    accept(&broker, config).await?;
    broker.ensure_groups().await?;
    let locks = locks(config, metrics.clone())?;
    inspect(&locks).await?;
    let clock = BrokerClock::default();
    clock.set(broker.time_ms().await?);
    let listen = config.http.listen;
    let listener = http::bind(listen)
        .await
        .map_err(|error| StartError::Unavailable(format!("http.listen: {listen} cannot be opened: {error}")))?;
    let max_packet = store.server().await?.max_packet;
    let cache = Cache::new(config.batch.cache_bytes as usize);
    let engine = Arc::new(Engine {
        store,
        broker,
        max_packet,
        locks,
        ring: Keyring::default(),
        projections,
        cache,
        clock,
        metrics,
        incidents: Incidents::default(),
        deciding: Deciding::default(),
        newest: Newest::default(),
        trust: Trust::default(),
        progress: Progress::default(),
        forecast: Forecast::default(),
    });
    watch::watch(&engine, config.batch.decide_timeout)
        .map_err(|error| StartError::Unavailable(format!("no thread can be started: {error}")))?;
    let hand = Hand::new(config.stream.prefetch, config.stream.prefetch_bytes as usize);
    Ok(Daemon { engine, hand, lifecycle, listener, spans })
}

impl<D: Domain> Daemon<D> {
    /// Starts every loop, waits for the end of one of them or for the drain, and sees the drain through.
    async fn supervise(self, config: &Config) -> End {
        let Self { engine, hand, lifecycle, listener, spans } = self;
        let (metrics, locks) = (engine.metrics.clone(), engine.locks.clone());
        let broker = engine.broker.clone();
        let reading = Reading::new(metrics.clone());
        let health = Health::default();
        let endpoints = Endpoints {
            metrics: metrics.clone(),
            lifecycle: lifecycle.clone(),
            health: health.clone(),
            reading: reading.clone(),
            locks,
        };
        let watch = health::Watch {
            engine: engine.clone(),
            hand: hand.clone(),
            reading: reading.clone(),
            health,
            decide_timeout: config.batch.decide_timeout,
        };
        let max_connections = config.database.max_connections;
        let sampler = Sampler {
            engine: engine.clone(),
            endpoints: endpoints.clone(),
            hand: hand.clone(),
            max_connections,
            retains: config.retention.is_on(),
        };
        let mut beside: JoinSet<&str> = JoinSet::new();
        beside.spawn(async move {
            let _ = http::serve(listener, endpoints).await;
            "http"
        });
        beside.spawn(follow_head(engine.clone()));
        beside.spawn(async move {
            watch.run().await;
            "health"
        });
        beside.spawn(async move {
            sampler.run().await;
            "sampler"
        });

        let (sender, entries) = mpsc::unbounded_channel();
        let read_count = config.stream.read_count as usize;
        let (intake_metrics, intake_lifecycle) = (metrics.clone(), lifecycle.clone());
        let incidents = Arc::new(Incidents::default());
        let intake = Intake {
            broker: broker.clone(),
            hand: hand.clone(),
            entries: sender,
            lifecycle: intake_lifecycle,
            metrics: intake_metrics,
            reading: reading.clone(),
            incidents: incidents.clone(),
            read_count,
        };
        let (alive_broker, alive_hand, heartbeat) = (broker.clone(), hand.clone(), config.stream.heartbeat);
        beside.spawn(async move {
            worker::keep_alive(alive_broker, alive_hand, heartbeat, incidents).await;
            "keep_alive"
        });
        if config.retention.is_on() {
            let (store, broker, metrics) = (engine.store.clone(), broker.clone(), metrics.clone());
            let kept = retention::keep(config.clone(), store, broker, metrics, lifecycle.clone());
            beside.spawn(async move {
                kept.await;
                "retention"
            });
        }
        let dispatcher =
            Dispatcher::new(engine.clone(), hand.clone(), lifecycle.clone(), reading, settings(config), spans.clone());
        let mut loops: Loops = JoinSet::new();
        loops.spawn(async move { dispatcher.run(entries).await });
        loops.spawn(async move { Ok(Drained { finished: 0, handed_back: intake.run().await }) });
        let (end, drained) = watch_over(loops, beside, &lifecycle, &metrics, config.drain.timeout).await;
        let abandoned = match end {
            End::Drained => farewell::leave(&broker, &hand).await,
            End::Overrun | End::Broken | End::Aborted => farewell::abandon(&engine, &broker, &hand).await,
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
        let Drained { finished, handed_back } = drained;
        tracing::info!(end = ?end, finished, handed_back, abandoned, "lockkeeper has ended");
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
    }
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
    let mut broken = tokio::select! {
        // Asked first: a loop with nothing in hand may have drained before this is polled.
        biased;
        () = lifecycle.reached(Phase::Draining) => false,
        ended = loops.join_next() => {
            tracing::error!(?ended, "a loop ended that must not end");
            true
        }
        ended = beside.join_next() => {
            tracing::error!(?ended, "a loop ended that must not end");
            true
        }
    };
    lifecycle.advance(Phase::Draining);
    let now = unix_seconds();
    metrics.draining(now, now + limit.as_secs_f64());
    tracing::info!(limit.ms = limit.as_millis() as u64, "draining");
    let mut drained = Drained::default();
    let finish = async {
        while let Some(ended) = loops.join_next().await {
            match ended {
                Ok(Ok(Drained { finished, handed_back })) => {
                    drained.finished += finished;
                    drained.handed_back += handed_back;
                }
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

/// Looks every few seconds whether the database still has what it had: an idle daemon must not go by states that rest on
/// commits which are gone.
async fn follow_head<D: Domain>(engine: Arc<Engine<D>>) -> &'static str {
    loop {
        let known = engine.newest.get();
        if let Ok(head) = engine.store.sequence().await {
            engine.note_head(known, head);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
