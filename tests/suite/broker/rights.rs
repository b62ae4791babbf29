//! A broker that does not let us, or cannot, do what the daemon has to: said at start, by name, and later in `/readyz`.

use std::collections::HashMap;

use throwaway::servers::{Folder, RedisServer};

use support::{eventually, lockkeeper, world::World};

/// A broker of its own with these arguments, and the environment of a daemon on it.
async fn broker_with(world: &World, arguments: &[&str]) -> (RedisServer, HashMap<String, String>) {
    let folder = Folder::temporary().expect("a folder");
    let broker = RedisServer::start(&folder, "broker", arguments).await.expect("a broker of its own");
    let mut environment = world.environment();
    environment.insert("LOCKKEEPER_STREAM_URL".into(), broker.url());
    environment.insert("LOCKKEEPER_RETENTION_REPLIES_DAYS".into(), "1".into());
    (broker, environment)
}

/// `check` and `run` end with this code and say all of these.
async fn both_refuse(environment: &HashMap<String, String>, code: i32, words: &[&str]) {
    for command in ["check", "run"] {
        let (ended, output) = lockkeeper(&[command], environment).await;
        assert_eq!(ended, Some(code), "{command}: {output}");
        for word in words {
            assert!(output.to_lowercase().contains(&word.to_lowercase()), "{command} does not say {word}: {output}");
        }
    }
}

/// Every command that the daemon sends to the broker, and no right but them.
const COMMANDS: &[&str] = &[
    "evalsha",
    "exists",
    "get",
    "hdel",
    "hexists",
    "hget",
    "hgetall",
    "hincrby",
    "hmget",
    "hscan",
    "hset",
    "incrby",
    "scan",
    "script|load",
    "set",
    "time",
    "unlink",
    "xack",
    "xadd",
    "xclaim",
    "xdel",
    "xgroup|create",
    "xgroup|delconsumer",
    "xinfo|consumers",
    "xinfo|groups",
    "xinfo|stream",
    "xlen",
    "xpending",
    "xrange",
    "xreadgroup",
    "xrevrange",
    "zadd",
    "zcard",
    "zrangebyscore",
    "zrem",
    "zrevrangebyscore",
    "zscan",
];

/// An account with these rights, and the URL with which it logs in.
async fn account(broker: &RedisServer, name: &str, rights: &[String]) -> String {
    let client = redis::Client::open(broker.url()).expect("the broker's URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the broker answers");
    let mut command = redis::cmd("ACL");
    command.arg("SETUSER").arg(name).arg("reset").arg("on").arg(">canary").arg(rights);
    command.query_async::<()>(&mut connection).await.expect("an account");
    broker.url().replace("redis://", &format!("redis://{name}:canary@"))
}

fn commands_but(left_out: &str) -> Vec<String> {
    COMMANDS.iter().filter(|command| **command != left_out).map(|command| format!("+{command}")).collect()
}

fn keys_but(stream: &str, left_out: &str) -> Vec<String> {
    let sides =
        ["", ":dead", ":held", ":scheduled", ":finished", ":lineage", ":owner", ":fleet", ":paused", ":retention"]
            .map(|side| format!("{stream}{side}"));
    let keys = sides.into_iter().chain(["reply:*".to_owned()]);
    keys.filter(|key| key != left_out).map(|key| format!("~{key}")).collect()
}

#[tokio::test]
async fn a_right_that_is_missing_for_one_command_or_one_key_is_exit_77_and_named() {
    let world = World::new().await;
    let (broker, mut environment) = broker_with(&world, &[]).await;
    let stream = world.stream.clone();
    let enough = [commands_but(""), keys_but(&stream, "")].concat();
    environment.insert("LOCKKEEPER_STREAM_URL".into(), account(&broker, "enough", &enough).await);
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert_eq!(code, Some(0), "with all of them: {output}");
    for command in COMMANDS {
        let rights = [commands_but(command), keys_but(&stream, "")].concat();
        environment.insert("LOCKKEEPER_STREAM_URL".into(), account(&broker, "fewer", &rights).await);
        let (code, output) = lockkeeper(&["check"], &environment).await;
        assert_eq!(code, Some(77), "without {command}: {output}");
        let name = command.to_uppercase().replace('|', " ");
        assert!(output.contains(&format!("{name} on ")) || output.contains(&format!("{name}:")), "{command}: {output}");
        assert!(!output.contains("canary"), "a password is in the output: {output}");
    }
    for key in ["", ":dead", ":held", ":scheduled", ":finished", ":owner", ":fleet", ":paused", ":retention"]
        .map(|side| format!("{stream}{side}"))
    {
        let rights = [commands_but(""), keys_but(&stream, &key)].concat();
        environment.insert("LOCKKEEPER_STREAM_URL".into(), account(&broker, "fewer", &rights).await);
        both_refuse(&environment, 77, &[&format!(" on {key}:")]).await;
    }
    let rights = [commands_but(""), keys_but(&stream, "reply:*")].concat();
    environment.insert("LOCKKEEPER_STREAM_URL".into(), account(&broker, "fewer", &rights).await);
    both_refuse(&environment, 77, &["XADD on reply:"]).await;
}

