//! A broker whose connections live and lead to the wrong place, or nowhere: each costs the connection, and the next one has to
//! show that it leads to a writable server. Nothing is lost, dead or counted down, and work goes on within seconds.

mod answers;
mod losses;
mod orphans;
mod recovery;
mod rights;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use throwaway::proxy::{Fault, Proxy};
use throwaway::servers::{BROKER, Folder, RedisServer};

use support::{
    eventually,
    world::{Daemon, World},
};

/// How soon work has to go on once a good server can be reached.
const RECOVERY: Duration = Duration::from_secs(5);

/// How soon `/readyz` has to say that nothing can be acknowledged.
const NOTICE: Duration = Duration::from_secs(3);

/// A world whose broker can be moved: daemons reach it through a proxy.
struct Moving {
    world: World,
    proxy: Proxy,
    first: RedisServer,
    folder: Arc<Folder>,
    pen: String,
    /// The ids of the jobs, in their order.
    pushed: Vec<String>,
}

fn address(server: &RedisServer) -> SocketAddr {
    ([127, 0, 0, 1], server.port()).into()
}

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).expect("the broker's URL");
    client.get_multiplexed_async_connection().await.expect("the broker answers")
}

async fn tell<T: redis::FromRedisValue>(server: &RedisServer, words: &[&str]) -> T {
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query_async(&mut connect(server).await).await.expect(words[0])
}

impl Moving {
    async fn new(options: &[&str]) -> Self {
        let mut world = World::new().await;
        let folder = Folder::temporary().expect("a folder");
        let options = [BROKER, options].concat();
        let first = RedisServer::start(&folder, "first", &options).await.expect("a broker of its own");
        let proxy = Proxy::start(address(&first)).await.expect("a proxy");
        world.broker = format!("redis://{}", proxy.address());
        world.redis = connect(&first).await;
        let pen = world.id("pen");
        Self { world, proxy, first, folder, pen, pushed: Vec::new() }
    }

    async fn daemon(&self) -> Daemon {
        let daemon = self.world.daemon(&[]).await;
        self.world.item_on_sale(&self.pen, 0).await;
        daemon
    }

    /// Another server; with `copies` it is a replica of the first one that has all that the first one has.
    async fn second(&self, copies: bool) -> RedisServer {
        let second = RedisServer::start(&self.folder, "second", BROKER).await.expect("a second broker");
        if copies {
            let port = self.first.port().to_string();
            tell::<()>(&second, &["REPLICAOF", "127.0.0.1", &port]).await;
            eventually("the replica is in step", async || {
                let info: String = tell(&second, &["INFO", "replication"]).await;
                info.contains("master_link_status:up").then_some(())
            })
            .await;
        }
        second
    }

