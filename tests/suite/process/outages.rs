//! Servers that go away under load and come back: nothing is lost, dead or counted, and work resumes by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lockkeeper::store::Store;
use redis::aio::MultiplexedConnection;
use throwaway::servers::{BROKER, DATABASE, DatabaseServer, Folder, RedisServer};

use support::{
    audit, eventually,
    world::{Daemon, World},
};

/// How soon work has to go on once a server is back.
const RECOVERY: Duration = Duration::from_secs(5);

/// A world with a database and a broker that no other test uses, so that they can be stopped.
struct Alone {
    world: World,
    database: DatabaseServer,
    broker: RedisServer,
    pen: String,
    /// The ids of the jobs, in their order.
    pushed: Vec<String>,
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
        Self { world, database, broker, pen, pushed: Vec::new(), _folder: folder }
    }

    async fn daemon(&self) -> Daemon {
        let daemon = self.world.daemon(&[("LOCKKEEPER_DATABASE_TIMEOUT_MS", "3000")]).await;
        self.world.item_on_sale(&self.pen, 0).await;
        daemon
    }

    async fn push(&mut self, jobs: usize) {
        let mut pipeline = redis::pipe();
        for _ in 0..jobs {
            let id = uuid::Uuid::now_v7().to_string();
            let command = pipeline.cmd("XADD").arg(&self.world.stream).arg("*").arg("type").arg("item.restock");
            command.arg("key").arg(&self.pen).arg("data").arg(r#"{"quantity":1}"#).arg("id").arg(&id).ignore();
            self.pushed.push(id);
        }
        pipeline.query_async::<()>(&mut self.world.redis.clone()).await.expect("the jobs are pushed");
    }

    async fn not_ready(&self, daemon: &Daemon, check: &str) {
        eventually(&format!("/readyz says that the {check} is away"), async || {
            let (status, text) = daemon.get("/readyz").await?;
            let line = text.lines().find(|line| line.starts_with(check))?;
            (status == 503 && !line.ends_with(": ok")).then_some(())
        })
        .await;
    }

    /// The jobs have had their effects in the order in which they were pushed.
    async fn in_order(&self) {
        let history = self.world.history("item", &self.pen).await;
        let jobs = history.iter().skip(2).map(|event| {
            let metadata: serde_json::Value = serde_json::from_slice(&event.metadata).expect("JSON");
            metadata["job"].as_str().expect("a job").to_owned()
        });
        let first = jobs.zip(&self.pushed).position(|(happened, pushed)| happened != *pushed);
        assert_eq!(first, None, "the jobs are out of order");
    }

    /// Every job was run once, none is dead, and none was counted down.
    async fn whole(&self, daemon: &Daemon) {
        self.world.drained().await;
        let history = self.world.history("item", &self.pen).await;
        assert_eq!(history.len(), 2 + self.pushed.len(), "each job has one event");
        let dead = self.world.entries(&format!("{}:dead", self.world.stream)).await;
        assert!(dead.is_empty(), "{dead:?}");
        let verdict = audit(&self.world.database, None).await;
        assert_eq!(verdict, Ok(()));
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
    alone.in_order().await;
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
    alone.in_order().await;
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
    eventually("the daemon owns the stream", async || {
        daemon.get("/readyz").await?.1.contains("fleet: owns").then_some(())
    })
    .await;
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
    alone.in_order().await;
}

#[tokio::test]
async fn a_broker_that_is_killed_under_load_and_comes_back() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    alone.push(1500).await;
    alone.broker.kill();
    alone.not_ready(&daemon, "broker").await;
    alone.broker.restart().await.expect("the broker starts again");
    alone.world.redis = connect(&alone.world.broker).await;
    // What is in hand runs without a broker; a job that is pushed now has to be read.
    let since = Instant::now();
    alone.push(1).await;
    let job = alone.pushed.last().map(|id| lockkeeper::job::JobId::from_text(id)).expect("a job");
    alone.world.receipt(job).await;
    assert!(since.elapsed() < RECOVERY, "reading went on only after {:?}", since.elapsed());
    alone.whole(&daemon).await;
}

#[tokio::test]
async fn two_daemons_restarted_in_turn_under_load_lose_and_double_nothing() {
    let mut alone = Alone::new().await;
    let mut daemons = [alone.daemon().await, alone.world.daemon(&[]).await];
    for restart in 0..20 {
        alone.push(200).await;
        let leaving = &mut daemons[restart % 2];
        assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
        daemons[restart % 2] = alone.world.daemon(&[]).await;
    }
    alone.whole(&daemons[0]).await;
}

