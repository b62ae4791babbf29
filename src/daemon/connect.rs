//! Connects every server, in the order in which a mistake is told best, and makes an engine of them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::open::{StartError, accept, adopt_read_models, broker, compare_events, inspect, locks, prepare, store};
use super::watchdog;
use crate::batch::{DECIDED_IN_VAIN, Engine, Parts, PutBackReason};
use crate::config::Config;
use crate::connect;
use crate::domain::Domain;
use crate::fleet::{Fitness, Times};
use crate::http;
use crate::lifecycle::Lifecycle;
use crate::lock;
use crate::metrics::{Known, Metrics};
use crate::projection::{LogProjection, Projection, Source, read_from_log};
use crate::rebuild::Models;
use crate::spans::Spans;
use crate::store::{Conflict, Migration, Outage, Repeat};
use crate::stream::Skills;
use crate::worker::{Prefetch, Seats, Setup};

/// What a domain brings besides its rules.
pub struct ReadModels<D: Domain> {
    /// What keeps those that are written with the events.
    pub projections: Vec<Box<dyn Projection<D>>>,
    /// What keeps those that are read from the log.
    pub log_projections: Vec<Box<dyn LogProjection<D>>>,
    /// Their tables: a history of their own beside the engine's.
    pub migrations: &'static [Migration],
}

/// None.
impl<D: Domain> Default for ReadModels<D> {
    fn default() -> Self {
        Self { projections: Vec::new(), log_projections: Vec::new(), migrations: &[] }
    }
}

/// A daemon whose parts are connected.
pub(super) struct Daemon<D: Domain> {
    pub engine: Arc<Engine<D>>,
    pub sources: Vec<Source<D>>,
    pub prefetch: Prefetch,
    pub seats: Seats,
    pub lifecycle: Lifecycle,
    pub listener: tokio::net::TcpListener,
    pub spans: Spans,
    /// Told by probes whether this process reaches what the work needs.
    pub fitness: watch::Sender<Fitness>,
}

pub(super) async fn connect_all<D: Domain>(
    config: &Config,
    read_models: ReadModels<D>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
) -> Result<Daemon<D>, StartError> {
    let ReadModels { projections, log_projections, migrations } = read_models;
    let nodes: Vec<String> = (1..=config.lock.nodes.len()).map(connect::node_name).collect();
    let repeats: Vec<_> = Repeat::ALL.map(Repeat::as_str).into_iter().chain([DECIDED_IN_VAIN]).collect();
    metrics.start(&Known {
        queues: &config.stream.names,
        job_types: D::JOBS,
        event_types: D::EVENTS,
        put_back: &PutBackReason::ALL.map(PutBackReason::as_str),
        conflicts: &Conflict::ALL.map(Conflict::as_str),
        repeats: &repeats,
        outages: &Outage::ALL.map(Outage::as_str),
        lock_nodes: &nodes,
        lock_ops: &lock::Op::ALL.map(lock::Op::as_str),
        lock_outcomes: &lock::NodeOutcome::ALL.map(lock::NodeOutcome::as_str),
    });
    let spans = Spans::from_environment().map_err(|error| StartError::Refused(error.to_string()))?;
    metrics.configured(true, unix_seconds());
    let store = store(config).await?.with_migrations(migrations).observed(metrics.clone()).only_to_write();
    prepare(&store, config).await?;
    adopt_read_models(&store, config, Models { states: &projections, log: &log_projections }).await?;
    compare_events::<D>(&store, config).await?;
    let broker = broker(config).await?;
    accept(&broker, config).await?;
    broker.ensure_groups().await?;
    let id = format!("{:016x}", rand::random::<u64>());
    let locks = locks(config, metrics.clone())?.named(&id);
    inspect(&locks).await?;
    let listen = config.http.listen;
    let listener = http::bind(listen)
        .await
        .map_err(|error| StartError::Unavailable(format!("http.listen: {listen} cannot be opened: {error}")))?;
    let max_packet = store.server().await?.max_packet;
    let (cache_bytes, hold_after_dead) = (config.batch.cache_bytes as usize, config.stream.hold_after_dead);
    let projections: Vec<Arc<dyn Projection<D>>> = projections.into_iter().map(Arc::from).collect();
    let log = log_projections.into_iter().map(|one| Source::Log(Arc::from(one)));
    let later = projections.iter().filter(|one| one.is_later()).cloned().map(Source::States);
    let sources: Vec<Source<D>> = log.chain(later).collect();
    let parts = Parts { store, broker, locks, projections, metrics, max_packet, cache_bytes, hold_after_dead };
    let engine = Arc::new(Engine::new(parts));
    engine.look_at_builds().await.map_err(StartError::Refused)?;
    read_from_log(&sources, &engine.written.builds())
        .map_err(|unwritable| StartError::Refused(unwritable.to_string()))?;
    engine.clock.set(engine.broker.time_ms().await?);
    watchdog::watch(&engine, config.batch.decide_timeout).map_err(no_thread)?;
    let prefetch = Prefetch::new(config.stream.prefetch, config.stream.prefetch_bytes as usize);
    let (deciding, sharing, heir) = (Arc::downgrade(&engine), Arc::downgrade(&engine), engine.locks.clone());
    let fitness = watch::Sender::new(Fitness::default());
    let seats = Seats::start(Setup {
        fitness: fitness.subscribe(),
        spread: config.stream.spread,
        skills: Skills::new(D::JOBS, D::JOB_VERSION).comparing_generations(),
        broker: engine.broker.clone(),
        times: Times { lease: config.fleet.lease, look: config.fleet.look },
        lifecycle: lifecycle.clone(),
        id,
        host: host(),
        metrics: engine.metrics.clone(),
        succeed: Box::new(move |id| heir.succeed(id)),
        share: Box::new(move |is_shared| {
            sharing.upgrade().into_iter().for_each(|engine| engine.predictor.share(is_shared))
        }),
        decides: Box::new(move || deciding.upgrade().is_some_and(|engine| engine.deciding.is_under_way())),
    })
    .map_err(no_thread)?;
    Ok(Daemon { engine, sources, prefetch, seats, lifecycle, listener, spans, fitness })
}

fn no_thread(error: std::io::Error) -> StartError {
    StartError::Unavailable(format!("no thread can be started: {error}"))
}

/// Machine and process, as people know them.
pub(super) fn host() -> String {
    format!("{}:{}", machine(), std::process::id())
}

/// This machine, as people know it.
pub(crate) fn machine() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "unknown".to_owned())
}

pub(super) fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
