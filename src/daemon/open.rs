//! Opening what the daemon works with, each part with the error that an operator is shown.

use std::sync::Arc;

use crate::config::Config;
use crate::connect::{self, ClientError};
use crate::domain::{Domain, upcast};
use crate::lock::{self, ExtendError, Redlock, Report, SetupError};
use crate::metrics::{Extension, Metrics};
use crate::rebuild::{self, Adopted, Models, Problem};
use crate::store::{MigrateError, Outage, SchemaState, Store, StoreError};
use crate::stream::{self, Broker, BrokerError, Finding, Lack, Unfit};

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A server does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// A server refuses our name, password or rights.
    #[error("{0}")]
    Denied(String),
    /// The configuration, the schema or the topology is not one to run with.
    #[error("{0}")]
    Refused(String),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(Outage::Denied, _) => Self::Denied(error.to_string()),
            StoreError::Unavailable(Outage::Sequence, _) => Self::Refused(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<MigrateError> for StartError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Store(error) => error.into(),
            MigrateError::Stopped { source: StoreError::Unavailable(Outage::Denied, _), .. } => {
                Self::Denied(error.to_string())
            }
            MigrateError::Stopped { .. } => Self::Unavailable(error.to_string()),
            error => Self::Refused(error.to_string()),
        }
    }
}

impl From<Problem> for StartError {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Store(error) => error.into(),
            problem => Self::Refused(problem.to_string()),
        }
    }
}

impl From<BrokerError> for StartError {
    fn from(error: BrokerError) -> Self {
        if error.is_denied() { Self::Denied(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }
}

impl From<Unfit> for StartError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            // It may become a master.
            Unfit::Replica => Self::Unavailable(format!("the broker is unavailable: {unfit}")),
            unfit => Self::Refused(format!("the broker is refused: {unfit}")),
        }
    }
}

