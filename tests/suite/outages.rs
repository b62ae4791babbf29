//! Servers that go away under load and come back: nothing is lost, dead or counted, and work resumes by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockkeeper::dev::audit::audit;
use lockkeeper::dev::servers::{BROKER, DATABASE, DatabaseServer, Folder, RedisServer};
use lockkeeper::store::Store;
use redis::aio::MultiplexedConnection;

use crate::world::{Daemon, World, eventually};

/// How soon work has to go on once a server is back.
const RECOVERY: Duration = Duration::from_secs(5);

/// A world with a database and a broker that no other test uses, so that they can be stopped.
struct Alone {
    world: World,
    database: DatabaseServer,
    broker: RedisServer,
    pen: String,
    pushed: usize,
    _folder: Arc<Folder>,
}

impl Alone {
    async fn new() -> Self {
        let mut world = World::new().await;
        let folder = Folder::temporary().expect("a folder");
        let database = DatabaseServer::start(&folder, "database").await.expect("a database of its own");
        // Every XADD that was answered survives a kill of the broker, so that what is missing afterwards is our loss.
        let durable = [BROKER, &["--appendfsync", "always"]].concat();
        let broker = RedisServer::start(&folder, "broker", &durable).await.expect("a broker of its own");
        (world.database, world.broker) = (database.url(DATABASE), broker.url());
        world.redis = connect(&world.broker).await;
        world.store = Store::connect(&world.database, 4, Duration::from_secs(10)).await.expect("the database answers");
        world.store.migrate().await.expect("the migrations apply");
        let pen = world.id("pen");
        Self { world, database, broker, pen, pushed: 0, _folder: folder }
    }

    async fn daemon(&self) -> Daemon {
        let daemon = self.world.daemon(&[("LOCKKEEPER_DATABASE_TIMEOUT_MS", "3000")]).await;
        self.world.item_on_sale(&self.pen, 0).await;
        daemon
    }

    async fn push(&mut self, jobs: usize) {
        let mut pipeline = redis::pipe();
        for _ in 0..jobs {
            let command = pipeline.cmd("XADD").arg(&self.world.stream).arg("*").arg("type").arg("item.restock");
            command.arg("key").arg(&self.pen).arg("data").arg(r#"{"quantity":1}"#).ignore();
        }
        pipeline.query_async::<()>(&mut self.world.redis.clone()).await.expect("the jobs are pushed");
        self.pushed += jobs;
    }

    async fn not_ready(&self, daemon: &Daemon, check: &str) {
        eventually(&format!("/readyz says that the {check} is away"), async || {
            let (status, text) = daemon.get("/readyz").await?;
            let line = text.lines().find(|line| line.starts_with(check))?;
            (status == 503 && !line.ends_with(": ok")).then_some(())
        })
        .await;
    }

    /// Every job was run once and in order, none is dead, and none was counted down.
    async fn whole(&self, daemon: &Daemon) {
        self.world.drained().await;
        let history = self.world.history("item", &self.pen).await;
        assert_eq!(history.len(), 2 + self.pushed, "each job has one event");
        let dead = self.world.entries(&format!("{}:dead", self.world.stream)).await;
        assert!(dead.is_empty(), "{dead:?}");
        let audit = audit(&self.world.store, None).await.expect("the database is audited");
        assert!(audit.passed(), "{audit}");
        assert_eq!(daemon.get("/livez").await.map(|(status, _)| status), Some(200));
    }

    /// Waits until the number of events exceeds what it is now.
    async fn goes_on(&self, since: Instant) {
        let before = self.world.history("item", &self.pen).await.len();
        eventually("a further event is appended", async || {
            (self.world.history("item", &self.pen).await.len() > before).then_some(())
        })
        .await;
        assert!(since.elapsed() < RECOVERY, "work went on only after {:?}", since.elapsed());
    }
}

async fn connect(url: &str) -> MultiplexedConnection {
    let client = redis::Client::open(url).expect("the broker's URL");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the broker answers")
}

#[tokio::test]
async fn a_database_that_is_killed_under_load_and_comes_back() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    alone.push(3000).await;
    alone.database.kill();
    alone.push(500).await;
    alone.not_ready(&daemon, "database").await;
    alone.database.restart().await.expect("the database starts again");
    let since = Instant::now();
    alone.push(1).await;
    alone.goes_on(since).await;
    alone.whole(&daemon).await;
}

#[tokio::test]
async fn a_database_that_freezes_under_load_and_wakes() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    alone.push(3000).await;
    alone.database.freeze().expect("SIGSTOP");
    alone.push(500).await;
    // Statements pass their time limit; what they were doing may still happen when the server wakes.
    alone.not_ready(&daemon, "database").await;
    alone.database.thaw().expect("SIGCONT");
    let since = Instant::now();
    alone.goes_on(since).await;
    alone.whole(&daemon).await;
}

#[tokio::test]
async fn a_database_that_only_reads_for_a_while() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    let mut sql = alone.world.sql().await;
    // An account with all privileges may write all the same, so the daemon's must not have them.
    sqlx::raw_sql("CREATE USER 'app'@'127.0.0.1'; GRANT ALL ON lockkeeper.* TO 'app'@'127.0.0.1'")
        .execute(&mut sql)
        .await
        .expect("an account");
    drop(daemon);
    alone.world.database = alone.world.database.replace("root@", "app@");
    let daemon = alone.world.daemon(&[]).await;
    sqlx::raw_sql("SET GLOBAL read_only = 1").execute(&mut sql).await.expect("read-only");
    alone.push(100).await;
    alone.not_ready(&daemon, "database").await;
    eventually("the refusal is counted as what it is", async || {
        (daemon.metric(r#"lockkeeper_store_errors_total{class="read_only"}"#).await? >= 1.0).then_some(())
    })
    .await;
    sqlx::raw_sql("SET GLOBAL read_only = 0").execute(&mut sql).await.expect("writable");
    alone.goes_on(Instant::now()).await;
    alone.whole(&daemon).await;
}

#[tokio::test]
async fn a_broker_that_is_killed_under_load_and_comes_back() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    alone.push(3000).await;
    alone.broker.kill();
    alone.not_ready(&daemon, "broker").await;
    alone.broker.restart().await.expect("the broker starts again");
    alone.world.redis = connect(&alone.world.broker).await;
    let since = Instant::now();
    alone.push(1).await;
    eventually("the stream is read again", async || {
        let mut command = redis::cmd("XPENDING");
        command.arg(&alone.world.stream).arg("lockkeeper");
        let length: u64 =
            redis::cmd("XLEN").arg(&alone.world.stream).query_async(&mut alone.world.redis.clone()).await.ok()?;
        (length < 3000).then_some(())
    })
    .await;
    assert!(since.elapsed() < RECOVERY, "work went on only after {:?}", since.elapsed());
    alone.whole(&daemon).await;
}

#[tokio::test]
async fn two_daemons_restarted_in_turn_under_load_lose_and_double_nothing() {
    let mut alone = Alone::new().await;
    let mut daemons = [alone.daemon().await, alone.world.daemon(&[]).await];
    for restart in 0..20 {
        alone.push(200).await;
        let leaving = &mut daemons[restart % 2];
        assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_words());
        daemons[restart % 2] = alone.world.daemon(&[]).await;
    }
    alone.whole(&daemons[0]).await;
}