    /// Pushes jobs to where the world's connection leads.
    async fn push(&mut self, jobs: usize) {
        for _ in 0..jobs {
            let id = uuid::Uuid::now_v7().to_string();
            self.world.push_with("item.restock", &self.pen, r#"{"quantity":1}"#, &[("id", &id)]).await;
            self.pushed.push(id);
        }
    }

    /// A job that is pushed now is run, and nothing is left, within `RECOVERY`.
    async fn goes_on(&mut self, daemon: &Daemon) {
        let since = Instant::now();
        self.push(1).await;
        let job = lockkeeper::job::JobId::from_text(self.pushed.last().expect("a job"));
        self.world.receipt(job).await;
        self.world.drained().await;
        assert!(since.elapsed() < RECOVERY, "work went on only after {:?}", since.elapsed());
        ready(daemon).await;
        assert!(since.elapsed() < RECOVERY, "ready only after {:?}", since.elapsed());
    }

    /// Every job was run once and in its order, none is dead, and none was counted down.
    async fn whole(&self) {
        let history = self.world.history("item", &self.pen).await;
        let jobs: Vec<String> = history
            .iter()
            .skip(2)
            .map(|event| {
                let metadata: serde_json::Value = serde_json::from_slice(&event.metadata).expect("JSON");
                metadata["job"].as_str().expect("a job").to_owned()
            })
            .collect();
        assert_eq!(jobs, self.pushed);
        let dead = self.world.entries(&format!("{}:dead", self.world.stream)).await;
        assert!(dead.is_empty(), "{dead:?}");
    }
}

async fn ready(daemon: &Daemon) {
    eventually("/readyz says 200", async || daemon.get("/readyz").await.filter(|(status, _)| *status == 200)).await;
}

/// `/readyz` fails for its line `check`, and soon, and is itself answered at once.
async fn not_ready(daemon: &Daemon, check: &str) -> String {
    let since = Instant::now();
    let why = eventually(&format!("/readyz says what is wrong with the {check}"), async || {
        let asked = Instant::now();
        let (status, text) = daemon.get("/readyz").await?;
        assert!(asked.elapsed() < Duration::from_secs(1), "/readyz took {:?}", asked.elapsed());
        let line = text.lines().find(|line| line.starts_with(check))?.to_owned();
        (status == 503 && !line.ends_with(": ok")).then_some(line)
    })
    .await;
    assert!(since.elapsed() < NOTICE, "503 only after {:?}", since.elapsed());
    why
}

/// What the daemon's connections to a server last did, by the server's word.
async fn clients(server: &RedisServer) -> Vec<String> {
    let list: String = tell(server, &["CLIENT", "LIST", "TYPE", "NORMAL"]).await;
    let command = |line: &str| {
        let word = line.split(' ').find_map(|word| word.strip_prefix("cmd="))?;
        ["xreadgroup", "evalsha", "role"].contains(&word).then(|| word.to_owned())
    };
    list.lines().filter_map(command).collect()
}

#[tokio::test]
async fn a_switch_over_that_leaves_the_old_server_alive_as_a_replica() {
    let mut moving = Moving::new(&[]).await;
    let second = moving.second(true).await;
    let daemon = moving.daemon().await;
    moving.push(50).await;
    moving.world.drained().await;
    tell::<()>(&second, &["REPLICAOF", "NO", "ONE"]).await;
    let port = second.port().to_string();
    tell::<()>(&moving.first, &["REPLICAOF", "127.0.0.1", &port]).await;
    let why = not_ready(&daemon, "broker").await;
    assert!(why.contains("READONLY") || why.contains("ReadOnly") || why.contains("slave"), "{why}");
    moving.world.redis = connect(&second).await;
    moving.push(20).await;
    moving.proxy.lead_to(address(&second));
    moving.goes_on(&daemon).await;
    moving.whole().await;
    assert_eq!(clients(&moving.first).await, Vec::<String>::new(), "nothing of the daemon is left at the old server");
}

#[tokio::test]
async fn open_connections_that_are_silent_while_new_ones_work() {
    let mut moving = Moving::new(&[]).await;
    let daemon = moving.daemon().await;
    moving.push(50).await;
    for _ in 0..2 {
        moving.proxy.silence_open();
        moving.goes_on(&daemon).await;
    }
    moving.whole().await;
}

#[tokio::test]
async fn open_connections_that_go_silent_under_load_keep_the_order_of_the_jobs() {
    let mut moving = Moving::new(&[]).await;
    let daemon = moving.daemon().await;
    for round in 0..3 {
        moving.push(100).await;
        moving.proxy.silence_open();
        moving.push(100).await;
        moving.goes_on(&daemon).await;
        assert_eq!(daemon.get("/livez").await.map(|(status, _)| status), Some(200), "round {round}");
    }
    moving.whole().await;
}

#[tokio::test]
async fn what_a_lost_read_was_assigned_runs_before_what_is_read_next() {
    let mut moving = Moving::new(&[]).await;
    let daemon = moving.daemon().await;
    moving.proxy.set(Fault::DropReplies);
    moving.push(50).await;
    eventually("the entries are assigned, and nobody has them", async || {
        let (_, pending) = moving.world.left().await;
        (pending > 0).then_some(())
    })
    .await;
    moving.proxy.set(Fault::None);
    moving.push(50).await;
    moving.goes_on(&daemon).await;
    moving.whole().await;
}

#[tokio::test]
async fn a_broker_that_is_silent_altogether_is_told_at_once_and_used_again_at_once() {
    let mut moving = Moving::new(&[]).await;
    let daemon = moving.daemon().await;
    moving.proxy.set(Fault::Stall);
    not_ready(&daemon, "broker").await;
    moving.proxy.set(Fault::None);
    moving.goes_on(&daemon).await;
    moving.whole().await;
}

#[tokio::test]
async fn the_reader_and_the_shared_connection_never_stay_on_two_servers() {
    let mut moving = Moving::new(&[]).await;
    let second = moving.second(false).await;
    let daemon = moving.daemon().await;
    moving.world.drained().await;
    // The name leads elsewhere, and both servers are masters: nothing fails by itself.
    moving.proxy.lead_to(address(&second));
    let list: String = tell(&moving.first, &["CLIENT", "LIST", "TYPE", "NORMAL"]).await;
    let reader = list.lines().find(|line| line.contains("cmd=xreadgroup")).expect("the reader is connected");
    let id = reader.split(' ').find_map(|word| word.strip_prefix("id=")).expect("an id");
    tell::<u64>(&moving.first, &["CLIENT", "KILL", "ID", id]).await;
    moving.world.redis = connect(&second).await;
    moving.goes_on(&daemon).await;
    moving.whole().await;
    eventually("every connection has moved", async || clients(&moving.first).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_reader_is_not_opened_on_another_server_than_the_shared_connections() {
    let moving = Moving::new(&[]).await;
    let second = moving.second(false).await;
    let broker = support::hold::consumer(&moving.world, "reader").await;
    moving.proxy.lead_to(address(&second));
    broker.time_ms().await.expect("the shared connection is at the first server and well");
    let refused = broker.reader().await.err().expect("a reader would be at the second one");
    assert!(refused.to_string().contains("another server"), "{refused}");
    eventually("a reader is opened", async || broker.reader().await.ok()).await;
    broker.ensure_groups().await.expect("the group is made");
    assert_eq!(tell::<u64>(&second, &["EXISTS", &moving.world.stream]).await, 1, "the shared connection has moved");
    assert_eq!(tell::<u64>(&moving.first, &["EXISTS", &moving.world.stream]).await, 0);
}

#[tokio::test]
async fn what_was_read_from_one_server_is_acknowledged_at_no_other() {
    let moving = Moving::new(&[]).await;
    let second = moving.second(false).await;
    let broker = support::hold::consumer(&moving.world, "reader").await;
    let stream = moving.world.stream.clone();
    // An entry of the same id at both of them, in the same hands.
    broker.ensure_groups().await.expect("the group is made");
    let mut reader = broker.reader().await.expect("a reader");
    tell::<String>(&moving.first, &["XADD", &stream, "5-1", "type", "none"]).await;
    let read = reader.read(std::slice::from_ref(&stream), 1).await.expect("a read");
    let (entry, server) = (read.entries[0].id, reader.server());
    drop(reader);
    tell::<()>(&second, &["XGROUP", "CREATE", &stream, "lockkeeper", "0", "MKSTREAM"]).await;
    tell::<String>(&second, &["XADD", &stream, "5-1", "type", "none"]).await;
    let give = ["XREADGROUP", "GROUP", "lockkeeper", "reader", "STREAMS", &stream, ">"];
    tell::<redis::Value>(&second, &give).await;
    moving.proxy.lead_to(address(&second));
    eventually("the shared connection has moved", async || {
        broker.reader().await.ok().filter(|reader| !reader.server().is(&server)).map(drop)
    })
    .await;
    let refused = broker.bound_to(Some(&server)).acknowledge(&stream, &[entry]).await.expect_err("it is not meant");
    assert!(refused.to_string().contains("another server"), "{refused}");
    assert_eq!(tell::<u64>(&second, &["XLEN", &stream]).await, 1, "an entry of another stream was deleted");
    broker.acknowledge(&stream, &[entry]).await.expect("whoever is not bound to a server is at this one");
    assert_eq!(tell::<u64>(&second, &["XLEN", &stream]).await, 0);
}

#[tokio::test]
async fn connections_that_are_retired_answer_to_the_end_and_are_closed() {
    let moving = Moving::new(&[]).await;
    let broker = support::hold::consumer(&moving.world, "retired").await;
    broker.ensure_groups().await.expect("the group is made");
    let mut reader = broker.reader().await.expect("a reader");
    let ids = async || {
        let list: String = tell(&moving.first, &["CLIENT", "LIST", "TYPE", "NORMAL"]).await;
        let ours = list.lines().filter(|line| !line.contains("cmd=client"));
        ours.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect::<Vec<_>>()
    };
    broker.prove().await.expect("an answer");
    let before = ids().await;
    broker.retire();
    eventually("the reader's generation is over", async || {
        broker.prove().await.expect("no request fails for it");
        (!reader.is_current()).then_some(())
    })
    .await;
    let read =
        reader.read(std::slice::from_ref(&moving.world.stream), 1).await.expect("what was opened before still reads");
    assert!(read.entries.is_empty());
    drop(reader);
    let _reader = broker.reader().await.expect("a new reader");
    // The world's own connection stays.
    eventually("the old connections are closed", async || {
        let now = ids().await;
        (now.iter().filter(|id| before.contains(id)).count() <= 1).then_some(())
    })
    .await;
}
