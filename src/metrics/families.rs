//! Every family, once: its kind and buckets, its unit, its name, its labels, its help.

/// What kind of series a family has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Samples in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things: jobs, entries, events, locks.
    Count,
    /// A duration or an age in seconds.
    Seconds,
    /// A moment, as seconds since 1970.
    UnixSeconds,
    /// A size in bytes.
    Bytes,
    /// 1 for yes, 0 for no.
    Flag,
}

/// One metric family.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// What its values are.
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "the dashboard is held to it"))]
    pub unit: Unit,
    /// The labels that every series of it has.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const LOCK_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];
const STORE_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
const WAIT_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
const RUN_SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
const BYTES: &[f64] = &[256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0];
const TRIES: &[f64] = &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

use Kind::{Counter, Gauge, Histogram};

/// Makes a constant of each line, and the list of them all.
macro_rules! families {
    ($($constant:ident = $kind:expr, $unit:ident, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(pub(super) const $constant: Family =
            Family { name: $name, kind: $kind, unit: Unit::$unit, labels: &[$($label),*], help: $help };)*

        /// Every family of this program; those of the process itself come from the operating system.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    // Queue
    QUEUE_LENGTH = Gauge, Count, "lockkeeper_queue_length", ["queue"],
        "Entries in the stream: waiting and in hand.";
    QUEUE_LAG = Gauge, Count, "lockkeeper_queue_lag", ["queue", "group"],
        "Entries not delivered to the group yet; what is not pending, when the broker does not tell.";
    QUEUE_LAG_KNOWN = Gauge, Flag, "lockkeeper_queue_lag_known", ["queue", "group"],
        "1 when the lag is known, else 0.";
    QUEUE_PENDING = Gauge, Count, "lockkeeper_queue_pending", ["queue", "group"],
        "Entries delivered and not acknowledged.";
    QUEUE_OLDEST_AGE = Gauge, Seconds, "lockkeeper_queue_oldest_age_seconds", ["queue", "state"],
        "Age of the oldest entry that is undelivered or pending, and how long the first scheduled job is overdue; by the broker's clock.";
    QUEUE_AGE_KNOWN = Gauge, Flag, "lockkeeper_queue_oldest_age_known", ["queue"],
        "1 when the ids of the oldest entries are times, so that their age is known, else 0.";
    SCHEDULE_LENGTH = Gauge, Count, "lockkeeper_schedule_length", ["queue"],
        "Jobs in the schedule.";
    DEAD_LETTER_LENGTH = Gauge, Count, "lockkeeper_dead_letter_length", ["queue"],
        "Entries in the dead-letter stream.";
    QUEUE_HELD = Gauge, Count, "lockkeeper_queue_held", ["queue"],
        "On the owner: jobs that wait behind a dead letter (stream.hold_after_dead).";
    QUEUE_MISSED = Counter, Count, "lockkeeper_queue_missed_total", ["queue"],
        "Jobs that were run after younger ones of their stream had been taken in: somebody else moved the group or read from it.";
    QUEUE_POLL = Gauge, UnixSeconds, "lockkeeper_queue_last_poll_timestamp_seconds", [],
        "When the streams were last read, Unix time.";
    READING = Gauge, Flag, "lockkeeper_reading_state", ["state"],
        "1 for what the intake does with the streams now, else 0.";
    GROUPS_RECREATED = Counter, Count, "lockkeeper_queue_groups_recreated_total", ["queue"],
        "Times a group was gone and was created again.";
    CLAIM_DELETED = Counter, Count, "lockkeeper_claim_deleted_total", ["queue"],
        "Pending entries whose contents somebody had deleted: lost jobs.";
    ENTRIES_LOST = Counter, Count, "lockkeeper_queue_entries_lost_total", ["queue"],
        "Entries that were trimmed or deleted before they were run: lost jobs.";
    ENTRIES_ORPHANED = Counter, Count, "lockkeeper_queue_entries_orphaned_total", ["queue"],
        "Entries that were found neither unread nor pending; they are run.";
    FETCH_BATCH = Histogram(SIZES), Count, "lockkeeper_fetch_batch_jobs", [],
        "Jobs per read that brought any.";

    // Owners
    STREAM_OWNED = Gauge, Flag, "lockkeeper_stream_owned", ["queue"],
        "1 on the daemon that owns the stream, 0 on those that stand by.";
    STREAM_EPOCH = Gauge, Count, "lockkeeper_stream_epoch", ["queue"],
        "How often the stream was taken, as last seen.";
    STREAM_SILENT = Gauge, Seconds, "lockkeeper_stream_silent_seconds", ["queue"],
        "How long the owner has given no sign of life, as this daemon sees it; absent when nobody owns the stream.";
    FLEET_TAKES = Counter, Count, "lockkeeper_fleet_takes_total", ["queue", "from"],
        "Times this daemon took the stream, from nobody or from an owner that was silent.";
    FLEET_RELEASES = Counter, Count, "lockkeeper_fleet_releases_total", ["queue", "reason"],
        "Times this daemon left the stream to others, and why.";
    FLEET_STATE = Gauge, Flag, "lockkeeper_fleet_state", ["state"],
        "1 for what this daemon is: owner, late (an owner whose beats nobody answers), draining, lost, standby.";
    TAKE_DURATION = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_fleet_take_duration_seconds", ["phase"],
        "From asking for a stream to its take, and to the first commit afterwards.";
    BEAT_MARGIN = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_fleet_beat_margin_seconds", [],
        "How long before jobs could not have been begun any more a beat was answered: near 0 the stream is about to be lost.";
    QUEUE_SUSPECTS = Gauge, Count, "lockkeeper_queue_suspects", ["queue"],
        "Jobs in hand that another owner may have begun: their starts are counted.";
    FLEET_MEMBERS = Gauge, Count, "lockkeeper_fleet_members", [],
        "Daemons that could do the work: they have reached the database and a quorum of lock nodes within five seconds.";
    UNKNOWN_TYPES = Gauge, Flag, "lockkeeper_stream_unknown_types", ["queue"],
        "1 on an owner while jobs of the stream wait for a daemon that knows their type or version.";
    JOBS_UNKNOWN = Counter, Count, "lockkeeper_jobs_unknown_total", ["queue"],
        "Jobs that waited for a daemon that knows their type or version.";
    STREAM_PAUSED = Gauge, Flag, "lockkeeper_stream_paused", ["queue"],
        "1 while somebody keeps the stream's jobs from being started (`lockkeeper streams pause`).";
    FLEET_LOST = Counter, Count, "lockkeeper_fleet_lost_total", ["queue"],
        "Times another daemon took the stream from this one.";

    // Jobs
    JOBS_FETCHED = Counter, Count, "lockkeeper_jobs_fetched_total", ["queue", "source"],
        "Jobs taken in, new or taken over from another owner.";
    JOBS_PROCESSED = Counter, Count, "lockkeeper_jobs_processed_total", ["queue", "job_type", "outcome"],
        "Jobs that ended, by outcome.";
    JOBS_DEAD = Counter, Count, "lockkeeper_jobs_dead_lettered_total", ["queue", "reason"],
        "Jobs that went to the dead letters, by reason.";
    JOBS_SCHEDULED = Counter, Count, "lockkeeper_jobs_scheduled_total", ["queue"],
        "Jobs that were not due and moved to the schedule.";
    JOBS_PROMOTED = Counter, Count, "lockkeeper_jobs_promoted_total", ["queue"],
        "Jobs that fell due and moved from the schedule back to the stream.";
    JOBS_WAITING = Gauge, Count, "lockkeeper_jobs_waiting", [],
        "Jobs in hand that wait for a batch.";
    JOBS_IN_FLIGHT = Gauge, Count, "lockkeeper_jobs_in_flight", [],
        "Jobs in a batch that has not ended.";
    BATCHES_IN_FLIGHT = Gauge, Count, "lockkeeper_batches_in_flight", [],
        "Batches that have not ended.";
    OLDEST_RUNNING = Gauge, Seconds, "lockkeeper_job_oldest_running_seconds", [],
        "How long the oldest batch in flight has been running, 0 when there is none.";
    JOBS_PUT_BACK = Counter, Count, "lockkeeper_jobs_put_back_total", ["reason"],
        "Jobs that left a batch unfinished and wait again, by reason.";
    JOB_QUEUE_TIME = Histogram(WAIT_SECONDS), Seconds, "lockkeeper_job_queue_time_seconds", ["queue", "job_type"],
        "From XADD to the start of the batch that ended the job.";
    JOB_DURATION = Histogram(RUN_SECONDS), Seconds, "lockkeeper_job_duration_seconds", ["queue", "job_type", "outcome"],
        "From the start of the batch that ended the job until the broker was told.";
    JOB_END_TO_END = Histogram(WAIT_SECONDS), Seconds, "lockkeeper_job_end_to_end_seconds", ["queue", "job_type"],
        "From XADD until the broker was told of the job's end.";
    JOB_ATTEMPTS = Histogram(TRIES), Count, "lockkeeper_job_attempts", ["queue"],
        "Batches that a job was in until it ended.";
    JOB_PAYLOAD = Histogram(BYTES), Bytes, "lockkeeper_job_payload_bytes", ["queue"],
        "Size of a job's entry.";
    BATCH_JOBS = Histogram(SIZES), Count, "lockkeeper_batch_jobs", [],
        "Jobs per batch.";
    REPLY_ERRORS = Counter, Count, "lockkeeper_reply_errors_total", [],
        "Outcomes that could not be written to a reply stream.";
    IDS_REUSED = Counter, Count, "lockkeeper_job_ids_reused_total", [],
        "Jobs refused because another job has their id.";

    // Locks
    LOCK_ACQUIRE = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_lock_acquire_duration_seconds", ["outcome"],
        "One round of locking for a whole batch.";
    LOCK_ATTEMPTS = Counter, Count, "lockkeeper_lock_attempts_total", ["outcome"],
        "Aggregates that a lock was asked for, by outcome.";
    LOCK_HOLD = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_lock_hold_seconds", [],
        "From acquiring to releasing a batch's locks.";
    LOCKS_HELD = Gauge, Count, "lockkeeper_locks_held", [],
        "Aggregates whose lock this process holds.";
    LOCK_EXTENSIONS = Counter, Count, "lockkeeper_lock_extensions_total", ["outcome"],
        "Times a batch asked for more time, by outcome.";
    LOCK_LOST = Counter, Count, "lockkeeper_lock_lost_total", ["reason"],
        "Batches that gave up because their locks could not be trusted any more, by reason.";
    COMMIT_MARGIN = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_lock_commit_margin_seconds", [],
        "What was left of a batch's locks when its commit was about to be sent.";
    NODE_REQUESTS = Counter, Count, "lockkeeper_lock_node_requests_total", ["node", "op", "outcome"],
        "Requests to a lock node, by outcome.";
    NODE_DURATION = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_lock_node_request_duration_seconds", ["node", "op"],
        "One request to one lock node.";
    NODE_UP = Gauge, Flag, "lockkeeper_lock_node_up", ["node"],
        "1 while the lock node is connected, else 0.";
    NODE_BREAKER = Gauge, Flag, "lockkeeper_lock_node_breaker_open", ["node"],
        "1 while the lock node is probed and not asked for locks, else 0.";
    NODE_QUARANTINED = Gauge, Flag, "lockkeeper_lock_node_quarantined", ["node"],
        "1 while a restarted lock node is kept out until no lock that it forgot can live, else 0.";
    NODE_RESTARTS = Counter, Count, "lockkeeper_lock_node_restarts_total", ["node"],
        "Times a lock node was found to have restarted.";
    LOCK_NODES = Gauge, Count, "lockkeeper_lock_nodes", [],
        "Configured lock nodes.";
    LOCK_QUORUM = Gauge, Count, "lockkeeper_lock_quorum_nodes", [],
        "Lock nodes that must grant a lock.";

    // Store
    APPEND_DURATION = Histogram(STORE_SECONDS), Seconds, "lockkeeper_store_append_duration_seconds", ["outcome"],
        "One transaction of a batch, by outcome.";
    APPEND_EVENTS = Histogram(SIZES), Count, "lockkeeper_store_append_events", [],
        "Events per transaction.";
    EVENTS_APPENDED = Counter, Count, "lockkeeper_store_events_appended_total", ["event_type"],
        "Events committed, by type.";
    CONFLICTS = Counter, Count, "lockkeeper_store_conflicts_total", ["kind"],
        "Transactions refused because somebody else had written, by guard.";
    RETRIES = Counter, Count, "lockkeeper_store_transaction_retries_total", ["reason"],
        "Transactions the server made us repeat, by reason.";
    COMMIT_UNKNOWN = Counter, Count, "lockkeeper_store_commit_unknown_total", [],
        "Commits whose answer was lost; the receipts then tell.";
    STORE_ERRORS = Counter, Count, "lockkeeper_store_errors_total", ["class"],
        "Times the database could not be used, by class.";
    HEAD_POSITION = Gauge, Count, "lockkeeper_store_head_position", [],
        "The newest committed position, of the whole fleet.";
    WENT_BACK = Counter, Count, "lockkeeper_store_went_back_total", [],
        "Times the database had lost commits that it had confirmed, as after a failover.";
    POOL = Gauge, Count, "lockkeeper_db_pool_connections", ["state"],
        "Database connections, by state.";
    POOL_MAX = Gauge, Count, "lockkeeper_db_pool_max_connections", [],
        "Configured limit of database connections.";
    POOL_ACQUIRE = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_db_pool_acquire_duration_seconds", [],
        "Waiting for a database connection.";
    POOL_TIMEOUTS = Counter, Count, "lockkeeper_db_pool_timeouts_total", [],
        "Times that no database connection became free in time.";

    // Read models
    PROJECTION_BYTES = Histogram(BYTES), Bytes, "lockkeeper_projection_statement_bytes", ["projection"],
        "Size of the statements that a batch has for a read model, when it has any.";

    // Subscriptions
    SUBSCRIPTION_POSITION = Gauge, Count, "lockkeeper_subscription_position", ["subscription"],
        "The position up to which the subscription has done all events.";
    SUBSCRIPTION_LAG_EVENTS = Gauge, Count, "lockkeeper_subscription_lag_events", ["subscription"],
        "Events that it has not done yet.";
    SUBSCRIPTION_LAG = Gauge, Seconds, "lockkeeper_subscription_lag_seconds", ["subscription"],
        "How long ago the first of them was written; 0 when there is none.";
    SUBSCRIPTION_OWNED = Gauge, Flag, "lockkeeper_subscription_owned", ["subscription"],
        "1 on the daemon that reads it, else 0.";
    SUBSCRIPTION_STATE = Gauge, Flag, "lockkeeper_subscription_state", ["subscription", "state"],
        "1 for the state that it is in: running, paused, stopped, dropped.";
    SUBSCRIPTION_EVENTS = Counter, Count, "lockkeeper_subscription_events_total", ["subscription"],
        "Events that this daemon has done.";
    SUBSCRIPTION_PAGES = Counter, Count, "lockkeeper_subscription_pages_total", ["subscription", "outcome"],
        "Pages by what became of them.";
    SUBSCRIPTION_TAKES = Counter, Count, "lockkeeper_subscription_takes_total", ["subscription"],
        "Times this daemon began to read it.";
    SUBSCRIPTION_PAGE_DURATION = Histogram(LOCK_SECONDS), Seconds, "lockkeeper_subscription_page_duration_seconds", ["subscription"],
        "Reading, writing and committing a page.";
    SUBSCRIPTION_PARKED = Gauge, Count, "lockkeeper_subscription_parked_events", ["subscription"],
        "Events that it has gone past without doing them.";
    LOG_GAPS = Counter, Count, "lockkeeper_log_gaps_total", [],
        "Times the log had no event at a position and had some behind it: must stay 0.";

    // Builds of read models
    PROJECTION_GENERATION = Gauge, Count, "lockkeeper_projection_generation", [],
        "Number of what every transaction writes: it grows when a build of a read model is written from then on, or no more.";
    PROJECTION_WRITTEN = Gauge, Flag, "lockkeeper_projection_written", ["projection"],
        "1 for a build of a read model that is written, else 0.";
    PROJECTION_MISSING = Gauge, Flag, "lockkeeper_projection_missing", ["projection"],
        "1 for a read model of this program that was never filled, else 0.";

    // Retention
    RETENTION_DELETED = Counter, Count, "lockkeeper_retention_deleted_total", ["what"],
        "Receipts, dead letters and reply streams that were old and are gone.";
    RETENTION_FAILURES = Counter, Count, "lockkeeper_retention_failures_total", [],
        "Looks for what is old that stopped before their end.";
    RETENTION_DONE = Gauge, UnixSeconds, "lockkeeper_retention_last_done_timestamp_seconds", [],
        "When this process last looked for what is old, Unix time.";

    // Process
    STATE = Gauge, Flag, "lockkeeper_state", ["state"],
        "1 for the state that the process is in, else 0.";
    READY = Gauge, Flag, "lockkeeper_ready", ["check"],
        "1 while the check of /readyz passes, else 0.";
    STALLED = Gauge, Seconds, "lockkeeper_stalled_seconds", ["step"],
        "How long jobs have been in hand without any of them being committed, or acknowledged; 0 without jobs.";
    DRAIN_STARTED = Gauge, UnixSeconds, "lockkeeper_drain_started_timestamp_seconds", [],
        "When the drain began, Unix time; absent before.";
    DRAIN_DEADLINE = Gauge, UnixSeconds, "lockkeeper_drain_deadline_timestamp_seconds", [],
        "When the time for draining is over, Unix time; absent before.";
    DRAIN_IN_FLIGHT = Gauge, Count, "lockkeeper_drain_in_flight_jobs", [],
        "Jobs that the drain still waits for; absent before.";
    DRAIN_JOBS = Counter, Count, "lockkeeper_drain_jobs_total", ["outcome"],
        "What became of the jobs in hand when the drain began.";
    RELOAD_OK = Gauge, Flag, "lockkeeper_config_last_reload_successful", [],
        "1 when the configuration was last read without a problem, else 0.";
    RELOAD_TIME = Gauge, UnixSeconds, "lockkeeper_config_last_reload_timestamp_seconds", [],
        "When the configuration was last read, Unix time.";
    COLLECT_ERRORS = Counter, Count, "lockkeeper_metrics_collect_errors_total", ["source"],
        "Samples that could not be taken; what they would have told is absent meanwhile.";
    BUILD_INFO = Gauge, Flag, "lockkeeper_build_info", ["version"],
        "Constant 1; the version is in the label.";
}
