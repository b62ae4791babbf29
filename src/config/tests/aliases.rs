//! The names other services use, and secrets in files.

use super::*;

#[test]
fn numbered_variables_are_the_lock_nodes() {
    let env = [("REDIS_URL_1", "redis://a"), ("REDIS_URL_2", "redis://b"), ("REDIS_URL_3", "redis://c")];
    assert_eq!(exposed(&with(&env).unwrap().lock.nodes), ["redis://a", "redis://b", "redis://c"]);
    let nodes: Vec<_> = (1..=11).map(|n| (format!("REDIS_URL_{n}"), format!("redis://node-{n}"))).collect();
    let env: Vec<_> = nodes.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    assert_eq!(with(&env).unwrap().lock.nodes[10].expose(), "redis://node-11");
}

#[test]
fn a_hole_in_the_numbers_is_an_error() {
    let env = [REQUIRED, &[("REDIS_URL_1", "redis://a"), ("REDIS_URL_2", " "), ("REDIS_URL_3", "redis://c")]].concat();
    let printed = problems(None, &env, &[]);
    assert!(printed.contains("lock.nodes: REDIS_URL_2 is missing although REDIS_URL_3 is set"), "{printed}");
    for name in ["REDIS_URL_0", "REDIS_URL_01", "REDIS_URL_99999999999"] {
        let expected = format!("lock.nodes: {name} is not one of REDIS_URL_1, REDIS_URL_2 and so on");
        assert_problem(name, "redis://a", &expected);
    }
    assert!(with(&[("REDIS_URL_CACHE", "http://elsewhere")]).is_ok());
}

#[test]
fn redis_url_is_the_lock_node_only_when_there_is_no_other() {
    let file = Some("[lock]\nnodes = [\"redis://from-file\"]\n");
    let nodes = |config: Config| config.lock.nodes[0].expose().to_owned();
    assert_eq!(nodes(load_all(file, REQUIRED, &[]).unwrap()), "redis://from-file");
    assert_eq!(nodes(load_all(None, REQUIRED, &[("lock.nodes", "redis://flag")]).unwrap()), "redis://flag");
    let only_nodes = problems(None, &[("DATABASE_URL", DATABASE), ("REDIS_URL_1", REDIS)], &[]);
    assert!(only_nodes.starts_with("stream.url: is required: set REDIS_URL"), "{only_nodes}");
    assert_eq!(only_nodes.lines().count(), 1);
    let only_stream = problems(None, &[("DATABASE_URL", DATABASE), ("LOCKKEEPER_STREAM_URL", REDIS)], &[]);
    assert!(only_stream.starts_with("lock.nodes: is required: set REDIS_URL_1"), "{only_stream}");
}

#[test]
fn an_alias_may_repeat_its_key_but_not_contradict_it() {
    let own = [("LOCKKEEPER_DATABASE_URL", DATABASE), ("LOCKKEEPER_STREAM_URL", REDIS)];
    assert_eq!(with(&own).unwrap(), with(&[]).unwrap());
    let expected = "LOCKKEEPER_DATABASE_URL and DATABASE_URL are set to different values; unset one";
    assert_problem("LOCKKEEPER_DATABASE_URL", "mysql://root:canary@x/y", &format!("database.url: {expected}"));
    let same = [("LOCKKEEPER_LOCK_NODES", "redis://a , redis://b,redis://c"), ("REDIS_URL_1", "redis://a")];
    let printed = problems(None, &[REQUIRED, &same].concat(), &[]);
    assert_eq!(printed, "lock.nodes: LOCKKEEPER_LOCK_NODES and REDIS_URL_1 are set to different values; unset one");
    assert!(with(&[&same[..], &[("REDIS_URL_2", "redis://b"), ("REDIS_URL_3", "redis://c")]].concat()).is_ok());
}

#[test]
fn every_secret_can_come_from_a_file() {
    let env = [("DATABASE_URL_FILE", "database"), ("REDIS_URL_FILE", "redis"), ("LOCKKEEPER_LOCK_NODES_FILE", "nodes")];
    let config = load_all(None, &env, &[]).unwrap();
    assert_eq!(config.database.url.expose(), DATABASE);
    assert_eq!(config.lock.nodes[2].expose(), "redis://:canary@c");
    let env = [
        ("LOCKKEEPER_DATABASE_URL_FILE", "database"),
        ("LOCKKEEPER_STREAM_URL_FILE", "redis"),
        ("REDIS_URL_1_FILE", "redis"),
    ];
    assert_eq!(exposed(&load_all(None, &env, &[]).unwrap().lock.nodes), [REDIS]);
}

#[test]
fn a_secret_and_its_file_are_not_both_set() {
    let both = "are both set; unset one";
    assert_problem(
        "DATABASE_URL_FILE",
        "database",
        &format!("database.url: DATABASE_URL and DATABASE_URL_FILE {both}"),
    );
    assert_problem("REDIS_URL_FILE", "redis", &format!("stream.url: REDIS_URL and REDIS_URL_FILE {both}"));
    let env = [("REDIS_URL_1", "redis://a"), ("REDIS_URL_1_FILE", "redis")];
    let printed = problems(None, &[REQUIRED, &env].concat(), &[]);
    assert_eq!(printed, format!("lock.nodes: REDIS_URL_1 and REDIS_URL_1_FILE {both}"));
}

#[test]
fn a_secret_file_that_cannot_be_read_is_named_by_its_variable_alone() {
    let env = [("REDIS_URL", REDIS), ("DATABASE_URL_FILE", "mysql://shop:canary@db/shop")];
    let expected = "database.url (from DATABASE_URL_FILE): the file it names cannot be read: entity not found";
    assert_eq!(problems(None, &env, &[]), expected);
    let env = [("REDIS_URL", REDIS), ("DATABASE_URL_FILE", "empty")];
    assert_eq!(problems(None, &env, &[]), "database.url (from DATABASE_URL_FILE): the file it names is empty");
}
