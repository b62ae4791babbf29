//! From the text of `/metrics` to the screen.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::screen::Screen;
use crate::view::exposition::Exposition;
use crate::view::{Severity, View, Watched, count, seconds, view};

const HEALTHY: &str = r#"
lockkeeper_build_info{version="1.2.3"} 1
lockkeeper_state{state="running"} 1
lockkeeper_state{state="draining"} 0
lockkeeper_ready{check="database"} 1
process_start_time_seconds 1000
process_resident_memory_bytes 10485760
lockkeeper_jobs_processed_total{queue="jobs",job_type="a",outcome="applied"} 100
lockkeeper_jobs_processed_total{queue="jobs",job_type="b",outcome="applied"} 20
lockkeeper_jobs_processed_total{queue="jobs",job_type="b",outcome="dead"} 0
lockkeeper_jobs_in_flight 7
lockkeeper_jobs_waiting 3
lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="a",le="0.1"} 10
lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="a",le="0.2"} 10
lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="a",le="+Inf"} 10
lockkeeper_queue_length{queue="jobs"} 10
lockkeeper_stream_owned{queue="jobs"} 1
lockkeeper_stream_paused{queue="jobs"} 0
lockkeeper_fleet_members 2
lockkeeper_stream_unknown_types{queue="jobs"} 0
lockkeeper_queue_lag{queue="jobs",group="lockkeeper"} 4
lockkeeper_queue_lag_known{queue="jobs",group="lockkeeper"} 1
lockkeeper_queue_pending{queue="jobs",group="lockkeeper"} 6
lockkeeper_queue_oldest_age_seconds{queue="jobs",state="undelivered"} 0.5
lockkeeper_queue_oldest_age_seconds{queue="jobs",state="pending"} 1.5
lockkeeper_queue_oldest_age_seconds{queue="jobs",state="overdue"} 0
lockkeeper_dead_letter_length{queue="jobs"} 0
lockkeeper_queue_entries_lost_total{queue="jobs"} 0
lockkeeper_queue_entries_orphaned_total{queue="jobs"} 0
lockkeeper_queue_oldest_age_known{queue="jobs"} 1
lockkeeper_claim_deleted_total{queue="jobs"} 0
lockkeeper_lock_node_up{node="redis1"} 1
lockkeeper_lock_node_up{node="redis2"} 1
lockkeeper_lock_node_up{node="redis3"} 1
lockkeeper_lock_quorum_nodes 2
lockkeeper_lock_attempts_total{outcome="no_quorum"} 0
lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="ok"} 50
lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="held"} 5
lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="timeout"} 0
lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="skipped"} 0
lockkeeper_store_head_position 42
lockkeeper_store_events_appended_total{event_type="e"} 42
lockkeeper_store_errors_total{class="read_only"} 0
lockkeeper_db_pool_connections{state="used"} 3
lockkeeper_db_pool_connections{state="idle"} 1
lockkeeper_db_pool_max_connections 10
"#;

/// Beginnings of lines, and the values they get.
type Changes<'a> = &'a [(&'a str, &'a str)];

/// `HEALTHY` with some values replaced.
fn with(changes: Changes<'_>) -> String {
    let mut lines: Vec<String> = HEALTHY.lines().map(str::to_owned).collect();
    for (series, value) in changes {
        let line = lines.iter_mut().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        match line {
            Some(line) => *line = format!("{series} {value}"),
            None => lines.push(format!("{series} {value}")),
        }
    }
    lines.join("\n")
}

/// A daemon that gave these answers, two seconds apart.
fn watched(url: &str, answers: &[&str]) -> Watched {
    let mut daemon = Watched::new(url.to_owned());
    for (at, text) in answers.iter().enumerate() {
        daemon.take(Duration::from_secs(2 * at as u64), Ok(Exposition::parse(text)));
    }
    daemon
}

fn look(fleet: &[Watched]) -> View {
    view(fleet, Duration::from_secs(30), 1060.0)
}