impl From<ClientError> for StartError {
    fn from(error: ClientError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<SetupError> for StartError {
    fn from(error: SetupError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Opens the store of `config`.
pub async fn store(config: &Config) -> Result<Store, StoreError> {
    let database = &config.database;
    Store::connect(database.url.expose(), database.max_connections, database.timeout).await
}

/// Opens the broker of `config`, as a consumer with a name of its own.
pub async fn broker(config: &Config) -> Result<Broker, StartError> {
    let client = connect::broker(&config.stream.url, &config.tls)?;
    let settings = stream::Settings {
        names: config.stream.names.clone(),
        group: config.stream.group.clone(),
        block: config.stream.block,
        claim_after: config.stream.claim_after,
        reply_length: config.stream.reply_length,
    };
    let consumer = format!("{}lockkeeper-{}", stream::OWNERS, uuid::Uuid::now_v7());
    Ok(Broker::connect(client, settings, consumer).await?)
}

/// Makes sure that the broker is one to work with, and lets us: what is not found here is found when nothing is acknowledged.
pub(super) async fn accept(broker: &Broker, config: &Config) -> Result<(), StartError> {
    broker.nature().await?.judge()?;
    let found = broker.probe(config.retention.is_on()).await?;
    let text: Vec<String> = found.iter().map(|finding| format!("the broker refuses {finding}")).collect();
    if found.is_empty() {
        Ok(())
    } else if found.iter().any(|Finding { lack, .. }| *lack == Lack::Ability) {
        Err(StartError::Refused(text.join("\n")))
    } else {
        Err(StartError::Denied(text.join("\n")))
    }
}

/// Starts connecting to the lock nodes of `config`.
pub fn locks(config: &Config, metrics: Arc<Metrics>) -> Result<Redlock, StartError> {
    let nodes = connect::lock_nodes(&config.lock.nodes, &config.tls)?;
    let settings = lock::Settings { node_timeout: config.lock.node_timeout, ..lock::Settings::new(config.lock.ttl) };
    let observer: lock::Observer = Arc::new(move |report| match report {
        Report::Request { node, op, outcome, duration } => {
            metrics.node_request(node, op.as_str(), outcome.as_str(), duration);
        }
        Report::Restarted { node } => metrics.node_restarted(node),
        Report::Extension(Ok(())) => metrics.extended(Extension::Extended),
        Report::Extension(Err(ExtendError::Unavailable)) => metrics.extended(Extension::NoQuorum),
        Report::Extension(Err(_)) => metrics.extended(Extension::Lost),
    });
    Ok(Redlock::start(nodes, settings, observer)?)
}

/// Checks the database's schema, applies pending migrations when `config` says so, and makes sure of the grants.
pub(super) async fn prepare(store: &Store, config: &Config) -> Result<(), StartError> {
    match store.schema().await? {
        SchemaState::Current => {}
        SchemaState::Behind(_) if config.database.migrate => {
            store.migrate().await?;
        }
        SchemaState::Behind(missing) => {
            let text = "migrations are pending and database.migrate is false: run `lockkeeper migrate` first";
            return Err(StartError::Refused(format!("{missing} {text}")));
        }
        SchemaState::Ahead => {
            let text = "the database's schema is newer than this program: a newer lockkeeper has migrated it";
            return Err(StartError::Refused(text.to_owned()));
        }
    }
    store.check_grants(config.retention.receipts.is_some()).await?;
    store.sequence_and_log().await?.check()?;
    Ok(())
}

/// Gives read models that are new to the database their first build, when `config` says so.
pub(super) async fn adopt_read_models<D: Domain>(
    store: &Store,
    config: &Config,
    models: Models<'_, D>,
) -> Result<(), StartError> {
    models.check()?;
    if !config.database.migrate {
        // One that has to be filled first is no reason not to start.
        let pending = rebuild::pending(store, models).await?;
        if pending.is_empty() {
            return Ok(());
        }
        let text = "have no first build yet and database.migrate is false: run `lockkeeper migrate` first";
        return Err(StartError::Refused(format!("the read models {} {text}", pending.join(", "))));
    }
    for adopted in rebuild::adopt(store, models).await? {
        match adopted {
            Adopted::Table(name) => tracing::info!(projection = name, "its table is its first build now"),
            Adopted::New(name) => tracing::info!(projection = name, "it has an empty table"),
            Adopted::Missing(name) => tracing::warn!(
                projection = name,
                "the log has events, and there are no rows of them: `lockkeeper projections rebuild {name}` fills it"
            ),
        }
    }
    Ok(())
}

/// Makes sure that this program reads what the log may have, and writes down what it may add.
pub(super) async fn compare_events<D: Domain>(store: &Store, config: &Config) -> Result<(), StartError> {
    upcast::check::<D>().map_err(|broken| StartError::Refused(broken.to_string()))?;
    if let Some(unread) = unread_events::<D>(store).await? {
        if !config.despite_schemas {
            let advice = "start the newer program, or this one with --despite-schemas: jobs of aggregates with such events then wait";
            return Err(StartError::Refused(format!("{unread}; {advice}")));
        }
        tracing::warn!("{unread}: jobs of aggregates with such events wait");
    }
    let written: Vec<_> = D::EVENTS.iter().map(|event_type| (*event_type, D::written_version(event_type))).collect();
    Ok(store.may_write(&written).await?)
}

/// What the log may have that this program does not read.
pub(crate) async fn unread_events<D: Domain>(store: &Store) -> Result<Option<String>, StoreError> {
    let written = store.written_schemas().await?;
    let unread = upcast::unread::<D>(written.iter().map(|one| (&*one.event_type, one.schema_version)));
    Ok(unread.map(|what| format!("a newer program was here, and the log may have what this one cannot read: {what}")))
}

/// Refuses lock nodes that would break the promise of a lock. A node that does not answer is no reason not to start: it is
/// connected when it comes back.
pub(super) async fn inspect(locks: &Redlock) -> Result<(), StartError> {
    let mut refused = Vec::new();
    for finding in locks.inspect().await {
        match finding.result {
            Ok(()) => {}
            Err(why @ lock::Refusal::Unreachable(_)) => {
                tracing::warn!(node = %finding.name, %why, "a lock node is away")
            }
            Err(why) => refused.push(format!("lock node {}: {why}", finding.name)),
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(StartError::Refused(refused.join("\n"))) }
}
