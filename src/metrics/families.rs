//! Every family: its name, its kind and buckets, its help.

/// What kind of series a family has.
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

/// One metric family.
pub(super) struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, buckets: &'static [f64], help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram(buckets), help }
}

const LOCK_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];
const STORE_SECONDS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];
const JOB_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

pub(super) const QUEUE_LENGTH: Family = gauge("lockkeeper_queue_length", "Entries in the stream: waiting and in hand.");
pub(super) const QUEUE_LAG: Family =
    gauge("lockkeeper_queue_lag", "Entries not delivered to the group yet; NaN when the broker cannot tell.");
pub(super) const QUEUE_LAG_KNOWN: Family =
    gauge("lockkeeper_queue_lag_known", "1 when the broker can tell the lag, else 0.");
pub(super) const QUEUE_PENDING: Family = gauge("lockkeeper_queue_pending", "Entries delivered and not acknowledged.");
pub(super) const DEAD_LETTER_LENGTH: Family =
    gauge("lockkeeper_dead_letter_length", "Entries in the dead-letter stream.");
pub(super) const QUEUE_POLL: Family =
    gauge("lockkeeper_queue_last_poll_timestamp_seconds", "When the streams were last read, Unix time.");
pub(super) const CLAIM_DELETED: Family =
    counter("lockkeeper_claim_deleted_total", "Pending entries whose contents somebody had deleted: lost jobs.");
pub(super) const ENTRIES_LOST: Family = counter(
    "lockkeeper_queue_entries_lost_total",
    "Entries that were trimmed or deleted before they were run: lost jobs.",
);
pub(super) const GROUPS_RECREATED: Family =
    counter("lockkeeper_queue_groups_recreated_total", "Times a group was gone and was created again.");
pub(super) const JOBS_FETCHED: Family =
    counter("lockkeeper_jobs_fetched_total", "Jobs taken in, new or claimed from a dead consumer.");
pub(super) const JOBS_PROCESSED: Family = counter("lockkeeper_jobs_processed_total", "Jobs that ended, by outcome.");
pub(super) const JOBS_DEAD: Family =
    counter("lockkeeper_jobs_dead_lettered_total", "Jobs that went to the dead letters, by reason.");
pub(super) const JOBS_WAITING: Family = gauge("lockkeeper_jobs_waiting", "Jobs in hand that wait for a batch.");
pub(super) const JOBS_IN_FLIGHT: Family = gauge("lockkeeper_jobs_in_flight", "Jobs in a batch that has not ended.");
pub(super) const JOBS_PUT_BACK: Family =
    counter("lockkeeper_jobs_put_back_total", "Jobs that left a batch unfinished and wait again, by reason.");
pub(super) const JOB_END_TO_END: Family =
    histogram("lockkeeper_job_end_to_end_seconds", JOB_SECONDS, "From XADD to the commit that ended the job.");
pub(super) const BATCH_JOBS: Family = histogram("lockkeeper_batch_jobs", SIZES, "Jobs per batch.");
pub(super) const REPLY_ERRORS: Family =
    counter("lockkeeper_reply_errors_total", "Outcomes that could not be written to a reply stream.");
pub(super) const IDS_REUSED: Family =
    counter("lockkeeper_job_ids_reused_total", "Jobs refused because another job has their id.");

pub(super) const LOCK_ACQUIRE: Family =
    histogram("lockkeeper_lock_acquire_duration_seconds", LOCK_SECONDS, "One round of locking for a whole batch.");
pub(super) const LOCK_ATTEMPTS: Family =
    counter("lockkeeper_lock_attempts_total", "Aggregates that a lock was asked for, by outcome.");
pub(super) const LOCK_HOLD: Family =
    histogram("lockkeeper_lock_hold_seconds", LOCK_SECONDS, "From acquiring to releasing a batch's locks.");
pub(super) const LOCK_LOST: Family =
    counter("lockkeeper_lock_lost_total", "Batches whose locks ran out before their commit.");
