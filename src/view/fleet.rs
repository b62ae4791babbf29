//! What is on the screen, and in the JSON. `None` is what cannot be told, and `null` there.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Everything on the screen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// What is wrong, worst first.
    pub findings: Vec<Finding>,
    /// The flow of jobs.
    pub jobs: Jobs,
    /// The streams.
    pub queues: Vec<Queue>,
    /// The lock nodes.
    pub locks: Locks,
    /// The database.
    pub store: Store,
    /// Read models that follow the events.
    pub subscriptions: Vec<Subscription>,
    /// How many daemons could do the work, also those that nobody asks.
    pub members: Option<f64>,
    /// The processes.
    pub daemons: Vec<Daemon>,
}

/// The flow of jobs through all daemons. Rates are per second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Jobs {
    /// Jobs that ended.
    pub ended_per_second: Option<f64>,
    /// The same by outcome.
    pub outcomes_per_second: BTreeMap<String, f64>,
    /// Jobs taken in.
    pub fetched_per_second: Option<f64>,
    /// Jobs that left a batch unfinished.
    pub put_back_per_second: Option<f64>,
    /// In batches that have not ended.
    pub in_flight: Option<f64>,
    /// In hand, and in no batch yet.
    pub waiting: Option<f64>,
    /// From XADD to the commit, for the slowest of the faster half.
    pub p50_seconds: Option<f64>,
    /// The same for all but the slowest hundredth.
    pub p99_seconds: Option<f64>,
}

/// One stream, as the daemon that sees most of it sees it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Entries in it.
    pub length: Option<f64>,
    /// Entries that nobody has read yet; `None` when the broker cannot tell.
    pub lag: Option<f64>,
    /// Entries read and not acknowledged.
    pub pending: Option<f64>,
    /// Age of the oldest entry.
    pub oldest_seconds: Option<f64>,
    /// How much longer it was than a moment ago.
    pub growth_per_second: Option<f64>,
    /// Jobs in its schedule.
    pub scheduled: Option<f64>,
    /// How long the first of them is overdue.
    pub overdue_seconds: Option<f64>,
    /// Entries in its dead letters.
    pub dead_letters: Option<f64>,
    /// Entries that vanished before they were run, since the daemons began.
    pub lost: Option<f64>,
    /// Entries that were found neither unread nor pending, since the daemons began.
    pub orphaned: Option<f64>,
    /// Whether the ids of its oldest entries are times.
    pub is_age_known: Option<bool>,
    /// The daemons that say that they own it; `None` when none of them says anything.
    pub owners: Option<Vec<String>>,
    /// Whether somebody keeps its jobs from being started.
    pub is_paused: Option<bool>,
    /// Whether jobs of it wait for a daemon that knows them.
    pub has_unknown_types: Option<bool>,
}

/// The lock nodes. Rates are per second and count aggregates.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Locks {
    /// How many nodes must grant.
    pub quorum: Option<f64>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Granted.
    pub acquired_per_second: Option<f64>,
    /// Held by somebody else.
    pub contended_per_second: Option<f64>,
    /// Too few nodes granted.
    pub no_quorum_per_second: Option<f64>,
    /// Batches whose locks could not be trusted until their commit.
    pub lost_per_second: Option<f64>,
}

/// One lock node.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Node {
    /// Its alias.
    pub name: String,
    /// Daemons that are connected to it.
    pub up_for: usize,
    /// Daemons that know of it.
    pub known_to: usize,
    /// A daemon probes it and does not ask it for locks.
    pub breaker_open: bool,
    /// It has restarted, and is kept out until no lock that it forgot can live.
    pub quarantined: bool,
    /// Requests that it answered as it should, whether or not it granted.
    pub answers_per_second: Option<f64>,
    /// Requests that failed or took too long.
    pub failures_per_second: Option<f64>,
}

/// The database. Rates are per second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Store {
    /// The newest position.
    pub head_position: Option<f64>,
    /// Events committed.
    pub events_per_second: Option<f64>,
    /// Transactions that somebody else's writing refused.
    pub conflicts_per_second: Option<f64>,
    /// Transactions that the server made us repeat.
    pub retries_per_second: Option<f64>,
    /// Times it could not be used, by class; those that happen now.
    pub errors_per_second: BTreeMap<String, f64>,
    /// Commits whose answer was lost.
    pub commit_unknown_per_second: Option<f64>,
    /// All but the slowest hundredth of the transactions took no longer.
    pub append_p99_seconds: Option<f64>,
    /// Connections in use.
    pub connections_used: Option<f64>,
    /// The most there may be.
    pub connections_max: Option<f64>,
}

/// A reader of the log.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// The position up to which it has done all events.
    pub position: Option<f64>,
    /// Events that it has not done yet.
    pub lag_events: Option<f64>,
    /// How old the first of them is.
    pub lag_seconds: Option<f64>,
    /// How many daemons read it.
    pub readers: Option<f64>,
    /// `running`, `paused` or `stopped`.
    pub state: Option<String>,
}

/// One process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Daemon {
    /// Where it is asked.
    pub url: String,
    /// `running`, `draining` and so on; `away` when it does not answer.
    pub state: String,
    /// What it is to its streams: `owner`, `late`, `draining`, `lost` or `standby`.
    pub role: Option<String>,
    /// How often its streams were taken, as it has seen last; the greatest of them.
    pub epoch: Option<f64>,
    /// Why it does not answer.
    pub away: Option<String>,
    /// For how long it has not answered.
    pub away_seconds: Option<f64>,
    /// Its version.
    pub version: Option<String>,
    /// How long it has been up.
    pub up_seconds: Option<f64>,
    /// Resident memory.
    pub memory_bytes: Option<f64>,
    /// Cores in use.
    pub cpu_cores: Option<f64>,
    /// Open file descriptors.
    pub open_files: Option<f64>,
    /// Jobs that ended in it.
    pub ended_per_second: Option<f64>,
    /// Jobs in its batches.
    pub in_flight: Option<f64>,
    /// How long it has had jobs in hand without committing any.
    pub commit_stalled_seconds: Option<f64>,
    /// How long it has had jobs in hand without telling the broker of the end of any.
    pub acknowledge_stalled_seconds: Option<f64>,
    /// Checks of `/readyz` that fail.
    pub failing_checks: Vec<String>,
    /// Its last reload found the configuration broken.
    pub reload_failed: bool,
}

/// How bad it is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Jobs stand still or are lost.
    Critical,
    /// It works, and somebody should look.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "CRITICAL",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
        })
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, and what to do.
    pub text: String,
}
