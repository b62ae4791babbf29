//! The list of keys. Variable and flag names follow from it, and so does what counts as unknown.

/// What every variable of the daemon's own starts with.
pub(super) const ENV_PREFIX: &str = "LOCKKEEPER_";

/// One setting: where it stands in the file and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Section and name, such as `lock.ttl_ms`.
    pub path: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
    /// Whether the value may hold a password.
    pub secret: bool,
}

impl Key {
    /// The key's variable, such as `LOCKKEEPER_LOCK_TTL_MS`.
    pub fn env_name(&self) -> String {
        format!("{ENV_PREFIX}{}", self.path.replace('.', "_").to_uppercase())
    }

    /// The key's flag without the dashes in front, such as `lock-ttl-ms`.
    pub fn flag_name(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The section the key belongs to, such as `lock`.
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }

    /// The key's name within its section, such as `ttl_ms`.
    pub fn name(&self) -> &'static str {
        self.path.split_once('.').map_or(self.path, |(_, name)| name)
    }
}

const fn key(path: &'static str, help: &'static str) -> Key {
    Key { path, help, secret: false }
}

const fn secret(path: &'static str, help: &'static str) -> Key {
    Key { path, help, secret: true }
}

/// Every key, in the order of the default file.
pub const KEYS: &[Key] = &[
    secret("database.url", "MySQL or MariaDB, mysql://user:password@host:port/name (also DATABASE_URL)"),
    key("database.migrate", "Apply pending migrations when `run` starts"),
    key("database.max_connections", "Connections in the pool, at least batch.in_flight + 2"),
    key("database.timeout_ms", "Time limit of a connection attempt or a statement, in ms"),
    secret("stream.url", "The Redis that carries the jobs, redis:// or rediss:// (also REDIS_URL)"),
    key("stream.names", "Streams to read, comma-separated"),
    key("stream.spread", "Whether the streams are shared out among the fleet"),
    key("stream.first", "Those that must be empty before jobs of the others are begun"),
    key("stream.group", "Consumer group through which the streams are read"),
    key("stream.block_ms", "How long a read waits on an idle stream, in ms, at most 150"),
    key("stream.read_count", "Most entries taken by one read"),
    key("stream.prefetch", "Most jobs in hand, at least batch.max_jobs"),
    key("stream.prefetch_bytes", "About how many bytes of jobs in hand"),
    key("stream.heartbeat_ms", "Without effect, for older configurations"),
    key("stream.claim_after_ms", "Silence after which instances of earlier versions took a job over, in ms"),
    key("stream.max_deliveries", "Started attempts before a job is dead-lettered"),
    key("stream.hold_after_dead", "Whether jobs that share an aggregate with a dead letter go behind it"),
    key("stream.unknown_types_wait_ms", "How long a job of an unknown type waits for a daemon that knows it"),
    key("stream.max_data_bytes", "Largest `data` of a job, in bytes"),
    key("stream.reply_length", "Most outcomes kept in a reply stream"),
    key("fleet.lease_ms", "Silence of a stream's owner after which another instance takes it over, in ms"),
    key("fleet.look_ms", "Time between two looks at the owner's signs of life, in ms"),
    secret("lock.nodes", "Independent Redis masters, an odd number, comma-separated (also REDIS_URL_1, …)"),
    key("lock.ttl_ms", "How long a lock lives without being extended, in ms"),
    key("lock.retry_count", "How often a lock held elsewhere is tried again"),
    key("lock.retry_delay_ms", "Pause before such a retry, in ms"),
    key("lock.node_timeout_ms", "Time limit of one node's answer, in ms; 0 is 5 % of lock.ttl_ms"),
    key("batch.max_jobs", "Most jobs committed in one transaction"),
    key("batch.max_bytes", "Most bytes of job data in one transaction"),
    key("batch.in_flight", "Batches worked on at the same time"),
    key("batch.cache_bytes", "About how many bytes of aggregate states kept in memory"),
    key("batch.decide_timeout_ms", "How long a decision may take before the process ends itself, in ms"),
    key("subscriptions.run", "Whether this daemon may read the log for read models"),
    key("subscriptions.poll_ms", "How long an event of another daemon may go unseen, in ms"),
    key("subscriptions.pace_ms", "Shortest time between two commits of one subscription, in ms"),
    key("subscriptions.lease_ms", "Silence after which another daemon reads a subscription, in ms"),
    key("subscriptions.page_events", "Most events of a page"),
    key("subscriptions.page_bytes", "About how many bytes the payloads of a page may have"),
    key("http.listen", "Address and port of /metrics, /livez and /readyz"),
    key("drain.timeout_ms", "How long work in flight may take to finish after SIGTERM, in ms"),
    key("retention.receipts_days", "Age after which a receipt may go, in days; 0 keeps all"),
    key("retention.dead_letters_days", "Age after which a dead letter goes, in days; 0 keeps all"),
    key("retention.replies_days", "Silence after which a reply stream goes, in days; 0 keeps all"),
    key("retention.interval_ms", "Time between two looks for what is old, in ms"),
    key("log.level", "off, error, warn, info, debug, trace, or directives such as info,sqlx=warn"),
    key("log.format", "auto, text or json"),
    key("tls.ca_file", "CA certificate for rediss://, PEM"),
    key("tls.cert_file", "Client certificate for rediss://, PEM"),
    key("tls.key_file", "Key of the client certificate, PEM"),
];

/// The key at `path`, if there is one.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// `; did you mean …?` with the key nearest to `wrong`, or nothing when none is near.
pub(super) fn suggest_key(wrong: &str) -> String {
    suggest("", wrong, KEYS.iter().map(|key| key.path))
}

/// The same for any names, compared without a `prefix` they share: it would make everything look near.
pub(super) fn suggest<'a>(prefix: &str, wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let limit = 1 + wrong.len() / 4;
    match names.map(|name| (distance(wrong, name), name)).min() {
        Some((away, name)) if away <= limit => format!("; did you mean `{prefix}{name}`?"),
        _ => String::new(),
    }
}

/// The number of single edits between two names; a name that lacks only its section is one edit away.
fn distance(wrong: &str, right: &str) -> usize {
    if right.strip_suffix(wrong).is_some_and(|section| section.ends_with(['.', '_'])) {
        return 1;
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in wrong.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