pub(super) const NODE_REQUESTS: Family =
    counter("lockkeeper_lock_node_requests_total", "Requests to a lock node, by outcome.");
pub(super) const NODE_DURATION: Family =
    histogram("lockkeeper_lock_node_request_duration_seconds", LOCK_SECONDS, "One request to one lock node.");
pub(super) const NODE_UP: Family = gauge("lockkeeper_lock_node_up", "1 while the lock node is connected, else 0.");
pub(super) const LOCK_NODES: Family = gauge("lockkeeper_lock_nodes", "Configured lock nodes.");
pub(super) const LOCK_QUORUM: Family = gauge("lockkeeper_lock_quorum_nodes", "Lock nodes that must grant a lock.");

pub(super) const APPEND_DURATION: Family =
    histogram("lockkeeper_store_append_duration_seconds", STORE_SECONDS, "One transaction of a batch, by outcome.");
pub(super) const APPEND_EVENTS: Family = histogram("lockkeeper_store_append_events", SIZES, "Events per transaction.");
pub(super) const EVENTS_APPENDED: Family =
    counter("lockkeeper_store_events_appended_total", "Events committed, by type.");
pub(super) const CONFLICTS: Family =
    counter("lockkeeper_store_conflicts_total", "Transactions refused because somebody else had written, by guard.");
pub(super) const RETRIES: Family =
    counter("lockkeeper_store_transaction_retries_total", "Transactions the server made us repeat, by reason.");
pub(super) const COMMIT_UNKNOWN: Family =
    counter("lockkeeper_store_commit_unknown_total", "Commits whose answer was lost; the receipts then tell.");
pub(super) const STORE_ERRORS: Family =
    counter("lockkeeper_store_errors_total", "Times the database could not be used, by class.");
pub(super) const HEAD_POSITION: Family =
    gauge("lockkeeper_store_head_position", "The newest position this process has committed.");
pub(super) const POOL: Family = gauge("lockkeeper_db_pool_connections", "Database connections, by state.");
pub(super) const POOL_MAX: Family =
    gauge("lockkeeper_db_pool_max_connections", "Configured limit of database connections.");

pub(super) const STATE: Family = gauge("lockkeeper_state", "1 for the state that the process is in, else 0.");
pub(super) const BUILD_INFO: Family = gauge("lockkeeper_build_info", "Constant 1; the version is in the label.");

pub(super) const FAMILIES: [Family; 41] = [
    QUEUE_LENGTH,
    QUEUE_LAG,
    QUEUE_LAG_KNOWN,
    QUEUE_PENDING,
    DEAD_LETTER_LENGTH,
    QUEUE_POLL,
    GROUPS_RECREATED,
    CLAIM_DELETED,
    ENTRIES_LOST,
    JOBS_FETCHED,
    JOBS_PROCESSED,
    JOBS_DEAD,
    JOBS_WAITING,
    JOBS_IN_FLIGHT,
    JOBS_PUT_BACK,
    JOB_END_TO_END,
    BATCH_JOBS,
    REPLY_ERRORS,
    IDS_REUSED,
    LOCK_ACQUIRE,
    LOCK_ATTEMPTS,
    LOCK_HOLD,
    LOCK_LOST,
    NODE_REQUESTS,
    NODE_DURATION,
    NODE_UP,
    LOCK_NODES,
    LOCK_QUORUM,
    APPEND_DURATION,
    APPEND_EVENTS,
    EVENTS_APPENDED,
    CONFLICTS,
    RETRIES,
    COMMIT_UNKNOWN,
    STORE_ERRORS,
    HEAD_POSITION,
    POOL,
    POOL_MAX,
    STATE,
    BUILD_INFO,
    JOBS_SCHEDULED,
];
pub(super) const JOBS_SCHEDULED: Family =
    counter("lockkeeper_jobs_scheduled_total", "Jobs that were not due and moved to the schedule.");
