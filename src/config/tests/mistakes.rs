//! What is refused in a single value, and how it is told.

use super::*;

#[test]
fn every_problem_is_reported_at_once() {
    let file = "[lock]\nttl = 1\nretry_count = \"three\"\n[streams]\n[drain]\ntimeout_ms = 0\n";
    let env = [
        ("LOCKKEEPER_LOCK_TTL_MS", "abc"),
        ("LOCKKEEPER_BATCH_MAX_JOB", "1"),
        ("DATABASE_URL", "postgres://canary@h/d"),
    ];
    let flags = [("log.format", "xml"), ("http.listen", "localhost:9464")];
    let expected = [
        "lock.ttl (from the file): unknown key; did you mean `lock.ttl_ms`?",
        "[streams] (from the file): unknown section; did you mean `stream`?",
        "LOCKKEEPER_BATCH_MAX_JOB: unknown variable; did you mean `LOCKKEEPER_BATCH_MAX_JOBS`?",
        "database.url (from DATABASE_URL): must start with mysql:// or mariadb://",
        "stream.url: is required: set REDIS_URL, LOCKKEEPER_STREAM_URL, or url in [stream] (REDIS_URL_1 and so \
         on name lock nodes only)",
        "lock.ttl_ms (from LOCKKEEPER_LOCK_TTL_MS): must be a whole number of milliseconds from 10 to 600000, \
         not `abc`",
        "lock.nodes: is required: set REDIS_URL_1, REDIS_URL_2 and so on, LOCKKEEPER_LOCK_NODES, or nodes in \
         [lock]; or REDIS_URL for one Redis that is both stream and lock node",
        "lock.retry_count (from the file): must be a whole number from 0 to 100, not `three`",
        "http.listen (from --http-listen): must be an IP address and a port, such as 127.0.0.1:9464 or \
         [::1]:9464, not `localhost:9464`",
        "drain.timeout_ms (from the file): must be a whole number of milliseconds from 1 to 3600000, not `0`",
        "log.format (from --log-format): must be auto, text or json, not `xml`",
    ];
    assert_eq!(problems(Some(file), &env, &flags).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn unknown_names_come_with_the_nearest_one() {
    let file = |text| problems(Some(text), REQUIRED, &[]);
    let outside = "ttl_ms (from the file): unknown key outside of any section; did you mean `lock.ttl_ms`?";
    assert_eq!(file("ttl_ms = 1"), outside);
    assert_eq!(file("lock = 1"), "lock (from the file): is a section, to be written as [lock]");
    assert_eq!(file("[lock]\nzzzzzzzzz = 1"), "lock.zzzzzzzzz (from the file): unknown key");
    let flag = problems(None, REQUIRED, &[("lock.retry", "1")]);
    assert!(flag.starts_with("lock.retry: unknown key"), "{flag}");
    let unknown = "unknown variable; did you mean `LOCKKEEPER_LOCK_TTL_MS`?";
    assert_problem("LOCKKEEPER_TTL_MS", "1", &format!("LOCKKEEPER_TTL_MS: {unknown}"));
    assert_problem("LOCKKEEPER_LOCK__TTL_MS", "1", &format!("LOCKKEEPER_LOCK__TTL_MS: {unknown}"));
    assert_problem("LOCKKEEPER_ZZZZZZZZ", "1", "LOCKKEEPER_ZZZZZZZZ: unknown variable");
    assert!(with(&[("LOCKKEEPER_TEST_DATABASE", "1"), ("LOCK_TTL_MS", "1")]).is_ok());
}

#[test]
fn a_file_that_is_no_toml_is_one_problem_and_hides_none_in_the_environment() {
    let file = Some("[database]\nurl = mysql://shop:canary@db/shop\n");
    let printed = problems(file, &[("LOCKKEEPER_BATCH_IN_FLIGHT", "-1")], &[]);
    assert!(printed.starts_with("the file: line 2: "), "{printed}");
    assert!(
        printed.ends_with(
            "batch.in_flight (from LOCKKEEPER_BATCH_IN_FLIGHT): must be a whole number from 1 to 64, not `-1`"
        )
    );
    assert_eq!(printed.lines().count(), 2, "{printed}");
}

#[test]
fn numbers_are_kept_within_their_range() {
    let effective: toml::Table = with(&[]).unwrap().redacted_toml().parse().unwrap();
    for key in KEYS.iter().filter(|key| effective[key.section()][key.name()].is_integer()) {
        for wrong in ["4294967295", "4294967296", "-1"] {
            let printed = problems(None, &[REQUIRED, &[(&key.env_name(), wrong)]].concat(), &[]);
            assert!(printed.ends_with(&format!(", not `{wrong}`")), "{printed}");
        }
    }
    let block =
        "stream.block_ms (from LOCKKEEPER_STREAM_BLOCK_MS): must be a whole number of milliseconds from 1 to 150";
    for wrong in ["0", "151", "1.5", ""] {
        assert_problem("LOCKKEEPER_STREAM_BLOCK_MS", wrong, &format!("{block}, not `{wrong}`"));
    }
}

#[test]
fn urls_are_checked_without_being_repeated() {
    let database = [
        "",
        "canary",
        "mysql://u:canary@h",
        "mysql://u:canary@h/",
        "mysql://u:canary@h/a/b",
        "mysql://u:canary@/d",
        "mysql://u:can/ary@h/d",
        "mysql://u:canary@h:x/d",
        "mysql://u:canary@h:70000/d",
        "mysql://u:canary @h/d",
    ];
    for url in database {
        let printed = problems(None, REQUIRED, &[("database.url", url)]);
        assert!(printed.starts_with("database.url (from --database-url): must "), "{url}: {printed}");
        assert_eq!(printed.lines().count(), 1, "{printed}");
    }
    for url in ["mysql://h/d", "mariadb://u:canary@[::1]:3306/d?ssl-mode=REQUIRED", "mysql:///d?socket=/run/m.sock"] {
        assert!(load_all(None, REQUIRED, &[("database.url", url)]).is_ok(), "{url}");
    }
    for url in
        ["", "http://canary@h", "redis://", "redis://:canary@:6379", "redis://h/canary", "unix://", "unix://canary/x"]
    {
        let printed = problems(None, REQUIRED, &[("stream.url", url), ("lock.nodes", url)]);
        assert!(printed.contains("lock.nodes (from --lock-nodes): node 1: must "), "{url}: {printed}");
        assert_eq!(printed.lines().count(), 2, "{printed}");
    }
    for url in
        ["redis://h", "rediss://u:canary@h:6380/", "redis://h/15", "unix:///run/r.sock", "redis+unix:///r?pass=canary"]
    {
        assert!(load_all(None, REQUIRED, &[("stream.url", url), ("lock.nodes", url)]).is_ok(), "{url}");
    }
}

#[test]
fn log_directives_end_in_a_level() {
    for level in ["warn", "DEBUG", "info,sqlx=warn", "lockkeeper::worker=trace, off"] {
        assert_eq!(with(&[("LOCKKEEPER_LOG_LEVEL", level)]).unwrap().log.level, level);
    }
    for level in ["", "verbose", "info,", "=info", "sqlx=", "sqlx=loud", "a b=info"] {
        assert!(with(&[("LOCKKEEPER_LOG_LEVEL", level)]).is_err(), "{level}");
    }
}