#[tokio::test]
async fn the_probe_changes_nothing() {
    let world = World::new().await;
    let (broker, environment) = broker_with(&world, &[]).await;
    let client = redis::Client::open(broker.url()).expect("the broker's URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the broker answers");
    let mut keys = async || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("the keys");
        keys
    };
    let (code, output) = lockkeeper(&["check"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(keys().await, Vec::<String>::new(), "a check has made keys");
    let mut world = world;
    world.redis = client.get_multiplexed_async_connection().await.expect("the broker answers");
    let stream = world.stream.as_str();
    for command in [
        vec!["XGROUP", "CREATE", stream, "lockkeeper", "0", "MKSTREAM"],
        vec!["XADD", stream, "1-1", "type", "none"],
        vec!["XADD", stream, "2-1", "type", "none"],
        vec!["XREADGROUP", "GROUP", "lockkeeper", "somebody", "COUNT", "1", "STREAMS", stream, ">"],
        vec!["ZADD", &format!("{stream}:scheduled"), "1", "member"],
        vec!["XADD", &format!("{stream}:dead"), "1-1", "reason", "none"],
        vec!["SET", &format!("{stream}:finished"), "7"],
    ] {
        world.redis_do::<redis::Value>(&command).await;
    }
    let mut before = Vec::new();
    for _ in 0..2 {
        let mut state = Vec::new();
        for key in
            [stream.to_owned(), format!("{stream}:dead"), format!("{stream}:scheduled"), format!("{stream}:finished")]
        {
            state.push(world.redis_do::<redis::Value>(&["DUMP", &key]).await);
        }
        state.push(world.redis_do::<redis::Value>(&["XPENDING", stream, "lockkeeper"]).await);
        if before.is_empty() {
            before = state;
            let (code, output) = lockkeeper(&["check"], &environment).await;
            assert_eq!(code, Some(0), "{output}");
        } else {
            assert_eq!(state, before, "a check has changed something");
        }
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_a_broker_is_refused_with_the_reason() {
    let world = World::new().await;
    // A cluster of one node, which has every slot.
    let (cluster, environment) = broker_with(&world, &["--cluster-enabled", "yes"]).await;
    both_refuse(&environment, 78, &["cluster"]).await;
    let client = redis::Client::open(cluster.url()).expect("the node's URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the node answers");
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16383);
    slots.query_async::<()>(&mut connection).await.expect("every slot");
    both_refuse(&environment, 78, &["cluster"]).await;
    // One that keeps from us what it is says it by its answers.
    let mut hidden = environment.clone();
    let rights = ["~*", "&*", "+@all", "-info"].map(str::to_owned);
    hidden.insert("LOCKKEEPER_STREAM_URL".into(), account(&cluster, "uninformed", &rights).await);
    eventually("the cluster serves its slots", async || {
        let (_, output) = lockkeeper(&["check"], &hidden).await;
        output.to_lowercase().contains("crossslot").then_some(())
    })
    .await;
    both_refuse(&hidden, 78, &["CROSSSLOT", "the script that acknowledges"]).await;

    for command in ["EVALSHA", "SCRIPT", "XCLAIM", "XGROUP", "ZADD"] {
        let (_broker, environment) = broker_with(&world, &["--rename-command", command, ""]).await;
        both_refuse(&environment, 78, &[command, "unknown command"]).await;
    }

    let evicts = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let (_evicting, environment) = broker_with(&world, &evicts).await;
    both_refuse(&environment, 78, &["allkeys-lru", "noeviction"]).await;

    let (master, _) = broker_with(&world, &[]).await;
    let of = format!("127.0.0.1 {}", master.port());
    let (_replica, environment) = broker_with(&world, &["--replicaof", &of, "--replica-read-only", "no"]).await;
    both_refuse(&environment, 69, &["replica"]).await;
}

#[tokio::test]
async fn a_right_that_goes_later_is_named_in_readyz_and_its_return_is_seen() {
    let world = World::new().await;
    let (broker, _) = broker_with(&world, &[]).await;
    let rights = ["~*", "&*", "+@all"].map(str::to_owned);
    let url = account(&broker, "app", &rights).await;
    let daemon = world.daemon(&[("LOCKKEEPER_STREAM_URL", &url)]).await;
    let client = redis::Client::open(broker.url()).expect("the broker's URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the broker answers");
    let mut change = async |right: &str| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("app").arg(right);
        command.query_async::<()>(&mut connection).await.expect("the account is changed");
    };
    for (gone, back) in [("-zadd", "+zadd"), ("-xack", "+xack"), ("-evalsha", "+evalsha")] {
        change(gone).await;
        let name = gone[1..].to_uppercase();
        eventually(&format!("/readyz names {name}"), async || {
            let (status, text) = daemon.get("/readyz").await?;
            (status == 503 && text.contains(&name) && !text.contains("canary")).then_some(())
        })
        .await;
        change(back).await;
        eventually("/readyz is well again", async || daemon.get("/readyz").await.filter(|(status, _)| *status == 200))
            .await;
    }
}