#[tokio::test]
async fn without_a_database_nothing_more_is_taken_in_and_with_it_everything() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    let state = async |state: &str| {
        let series = format!(r#"lockkeeper_reading_state{{state="{state}"}}"#);
        eventually(&series, async || daemon.metric(&series).await.filter(|is| *is == 1.0)).await;
    };
    state("reads").await;
    alone.database.kill();
    alone.push(10).await;
    state("store_away").await;
    let (_, in_hand) = alone.world.left().await;
    alone.push(1000).await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        let (_, now) = alone.world.left().await;
        assert!(now <= in_hand, "{now} are in hand, where {in_hand} were when the database went away");
    }
    alone.database.restart().await.expect("the database starts again");
    let since = Instant::now();
    alone.goes_on(since).await;
    alone.whole(&daemon).await;
    alone.in_order().await;
    state("reads").await;
}

#[tokio::test]
async fn reading_that_is_refused_or_has_no_room_is_told() {
    let mut alone = Alone::new().await;
    let daemon = alone.daemon().await;
    drop(daemon);
    let small = [
        ("LOCKKEEPER_STREAM_PREFETCH", "20"),
        ("LOCKKEEPER_BATCH_MAX_JOBS", "20"),
        ("LOCKKEEPER_STREAM_READ_COUNT", "20"),
    ];
    alone.world.redis_do::<()>(&["ACL", "SETUSER", "app", "on", ">word", "~*", "&*", "+@all"]).await;
    alone.world.broker = alone.world.broker.replace("redis://", "redis://app:word@");
    let daemon = alone.world.daemon(&small).await;
    let state = async |state: &str| {
        let series = format!(r#"lockkeeper_reading_state{{state="{state}"}}"#);
        eventually(&series, async || daemon.metric(&series).await.filter(|is| *is == 1.0)).await;
    };
    let mut holder = alone.world.sql().await;
    let hold = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE";
    sqlx::raw_sql(hold).fetch_all(&mut holder).await.expect("the sequence row is held");
    alone.push(100).await;
    state("full").await;
    assert_eq!(daemon.get("/readyz").await.map(|(status, _)| status), Some(200), "busy is no reason not to be ready");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("the sequence row is free");
    alone.world.drained().await;
    // Everything else it may still do.
    alone.world.redis_do::<()>(&["ACL", "SETUSER", "app", "-xreadgroup"]).await;
    alone.push(1).await;
    state("refused").await;
    let (status, text) = daemon.get("/readyz").await.expect("/readyz answers");
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.ends_with(": ok") && !line.starts_with("fleet: ")).collect();
    assert!(status == 503 && lines.len() == 1 && lines[0].starts_with("reading: "), "{status} {text}");
    alone.world.redis_do::<()>(&["ACL", "SETUSER", "app", "+xreadgroup"]).await;
    alone.whole(&daemon).await;
}

#[tokio::test]
async fn an_aggregate_that_cannot_be_read_holds_up_its_own_jobs_gently_until_it_can() {
    let world = World::new().await;
    let [pen, ink] = ["pen", "ink"].map(|name| world.id(name));
    let mut daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    assert_eq!(daemon.terminate().await, Some(0));
    let change = async |payload: &str| {
        let text = format!("UPDATE events SET payload = '{payload}' WHERE version = 2");
        sqlx::raw_sql(&text).execute(&mut world.sql().await).await.expect("the event changes");
    };
    change("what a newer program writes").await;
    let daemon = world.daemon(&[]).await;
    let waits = world.push("item.restock", &pen, r#"{"quantity":1}"#).await;
    let behind = world.push("item.restock", &pen, r#"{"quantity":2}"#).await;
    let series = r#"lockkeeper_jobs_put_back_total{reason="unreadable"}"#;
    eventually("the first job went back", async || daemon.metric(series).await.filter(|count| *count >= 1.0)).await;
    world.item_on_sale(&ink, 0).await;
    let (since, before) = (Instant::now(), daemon.metric(series).await.expect("the count"));
    eventually("it is tried again", async || daemon.metric(series).await.filter(|count| *count >= before + 2.0)).await;
    assert!(since.elapsed() > Duration::from_millis(500), "two tries in {:?}", since.elapsed());
    let log = daemon.process.last_lines();
    let lines = log.lines().filter(|line| line.contains("an aggregate cannot be loaded")).count();
    assert!(lines >= 1 && lines as u64 <= since.elapsed().as_secs() + 3, "{lines} lines: {log}");
    change("{}").await;
    assert_eq!(world.receipt(waits).await.outcome, "applied");
    assert_eq!(world.receipt(behind).await.outcome, "applied");
    assert_eq!(world.history("item", &pen).await.len(), 4);
}