fn later() -> String {
    with(&[
        (r#"lockkeeper_jobs_processed_total{queue="jobs",job_type="a",outcome="applied"}"#, "120"),
        (r#"lockkeeper_jobs_processed_total{queue="jobs",job_type="b",outcome="dead"}"#, "4"),
        (r#"lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="a",le="0.1"}"#, "15"),
        (r#"lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="a",le="0.2"}"#, "20"),
        (r#"lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="a",le="+Inf"}"#, "20"),
        (r#"lockkeeper_store_events_appended_total{event_type="e"}"#, "62"),
        (r#"lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="held"}"#, "9"),
        (r#"lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="timeout"}"#, "2"),
        (r#"lockkeeper_lock_node_requests_total{node="redis1",op="set",outcome="skipped"}"#, "8"),
    ])
}

#[test]
fn a_healthy_daemon_has_rates_after_two_answers_and_nothing_wrong() {
    let first = look(&[watched("a", &[HEALTHY])]);
    assert_eq!((first.jobs.ended_per_second, first.jobs.p50_seconds, first.jobs.in_flight), (None, None, Some(7.0)));
    let view = look(&[watched("a", &[HEALTHY, &later()])]);
    assert_eq!(view.findings, []);
    assert_eq!(view.jobs.ended_per_second, Some(12.0));
    assert_eq!(view.jobs.outcomes_per_second["applied"].to_bits(), 10f64.to_bits());
    assert_eq!((view.jobs.p50_seconds, view.store.events_per_second), (Some(0.1), Some(10.0)));
    assert!(view.jobs.p99_seconds.is_some_and(|p99| (0.197..=0.2).contains(&p99)), "{:?}", view.jobs);
    let queue = &view.queues[0];
    assert_eq!((queue.lag, queue.pending, queue.oldest_seconds), (Some(4.0), Some(6.0), Some(1.5)));
    let node = &view.locks.nodes[0];
    assert_eq!((node.answers_per_second, node.failures_per_second), (Some(2.0), Some(1.0)), "skipped is neither");
    let daemon = &view.daemons[0];
    assert_eq!(
        (daemon.state.as_str(), daemon.version.as_deref(), daemon.up_seconds),
        ("running", Some("1.2.3"), Some(60.0))
    );
}

#[test]
fn daemons_are_added_up_and_what_they_see_of_one_server_is_not() {
    let fleet = [watched("a", &[HEALTHY, &later()]), watched("b", &[HEALTHY, &later()])];
    let view = look(&fleet);
    assert_eq!((view.jobs.ended_per_second, view.jobs.in_flight), (Some(24.0), Some(14.0)));
    assert_eq!((view.queues[0].length, view.queues[0].pending), (Some(10.0), Some(6.0)));
    assert_eq!((view.locks.nodes.len(), view.locks.quorum), (3, Some(2.0)));
    assert_eq!((view.locks.nodes[0].up_for, view.locks.nodes[0].known_to), (2, 2));
    assert_eq!(view.findings.len(), 1, "{:?}", view.findings);
    assert!(view.findings[0].text.starts_with("a and b say they own jobs"), "{:?}", view.findings);
}

#[test]
fn what_is_not_known_is_never_zero() {
    for unknown in ["NaN", "0"] {
        // A daemon that cannot tell the lag says NaN, or a number beside lag_known 0.
        let text = with(&[
            (r#"lockkeeper_queue_lag{queue="jobs",group="lockkeeper"}"#, unknown),
            (r#"lockkeeper_queue_lag_known{queue="jobs",group="lockkeeper"}"#, "0"),
        ]);
        let view = look(&[watched("a", &[&text])]);
        assert_eq!(view.queues[0].lag, None);
        let json = serde_json::to_value(&view).expect("JSON");
        assert!(json["queues"][0]["lag"].is_null() && json["jobs"]["ended_per_second"].is_null(), "{json}");
        assert!(view.findings[0].text.contains("cannot tell"), "{:?}", view.findings);
        assert!(super::text(&view).lines().any(|line| line.starts_with("jobs ") && line.contains('–')));
    }
    let restarted = watched("a", &[&later(), HEALTHY]);
    assert_eq!(look(&[restarted]).jobs.ended_per_second, None, "a counter that went back began anew");
}

/// The one finding about a daemon whose second answer differs so.
fn finding(changes: Changes<'_>) -> (Severity, String) {
    let (before, now) = (later(), with(changes));
    // Jobs go on ending unless a change says otherwise.
    let now = now.replace("outcome=\"applied\"} 20", "outcome=\"applied\"} 200");
    let view = look(&[watched("a", &[&before, &now])]);
    let [finding] = &view.findings[..] else { panic!("{changes:?}: {:?}", view.findings) };
    (finding.severity, finding.text.clone())
}

#[test]
fn each_finding_says_what_is_wrong_and_what_to_do() {
    use Severity::{Critical, Info, Warning};
    const NODE2: &str = r#"lockkeeper_lock_node_up{node="redis2"}"#;
    const NODE3: &str = r#"lockkeeper_lock_node_up{node="redis3"}"#;
    const PENDING: &str = r#"lockkeeper_queue_oldest_age_seconds{queue="jobs",state="pending"}"#;
    const LETTERS: &str = r#"lockkeeper_dead_letter_length{queue="jobs"}"#;
    const LENGTH: &str = r#"lockkeeper_queue_length{queue="jobs"}"#;
    const COMMIT: &str = r#"lockkeeper_stalled_seconds{step="commit"}"#;
    const ACKNOWLEDGE: &str = r#"lockkeeper_stalled_seconds{step="acknowledge"}"#;
    const LOST: &str = r#"lockkeeper_queue_entries_lost_total{queue="jobs"}"#;
    const ORPHANED: &str = r#"lockkeeper_queue_entries_orphaned_total{queue="jobs"}"#;
    const AGE_KNOWN: &str = r#"lockkeeper_queue_oldest_age_known{queue="jobs"}"#;
    let cases: [(Changes<'_>, Severity, &str); 21] = [
        (&[(r#"lockkeeper_stream_unknown_types{queue="jobs"}"#, "1")], Warning, "jobs of jobs are of a type"),
        (&[(r#"lockkeeper_stream_paused{queue="jobs"}"#, "1")], Warning, "jobs is paused: `lockkeeper streams list`"),
        (&[("lockkeeper_fleet_members", "1")], Info, "no daemon stands by: a crash stops the work"),
        (&[(r#"lockkeeper_stream_owned{queue="jobs"}"#, "0")], Critical, "nobody owns jobs: resume a daemon"),
        (
            &[(ORPHANED, "3")],
            Warning,
            "3 entries of jobs were in no list and have been taken in: find who acknowledges, or moves the group",
        ),
        (
            &[(AGE_KNOWN, "0")],
            Warning,
            "the ids of entries of jobs are no times, so nobody knows how old they are: have them be `*`",
        ),
        (&[(NODE2, "0")], Warning, "lock node redis2 is down: start it; 2 of 3 grant"),
        (
            &[(NODE2, "0"), (NODE3, "0")],
            Critical,
            "lock quorum lost: 1 of 3 nodes are up and 2 must be, so nothing runs: start redis2, redis3",
        ),
        (
            &[(PENDING, "40"), (LENGTH, "1500")],
            Warning,
            "backlog grows in jobs: the oldest of 1,500 waits 40 s: more comes than is committed",
        ),
        (&[(PENDING, "40"), (LENGTH, "5")], Warning, "backlog in jobs: the oldest of 5 waits 40 s, which gets less"),
        (&[(LETTERS, "3")], Warning, "dead letters of jobs: 3, see `lockkeeper dead-letters list`"),
        (&[(LOST, "5")], Critical, "5 entries of jobs vanished before they were run"),
        (&[(r#"lockkeeper_store_errors_total{class="read_only"}"#, "2")], Critical, "the database is read-only"),
        (&[(r#"lockkeeper_ready{check="database"}"#, "0")], Critical, "a is not ready, database fails"),
        (
            &[(COMMIT, "45"), (r#"lockkeeper_ready{check="progress"}"#, "0")],
            Critical,
            "a has had jobs in hand for 45 s and committed none",
        ),
        (&[(COMMIT, "29"), (ACKNOWLEDGE, "31")], Critical, "a has had jobs in hand for 31 s and acknowledged none"),
        (&[(r#"lockkeeper_lock_attempts_total{outcome="no_quorum"}"#, "9")], Critical, "locks find no quorum"),
        (
            &[(r#"lockkeeper_db_pool_connections{state="used"}"#, "10")],
            Warning,
            "all 10 database connections are in use",
        ),
        (&[("lockkeeper_config_last_reload_successful", "0")], Warning, "a was told to reload a broken configuration"),
        (
            &[(r#"lockkeeper_state{state="running"}"#, "0"), (r#"lockkeeper_state{state="draining"}"#, "1")],
            Info,
            "a drains, 7 in flight",
        ),
        (
            &[(r#"lockkeeper_lock_node_quarantined{node="redis2"}"#, "1")],
            Info,
            "lock node redis2 has restarted and is kept out for a while; 2 of 3 grant",
        ),
    ];
    for (changes, severity, text) in cases {
        let (found, told) = finding(changes);
        assert!(found == severity && told.starts_with(text), "{changes:?}: {found}: {told}");
    }
    let view = look(&[watched("a", &[&later(), &later().replace("state=\"pending\"} 1.5", "state=\"pending\"} 40")])]);
    assert_eq!(view.findings[0].text, "jobs stands still: the oldest of 10 waits 40 s and no job ends");
}

#[test]
fn a_daemon_that_is_away_is_told_of_until_it_is_back() {
    let mut daemon = watched("a:1", &[HEALTHY]);
    for at in [18, 25] {
        daemon.take(Duration::from_secs(at), Err("connection refused".to_owned()));
    }
    let (away, there) = (look(&[daemon.clone()]), look(&[daemon.clone(), watched("b:1", &[HEALTHY])]));
    let text = "a:1 has not answered for 12 s (connection refused): start it, or give its --url";
    assert_eq!((away.findings[0].severity, away.findings[0].text.as_str()), (Severity::Critical, text));
    assert_eq!(
        (away.jobs.in_flight, there.jobs.in_flight),
        (None, Some(7.0)),
        "what it said last does not count any more"
    );
    daemon.take(Duration::from_secs(29), Ok(Exposition::parse(HEALTHY)));
    assert_eq!(look(&[daemon]).findings, []);
}

/// What a terminal of this size shows.
fn shown(view: &View, history: &[u64], columns: u16, lines: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).expect("a terminal");
    let screen = Screen { view, history };
    terminal.draw(|frame| frame.render_widget(&screen, frame.area())).expect("it is drawn");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..lines).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn the_screen_of_an_ssh_session_has_what_is_wrong_on_top_and_every_part_below() {
    let now = with(&[
        (r#"lockkeeper_lock_node_up{node="redis2"}"#, "0"),
        (r#"lockkeeper_dead_letter_length{queue="jobs"}"#, "3"),
        (r#"lockkeeper_jobs_processed_total{queue="jobs",job_type="a",outcome="applied"}"#, "20100"),
        (r#"lockkeeper_queue_lag{queue="jobs",group="lockkeeper"}"#, "NaN"),
    ]);
    let view = look(&[watched("127.0.0.1:9464", &[HEALTHY, &now])]);
    let lines = shown(&view, &[1, 5, 9], 80, 32);
    let screen = lines.join("\n");
    assert!(lines[0].starts_with("lockkeeper: 1 of 1 daemons answer"), "{screen}");
    assert_eq!(lines[1], "WARNING  lock node redis2 is down: start it; 2 of 3 grant", "{screen}");
    assert_eq!(lines[2], "WARNING  dead letters of jobs: 3, see `lockkeeper dead-letters list`", "{screen}");
    for part in ["JOBS/S", "QUEUE", "LOCK NODE", "DATABASE", "DAEMON"] {
        assert!(lines.iter().any(|line| line.starts_with(part)), "{part} is missing:\n{screen}");
    }
    assert!(screen.contains("10,000"), "the rate:\n{screen}");
    let of =
        |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}:\n{screen}"));
    assert_eq!(of("redis2").split_whitespace().collect::<Vec<_>>()[1], "down");
    assert_eq!(of("jobs ").split_whitespace().collect::<Vec<_>>(), ["jobs", "10", "–", "6", "1.5", "s", "–", "3", "0"]);
    assert!(of("127.0.0.1:9464").contains("1.2.3") && of("127.0.0.1:9464").contains("10 MiB"), "{screen}");

    let small = shown(&view, &[], 40, 5);
    assert!(small[1].starts_with("WARNING  lock node redis2"), "what does not fit is at the bottom: {small:?}");
    let healthy = shown(&look(&[watched("a", &[HEALTHY, &later()])]), &[], 80, 24).join("\n");
    assert!(healthy.contains("nothing is wrong") && healthy.contains("DAEMON"), "it fits 24 lines:\n{healthy}");
}

#[test]
fn numbers_are_written_for_people() {
    let counts = [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.4, "1,234,567"), (-1500.0, "-1,500")];
    for (value, text) in counts {
        assert_eq!(count(value), text);
    }
    let times = [
        (0.0, "0 ms"),
        (0.0015, "1.5 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (40.0, "40 s"),
        (600.0, "10 min"),
        (7500.0, "2 h 5 min"),
        (273_600.0, "3 d 4 h"),
    ];
    for (value, text) in times {
        assert_eq!(seconds(value), text);
    }
}
