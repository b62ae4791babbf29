//! How the daemon starts, or says why it does not.

use support::hold::restock;
use support::{lockkeeper, world::World};

#[tokio::test]
async fn an_absent_database_or_broker_is_exit_69_and_one_clear_line() {
    let world = World::new().await;
    let free = throwaway::servers::free_port().expect("a free port");
    for (key, url) in [
        ("DATABASE_URL", format!("mysql://root:canary@127.0.0.1:{free}/none")),
        ("LOCKKEEPER_STREAM_URL", format!("redis://:canary@127.0.0.1:{free}")),
    ] {
        let mut environment = world.environment();
        environment.insert(key.to_owned(), url);
        let (code, output) = lockkeeper(&["run"], &environment).await;
        assert_eq!(code, Some(69), "{key}: {output}");
        let lines: Vec<_> = output.lines().filter(|line| line.starts_with("lockkeeper: ")).collect();
        assert_eq!(lines.len(), 1, "{key}: {output}");
        assert!(lines[0].contains("unavailable"), "{key}: {output}");
        assert!(!output.contains("canary"), "a password is in the output: {output}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_is_exit_78_with_every_problem() {
    let environment = [
        ("DATABASE_URL", "postgres://root:canary@127.0.0.1/shop"),
        ("REDIS_URL", "redis://127.0.0.1:6379"),
        ("REDIS_URL_1", "redis://127.0.0.1:7001"),
        ("REDIS_URL_2", "redis://127.0.0.1:7002"),
        ("LOCKKEEPER_LOCK_TTL_MS", "soon"),
        ("LOCKKEEPER_BATCH_MAX_JBS", "5"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for command in ["run", "check"] {
        let (code, output) = lockkeeper(&[command, "--http-listen", "nowhere"], &environment).await;
        assert_eq!(code, Some(78), "{output}");
        for expected in ["database.url", "lock.ttl_ms", "BATCH_MAX_JBS", "http.listen", "lock.nodes"] {
            assert!(output.contains(expected), "{expected} is not named: {output}");
        }
        assert!(!output.contains("canary"), "a password is in the output: {output}");
    }
}

#[tokio::test]
async fn a_cluster_node_and_a_schema_that_must_not_be_migrated_are_refused() {
    let world = World::new().await;
    let folder = throwaway::servers::Folder::temporary().expect("a folder");
    let cluster = throwaway::servers::RedisServer::start(&folder, "cluster", &["--cluster-enabled", "yes"]);
    let cluster = cluster.await.expect("a cluster node starts");
    let mut environment = world.environment();
    environment.insert("LOCKKEEPER_LOCK_NODES".into(), cluster.url());
    let (code, output) = lockkeeper(&["run"], &environment).await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("redis1") && output.to_lowercase().contains("cluster"), "{output}");
    let mut environment = world.environment();
    let mut sql = world.sql().await;
    sqlx::raw_sql("DROP TABLE _sqlx_migrations").execute(&mut sql).await.expect("the table is dropped");
    environment.insert("LOCKKEEPER_DATABASE_MIGRATE".into(), "false".into());
    let (code, output) = lockkeeper(&["run"], &environment).await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("lockkeeper migrate"), "{output}");
}

#[tokio::test]
async fn check_tells_of_every_server_and_of_a_foreign_group() {
    let world = World::new().await;
    let environment = world.environment();
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    for expected in ["database", "schema", "broker", "stream", "lock node redis1"] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
    let mut group = redis::cmd("XGROUP");
    group.arg("CREATE").arg(&world.stream).arg("analytics").arg("0").arg("MKSTREAM");
    group.query_async::<()>(&mut world.redis.clone()).await.expect("a foreign group");
    let (code, output) = lockkeeper(&["check", "--json"], &environment).await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("analytics"), "{output}");
}

#[tokio::test]
async fn the_command_line_pushes_waits_and_shows() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    let (pen, environment) = (world.id("pen"), world.environment());
    let data = r#"{"name":"pen","supply_price":7.5,"vat":"0.5","is_tax_free":false,"stock":3,"member_id":1}"#;
    let push = ["enqueue", "item.register", &pen, "--data", data, "--id", "first", "--wait"];
    let (code, output) = lockkeeper(&push, &environment).await;
    assert_eq!((code, output.trim()), (Some(0), "first applied events 1..1"));
    let (code, output) = lockkeeper(&["job", "first", "--json"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    let job: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(job["events"][0]["payload"]["supply_price"], "7.500");
    let (code, output) = lockkeeper(&["events", &format!("item/{pen}")], &environment).await;
    assert!(code == Some(0) && output.contains("v1") && output.contains("item.registered"), "{output}");
    let (code, output) =
        lockkeeper(&["enqueue", "item.restock", &pen, "--data", r#"{"quantity":0}"#], &environment).await;
    assert!(code == Some(1) && output.contains("data.quantity"), "{output}");
    let (code, output) = lockkeeper(&["job", "unheard-of"], &environment).await;
    assert!(code == Some(1) && output.contains("no receipt"), "{output}");
}

#[tokio::test]
async fn a_missing_grant_is_exit_77_and_named() {
    let world = World::new().await;
    let mut root = world.sql().await;
    let database = world.database.rsplit('/').next().unwrap_or_default().to_owned();
    let user = format!("reader_{}", world.prefix);
    let host = "'127.0.0.1'";
    let create =
        format!("CREATE USER '{user}'@{host} IDENTIFIED BY 'canary'; GRANT SELECT ON {database}.* TO '{user}'@{host}");
    sqlx::raw_sql(&create).execute(&mut root).await.expect("an account that may only read");
    let mut environment = world.environment();
    let server = world.database.split('@').nth(1).expect("user@host");
    environment.insert("DATABASE_URL".into(), format!("mysql://{user}:canary@{server}"));
    for command in ["run", "check"] {
        let (code, output) = lockkeeper(&[command], &environment).await;
        assert_eq!(code, Some(77), "{command}: {output}");
        assert!(output.contains("INSERT") && output.contains("events"), "{command} does not name the grant: {output}");
        assert!(!output.contains("canary"), "a password is in the output: {output}");
    }
}

#[tokio::test]
async fn the_grants_that_the_documentation_names_are_enough_and_one_fewer_is_too_few() {
    let world = World::new().await;
    let mut root = world.sql().await;
    let (code, output) = lockkeeper(&["migrate"], &world.environment()).await;
    assert_eq!(code, Some(0), "{output}");
    let database = world.database.rsplit('/').next().unwrap_or_default().to_owned();
    let account = format!("'daemon_{}'@'127.0.0.1'", world.prefix);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"))
        .expect("the documentation");
    let grants = text.lines().filter(|line| line.starts_with("GRANT ") && line.ends_with("TO 'lockkeeper'@'%';"));
    let grants =
        grants.map(|line| line.replace(" lockkeeper.", &format!(" {database}.")).replace("'lockkeeper'@'%'", &account));
    let create = format!("CREATE USER {account} IDENTIFIED BY 'canary'; {}", grants.collect::<String>());
    sqlx::raw_sql(&create).execute(&mut root).await.expect("an account with the documentation's grants");
    let server = world.database.split('@').nth(1).expect("user@host");
    let mut environment = world.environment();
    environment.insert("DATABASE_URL".into(), format!("mysql://daemon_{}:canary@{server}", world.prefix));
    environment.insert("LOCKKEEPER_DATABASE_MIGRATE".into(), "false".into());
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    let url = environment["DATABASE_URL"].clone();
    let _daemon = world.daemon(&[("DATABASE_URL", &url), ("LOCKKEEPER_DATABASE_MIGRATE", "false")]).await;
    let (pen, order) = (world.id("pen"), world.id("order"));
    world.item_on_sale(&pen, 1).await;
    restock(&world, &pen, 300).await;
    let data = format!(r#"{{"member_id":1,"lines":[{{"item_id":"{pen}","quantity":1}}]}}"#);
    assert_eq!(world.outcome("order.place", &order, &data).await, "applied");
    assert_eq!(world.outcome("order.cancel", &order, r#"{"reason":"r"}"#).await, "applied");
    assert_eq!(world.store.snapshots_from(None, 10).await.expect("the snapshots").len(), 1);

    let revoke = format!("REVOKE UPDATE ON {database}.snapshots FROM {account}");
    sqlx::raw_sql(&revoke).execute(&mut root).await.expect("one grant fewer");
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert!(code == Some(77) && output.contains("UPDATE") && output.contains("snapshots"), "{code:?} {output}");
}
