//! One failing case for every relation.

use super::*;

#[test]
fn stream_names_leave_room_for_the_daemons_own() {
    let of = |problem: &str| format!("stream.names (from LOCKKEEPER_STREAM_NAMES): stream 2: {problem}");
    let dead = of(
        "must not end in :dead, :held, :scheduled, :finished, :lineage, :owner, :fleet, :paused or :retention, which are the daemon's own",
    );
    assert_problem("LOCKKEEPER_STREAM_NAMES", "jobs,jobs:dead", &dead);
    assert_problem("LOCKKEEPER_STREAM_NAMES", "jobs,jobs:scheduled", &dead);
    let own = of("must not start with lock: or reply:, which locks and replies are named by");
    assert_problem("LOCKKEEPER_STREAM_NAMES", "jobs,reply:a", &own);
    assert_problem("LOCKKEEPER_STREAM_NAMES", "jobs,jobs", &of("must not be named twice"));
    let rule = "must be 1 to 128 bytes of text without white space, control characters or ://";
    assert_problem("LOCKKEEPER_STREAM_NAMES", "jobs,", &of(rule));
    assert_problem("LOCKKEEPER_STREAM_NAMES", "jobs,redis://canary", &of(rule));
    let group = format!("stream.group (from LOCKKEEPER_STREAM_GROUP): {rule}");
    assert_problem("LOCKKEEPER_STREAM_GROUP", "", &format!("{group}, not ``"));
    assert_problem("LOCKKEEPER_STREAM_GROUP", "redis://canary", &format!("{group}, not `***`"));
    let none = problems(Some("[stream]\nnames = []"), REQUIRED, &[]);
    assert_eq!(none, "stream.names (from the file): must name at least one stream");
}

#[test]
fn what_comes_first_is_read_and_leaves_something_that_waits() {
    let with = |first: &str, more: &str| {
        let file = format!("[stream]\nnames = [\"a\", \"b\"]\nfirst = {first}\n{more}");
        problems(Some(&file), REQUIRED, &[])
    };
    let all = with(r#"["a", "b"]"#, "");
    assert!(all.contains("stream.first") && all.contains("leaves none that would wait"), "{all}");
    let unknown = with(r#"["c"]"#, "");
    assert!(unknown.contains("stream 1: must be one of stream.names"), "{unknown}");
    let small = with(r#"["a"]"#, "prefetch = 3\n[batch]\nmax_jobs = 1");
    assert!(small.contains("stream.prefetch") && small.contains("must be at least 4"), "{small}");
}

#[test]
fn lock_nodes_are_distinct_and_odd_in_number() {
    let printed = |nodes| problems(None, REQUIRED, &[("lock.nodes", nodes)]);
    let from = "lock.nodes (from --lock-nodes):";
    let even = "an even number tolerates no more failures than one fewer; use";
    assert_eq!(printed("redis://a,redis://b"), format!("{from} 2 nodes: {even} 1 or 3"));
    assert_eq!(
        printed("redis://a,redis://b,redis://u:canary@A:6379/0"),
        format!("{from} node 3 is the same as node 1")
    );
    let all = printed("redis://a,redis://a,redis://b,http://canary");
    assert_eq!(all.lines().count(), 3, "{all}");
    let none = problems(Some("[lock]\nnodes = []"), REQUIRED, &[("lock.ttl_ms", "x")]);
    assert!(none.contains("lock.nodes (from the file): must name at least one node"), "{none}");
    let wrong = problems(Some("[lock]\nnodes = [1]"), REQUIRED, &[]);
    assert_eq!(wrong, "lock.nodes (from the file): must be a list of texts");
}

#[test]
fn a_node_answers_within_the_locks_life() {
    let from = "lock.node_timeout_ms (from LOCKKEEPER_LOCK_NODE_TIMEOUT_MS):";
    assert_problem(
        "LOCKKEEPER_LOCK_NODE_TIMEOUT_MS",
        "2000",
        &format!("{from} must be less than lock.ttl_ms, which is 2000, not 2000"),
    );
    let limit = |ttl| with(&[("LOCKKEEPER_LOCK_TTL_MS", ttl)]).unwrap().lock.node_timeout.as_millis();
    assert_eq!((limit("10"), limit("100"), limit("600000")), (5, 5, 30_000));
}

#[test]
fn capacities_fit_together() {
    assert_problem(
        "LOCKKEEPER_STREAM_PREFETCH",
        "511",
        "stream.prefetch (from LOCKKEEPER_STREAM_PREFETCH): must be at \
        least batch.max_jobs, which is 1024, or no batch is ever full; not 511",
    );
    assert_problem(
        "LOCKKEEPER_BATCH_MAX_JOBS",
        "7000",
        "stream.prefetch (from the default): must be at least \
        batch.max_jobs, which is 7000, or no batch is ever full; not 6144",
    );
    assert_problem(
        "LOCKKEEPER_BATCH_IN_FLIGHT",
        "9",
        "database.max_connections (from the default): must be at least \
        batch.in_flight + 2, which is 11, or batches wait for each other; not 10",
    );
    let wrong = problems(
        None,
        &[REQUIRED, &[("LOCKKEEPER_STREAM_PREFETCH", "x"), ("LOCKKEEPER_BATCH_MAX_JOBS", "7000")]].concat(),
        &[],
    );
    assert_eq!(wrong.lines().count(), 1, "a relation with a value that is wrong anyway says nothing: {wrong}");
}

#[test]
fn a_receipt_outlives_the_deliveries_of_its_job() {
    let long = [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "86400000"), ("LOCKKEEPER_RETENTION_RECEIPTS_DAYS", "4")];
    let printed = problems(None, &[REQUIRED, &long].concat(), &[]);
    assert_eq!(
        printed,
        "retention.receipts_days (from LOCKKEEPER_RETENTION_RECEIPTS_DAYS): must be at least stream.claim_after_ms times \
         stream.max_deliveries, which is 120 h, or a job that is still delivered has a second effect; not 4"
    );
    assert!(with(&[long[0], ("LOCKKEEPER_RETENTION_RECEIPTS_DAYS", "5")]).is_ok());
    assert!(with(&[long[0]]).is_ok_and(|config| !config.retention.is_on()), "nothing goes by default");
}

#[test]
fn a_certificate_goes_with_its_key() {
    let of = |set: &str, var: &str, unset: &str| {
        format!("{set} (from {var}): is of no use without {unset}; set both or neither")
    };
    let cert = of("tls.cert_file", "LOCKKEEPER_TLS_CERT_FILE", "tls.key_file");
    assert_problem("LOCKKEEPER_TLS_CERT_FILE", "c.pem", &cert);
    assert_problem("LOCKKEEPER_TLS_KEY_FILE", "k.pem", &of("tls.key_file", "LOCKKEEPER_TLS_KEY_FILE", "tls.cert_file"));
    assert!(with(&[("LOCKKEEPER_TLS_CERT_FILE", "c.pem"), ("LOCKKEEPER_TLS_KEY_FILE", "k.pem")]).is_ok());
}
