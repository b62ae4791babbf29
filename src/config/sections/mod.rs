//! The sections: what each setting is, and the values it may have.

mod stream;
mod subscriptions;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::layers::Layers;
use super::secret::Secret;
use super::url;

pub use stream::{Fleet, Stream};
pub use subscriptions::Subscriptions;

/// `[database]`: MySQL or MariaDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Server, account and database.
    pub url: Secret,
    /// Whether `run` applies pending migrations.
    pub migrate: bool,
    /// Connections in the pool.
    pub max_connections: u32,
    /// Time limit of a connection attempt and of a statement.
    pub timeout: Duration,
}

impl Database {
    pub(super) fn read(layers: &mut Layers) -> Self {
        let missing = "is required: set DATABASE_URL, LOCKKEEPER_DATABASE_URL, or url in [database]";
        Database {
            url: layers.url("database.url", missing, url::check_database),
            migrate: layers.flag("database.migrate"),
            max_connections: layers.count("database.max_connections", 1..=1_000),
            timeout: layers.millis("database.timeout_ms", 100..=600_000),
        }
    }
}

/// `[lock]`: the nodes that grant locks, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Independent Redis masters, an odd number.
    pub nodes: Vec<Secret>,
    /// How long a lock lives without being extended.
    pub ttl: Duration,
    /// How often a lock held elsewhere is tried again.
    pub retry_count: u32,
    /// The pause before such a retry.
    pub retry_delay: Duration,
    /// How long one node may take to answer: the effective limit, also where the key says 0.
    pub node_timeout: Duration,
}

impl Lock {
    pub(super) fn read(layers: &mut Layers) -> Self {
        let missing = "is required: set REDIS_URL_1, REDIS_URL_2 and so on, LOCKKEEPER_LOCK_NODES, or nodes in [lock]; \
                       or REDIS_URL for one Redis that is both stream and lock node";
        let ttl = layers.millis("lock.ttl_ms", 10..=600_000);
        let node_timeout = layers.millis("lock.node_timeout_ms", 0..=60_000);
        Lock {
            nodes: layers.urls("lock.nodes", missing, url::check_redis),
            ttl,
            retry_count: layers.count("lock.retry_count", 0..=100),
            retry_delay: layers.millis("lock.retry_delay_ms", 1..=60_000),
            node_timeout: if node_timeout.is_zero() { default_node_timeout(ttl) } else { node_timeout },
        }
    }
}

/// Five per cent, in whole milliseconds so that it can be printed as the key's value.
fn default_node_timeout(ttl: Duration) -> Duration {
    let twentieth = u64::try_from(ttl.as_millis() / 20).unwrap_or(u64::MAX);
    Duration::from_millis(twentieth.max(5))
}

/// `[batch]`: how much is committed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Most jobs in one transaction.
    pub max_jobs: u32,
    /// Most bytes of job data in one transaction.
    pub max_bytes: u32,
    /// Batches worked on at the same time.
    pub in_flight: u32,
    /// About how many bytes of aggregate states are kept in memory.
    pub cache_bytes: u32,
    /// How long the decision of a batch may take.
    pub decide_timeout: Duration,
}

impl Batch {
    pub(super) fn read(layers: &mut Layers) -> Self {
        Batch {
            max_jobs: layers.count("batch.max_jobs", 1..=10_000),
            max_bytes: layers.bytes("batch.max_bytes", 1_024..=64 << 20),
            in_flight: layers.count("batch.in_flight", 1..=64),
            cache_bytes: layers.bytes("batch.cache_bytes", 65_536..=1 << 30),
            decide_timeout: layers.millis("batch.decide_timeout_ms", 100..=3_600_000),
        }
    }
}

/// `[http]`: metrics and health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address and port to listen on.
    pub listen: SocketAddr,
}

impl Http {
    pub(super) fn read(layers: &mut Layers) -> Self {
        let rule = "must be an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464";
        let listen = layers.parsed("http.listen", rule, |text| text.trim().parse().ok());
        Http { listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))) }
    }
}

/// `[drain]`: the end of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// How long batches in flight may take to finish.
    pub timeout: Duration,
}

impl Drain {
    pub(super) fn read(layers: &mut Layers) -> Self {
        Drain { timeout: layers.millis("drain.timeout_ms", 1..=3_600_000) }
    }
}

/// `[retention]`: for how long things are kept that nobody may need any more; what has no age is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Age after which a receipt may go.
    pub receipts: Option<Duration>,
    /// Age after which a dead letter goes.
    pub dead_letters: Option<Duration>,
    /// Silence after which a reply stream goes.
    pub replies: Option<Duration>,
    /// Time between two looks.
    pub interval: Duration,
}

impl Retention {
    pub(super) fn read(layers: &mut Layers) -> Self {
        let mut age = |key| Some(layers.days(key, 0..=36_500)).filter(|age| !age.is_zero());
        Retention {
            receipts: age("retention.receipts_days"),
            dead_letters: age("retention.dead_letters_days"),
            replies: age("retention.replies_days"),
            interval: layers.millis("retention.interval_ms", 100..=86_400_000),
        }
    }

    /// Whether anything ever goes.
    pub fn is_on(&self) -> bool {
        self.receipts.or(self.dead_letters).or(self.replies).is_some()
    }
}

/// `[log]`: what is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level or a list of directives.
    pub level: String,
    /// How lines are written.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl LogFormat {
    /// The format's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Auto => "auto",
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [LogFormat::Auto, LogFormat::Text, LogFormat::Json].into_iter().find(|format| format.as_str() == text)
    }
}

impl Log {
    pub(super) fn read(layers: &mut Layers) -> Self {
        let level_rule = "must be off, error, warn, info, debug or trace, or directives such as info,sqlx=warn";
        let level = layers.parsed("log.level", level_rule, |text| is_filter(text).then(|| text.to_owned()));
        let format = layers.parsed("log.format", "must be auto, text or json", LogFormat::parse);
        Log { level: level.unwrap_or_default(), format: format.unwrap_or(LogFormat::Auto) }
    }
}

/// Whether every directive ends in a level. A bare target, which the filter itself would take, is refused: it is more
/// often a misspelt level, and would silence everything else.
fn is_filter(text: &str) -> bool {
    text.split(',').map(str::trim).all(|directive| match directive.rsplit_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    })
}

fn is_level(text: &str) -> bool {
    ["off", "error", "warn", "info", "debug", "trace"].iter().any(|level| level.eq_ignore_ascii_case(text))
}

fn is_target(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'))
}

/// `[tls]`: certificates for `rediss://` connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The CA that signed the servers' certificates; without one the system's roots count.
    pub ca_file: Option<PathBuf>,
    /// This client's certificate.
    pub cert_file: Option<PathBuf>,
    /// The key of the client's certificate.
    pub key_file: Option<PathBuf>,
}

impl Tls {
    pub(super) fn read(layers: &mut Layers) -> Self {
        let mut file = |key| {
            let path = layers
                .parsed(key, "must be the path of a file", |text| (!text.contains("://")).then(|| PathBuf::from(text)));
            path.filter(|path| !path.as_os_str().is_empty())
        };
        Tls { ca_file: file("tls.ca_file"), cert_file: file("tls.cert_file"), key_file: file("tls.key_file") }
    }
}
