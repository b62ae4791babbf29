//! All settings together.

use super::sections::{Batch, Database, Drain, Fleet, Http, Lock, Log, Retention, Stream, Subscriptions, Tls};

/// Every setting of the daemon, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[database]`: MySQL or MariaDB.
    pub database: Database,
    /// `[stream]`: where jobs come from.
    pub stream: Stream,
    /// `[fleet]`: who owns the streams.
    pub fleet: Fleet,
    /// `[lock]`: the nodes that grant locks, and for how long.
    pub lock: Lock,
    /// `[batch]`: how much is committed at once.
    pub batch: Batch,
    /// `[subscriptions]`: who reads the log, and how.
    pub subscriptions: Subscriptions,
    /// `[http]`: metrics and health.
    pub http: Http,
    /// `[drain]`: the end of the process.
    pub drain: Drain,
    /// `[retention]`: for how long things are kept.
    pub retention: Retention,
    /// `[log]`: what is logged, and how.
    pub log: Log,
    /// `[tls]`: certificates for `rediss://`.
    pub tls: Tls,
    /// Whether to run although a newer program may have written events that this one does not read. No key: somebody decides it for
    /// one start.
    pub despite_schemas: bool,
}
