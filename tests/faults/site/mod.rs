//! Where a case happens: a broker and a database of its own, daemons that reach both through proxies, and a load.

mod database;
mod proof;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::{Connection, MySqlConnection};
use throwaway::proxy::{Fault, Proxy};
use throwaway::servers::{BROKER, DatabaseServer, Folder, RedisServer, Servers};

use self::database::create_account;
use self::proof::resources;
use crate::cases::disk::SmallDisk;
use crate::load::{ITEMS, Job, Load, Pushed, connect, send};
use support::{
    eventually,
    world::{Daemon, World},
};

/// How soon work has to go on once a fault is over.
pub const RECOVERY: Duration = Duration::from_secs(10);

/// How soon `/readyz` has to say that nothing can be committed or acknowledged, and that it can be again.
const UNREADY: Duration = Duration::from_secs(3);
const READY: Duration = Duration::from_secs(5);

/// The password in the daemons' URLs, which must never be seen again.
pub const CANARY: &str = "c4n4ry-s3cr3t";

pub struct Site {
    pub world: World,
    pub servers: Servers,
    pub broker: RedisServer,
    pub to_broker: Proxy,
    pub to_database: Proxy,
    /// The case's own database, in the cases that do worse to it than the others could bear.
    pub database: Option<DatabaseServer>,
    /// Proxies to the lock nodes, in the cases that need them.
    pub to_nodes: Vec<Proxy>,
    pub daemons: Vec<Daemon>,
    pub pushed: Pushed,
    pub random: StdRng,
    pub seed: u64,
    /// How many dead letters the case's own jobs leave.
    pub dead: usize,
    /// The case loses entries, or moves their place, so that nobody can tell the order.
    pub is_unordered: bool,
    pub recovery: Option<Duration>,
    pub duplicates: u64,
    /// Why this machine cannot run the case.
    pub not_run: Option<String>,
    /// What the database's data lies on, when that is not the usual folder.
    pub disk: Option<SmallDisk>,
    load: Option<Load>,
    /// Open files and memory of the first daemon, once it was warm.
    warm: Option<(u32, usize, u64)>,
    folder: Arc<Folder>,
}

impl Site {
    pub async fn new(servers: Servers, seed: u64) -> Self {
        let folder = Folder::temporary().expect("a folder");
        let broker = start_broker(&folder, "broker", &[]).await;
        let mysql = servers.database.url("").trim_end_matches('/').to_owned();
        let nodes = servers.lock_nodes.iter().map(|node| node.url()).collect();
        let mut world = World::on(&mysql, &broker.url(), nodes, folder.clone()).await;
        let name = world.database.rsplit('/').next().expect("a database's name").to_owned();
        let mut root = MySqlConnection::connect(&mysql).await.expect("the database answers");
        sqlx::raw_sql(&create_account(&name)).execute(&mut root).await.expect("an account");
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let to_broker = Proxy::start(local(broker.port())).await.expect("a proxy");
        let to_database = Proxy::start(local(servers.database.port())).await.expect("a proxy");
        world.broker = format!("redis://app:{CANARY}@{}", to_broker.address());
        world.database = format!("mysql://{name}:{CANARY}@{}/{name}", to_database.address());
        Self {
            world,
            servers,
            broker,
            to_broker,
            to_database,
            database: None,
            to_nodes: Vec::new(),
            daemons: Vec::new(),
            pushed: Pushed::default(),
            random: StdRng::seed_from_u64(seed),
            seed,
            dead: 0,
            is_unordered: false,
            recovery: None,
            duplicates: 0,
            not_run: None,
            disk: None,
            load: None,
            warm: None,
            folder,
        }
    }

    /// A broker that has all that the present one has, and follows it.
    pub async fn successor(&self, name: &str) -> RedisServer {
        start_broker(&self.folder, name, &["--replicaof", "127.0.0.1", &self.broker.port().to_string()]).await
    }

    pub fn folder(&self) -> &Arc<Folder> {
        &self.folder
    }

    /// A warm daemon, items to sell, and a load.
    pub async fn under_load(&mut self) {
        self.under_load_with(&[]).await;
    }

    /// The same, with these settings.
    pub async fn under_load_with(&mut self, settings: &[(&str, &str)]) {
        self.daemon(settings).await;
        self.stock_up().await;
        self.load();
        self.progress().await;
        self.warm = self.daemons[0].process.pid().and_then(resources);
    }

    /// One more daemon, ready.
    pub async fn daemon(&mut self, extra: &[(&str, &str)]) {
        let settings = Self::settings(extra);
        self.daemons.push(self.world.daemon(&settings).await);
    }

    /// Settings under which things are noticed sooner than by default.
    pub fn settings<'a>(extra: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut settings = vec![("LOCKKEEPER_DATABASE_TIMEOUT_MS", "3000")];
        settings.extend_from_slice(extra);
        settings
    }

    pub async fn stock_up(&mut self) {
        let money = r#""supply_price":"10","vat":"1""#;
        let data = format!(r#"{{"name":"item",{money},"is_tax_free":false,"stock":10,"member_id":1}}"#);
        let items = (0..ITEMS).map(|number| self.world.id(format!("item{number}")));
        let jobs =
            items.flat_map(|item| [Job::new("item.register", &item, &data), Job::new("item.allow_sale", &item, "{}")]);
        let jobs: Vec<Job> = jobs.collect();
        self.push(&jobs).await;
        self.done(&jobs[jobs.len() - 1]).await;
    }

    pub fn load(&mut self) {
        let (stream, prefix) = (self.world.stream.clone(), self.world.prefix.clone());
        self.load = Some(Load::start(self.client(), stream, prefix, self.pushed.clone(), self.seed));
    }

    pub async fn stop_load(&mut self) {
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
    }

    pub async fn push(&self, jobs: &[Job]) {
        self.pushed.add(jobs);
        send(&self.client(), &self.pushed, &self.world.stream, jobs).await;
    }

    /// Sends again what the broker lost, as a producer would that waits for replies.
    pub async fn resend(&mut self) {
        self.is_unordered = true;
        self.load.take().into_iter().for_each(Load::abandon);
        self.reconnect().await;
        for jobs in self.pushed.jobs().chunks(500) {
            send(&self.client(), &self.pushed, &self.world.stream, jobs).await;
        }
    }

    /// Past the proxy, and with another account than the daemons'.
    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.broker.url()).expect("the broker's URL")
    }

    pub async fn reconnect(&mut self) {
        let client = self.client();
        self.world.redis = eventually("the broker answers", async || connect(&client).await).await;
    }

    /// Waits until some more jobs have been done.
    pub async fn progress(&self) {
        let before = self.receipts().await;
        eventually("jobs are done", async || (self.receipts().await > before + 20).then_some(())).await;
    }

    pub async fn done(&self, job: &Job) {
        self.world.receipt(lockkeeper::job::JobId::from_text(&job.id)).await;
    }

    /// The fault is over: a job that is pushed now must be done in time.
    pub async fn mended(&mut self) {
        self.mended_within(RECOVERY).await;
    }

    /// The same, with less time.
    pub async fn mended_within(&mut self, limit: Duration) {
        let since = Instant::now();
        self.reconnect().await;
        let job = Job::new("item.restock", &self.world.id("item0"), r#"{"quantity":1}"#);
        self.push(std::slice::from_ref(&job)).await;
        self.done(&job).await;
        let took = since.elapsed();
        self.recovery = self.recovery.max(Some(took));
        assert!(took < limit, "I6: work went on only {took:?} after the fault");
        self.ready().await;
    }

    /// The fault is over: jobs must be done again in time, the oldest first.
    pub async fn resumed(&mut self) {
        let since = Instant::now();
        self.progress().await;
        let took = since.elapsed();
        self.recovery = self.recovery.max(Some(took));
        assert!(took < RECOVERY, "I6: work went on only {took:?} after the fault");
        self.ready().await;
    }

    /// Work goes on, so each daemon must soon say that it is ready.
    async fn ready(&self) {
        for daemon in &self.daemons {
            let mut last = String::new();
            let ready = within(READY, async || {
                let (status, text) = daemon.get("/readyz").await?;
                last = text;
                (status == 200).then_some(())
            });
            assert!(ready.await.is_some(), "I7: /readyz is 503 for {READY:?} although work goes on:\n{last}");
        }
    }

    /// Nothing can be committed or acknowledged: the first daemon must soon say that it is not ready, and which check says so.
    pub async fn not_ready(&self, check: &str) {
        let mut last = String::new();
        let unready = within(UNREADY, async || {
            let (status, text) = self.daemons[0].get("/readyz").await?;
            assert!(!text.contains(CANARY), "I8: the password is in /readyz");
            let line = text.lines().find(|line| line.starts_with(check)).unwrap_or(": ok");
            let is_told = status == 503 && !line.ends_with(": ok");
            last = text;
            is_told.then_some(())
        });
        assert!(
            unready.await.is_some(),
            "I7: /readyz does not say within {UNREADY:?} that the {check} is away:\n{last}"
        );
    }

    /// Waits until a series of the first daemon has at least this value; `QUEUE` stands for the stream.
    pub async fn counted(&self, series: &str, least: f64) {
        let series = series.replace("QUEUE", &self.world.stream);
        eventually(&format!("I7: {series} is at least {least}"), async || {
            self.daemons[0].metric(&series).await.filter(|value| *value >= least)
        })
        .await;
    }

    /// Waits until a daemon's log has these words, in capitals or not.
    pub async fn logged(&self, words: &str) {
        let is_there = async || self.logs().to_lowercase().contains(&words.to_lowercase()).then_some(());
        eventually(&format!("I7: the log says {words}"), is_there).await;
    }

    /// All that the daemons of this case have logged.
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).expect("the folder is read").flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("daemon-"));
        let text = logs.filter_map(|file| std::fs::read(file.path()).ok());
        text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    pub fn last_lines(&self) -> String {
        self.daemons.iter().map(|daemon| daemon.process.last_lines()).collect::<Vec<_>>().join("\n--\n")
    }

    /// Ends the case, whatever became of it, and gives the servers back in order.
    pub async fn leave(mut self) -> Servers {
        self.to_broker.set(Fault::Reset);
        self.to_database.set(Fault::Reset);
        self.daemons.clear();
        let mut servers = self.servers;
        for node in &mut servers.lock_nodes {
            let _ = node.thaw();
            let client = redis::Client::open(node.url()).expect("the node's URL");
            if connect(&client).await.is_none() {
                node.restart().await.expect("the lock node starts again");
            }
        }
        // What a failed case left behind may be a frozen server, or one that refuses everybody.
        let _ = servers.database.thaw();
        if let Some(disk) = self.disk.take() {
            servers.database.kill();
            drop(disk);
        }
        let mend = "SET GLOBAL read_only = 0, max_connections = 300, max_allowed_packet = 16777216";
        let is_sound = match MySqlConnection::connect(&servers.database.url("")).await {
            Ok(mut root) => sqlx::raw_sql(mend).execute(&mut root).await.is_ok(),
            Err(_) => false,
        };
        if !is_sound {
            servers.database.restart().await.expect("the database starts again");
        }
        servers
    }
}

/// Every XADD that was answered survives a kill of this broker, so that what is missing afterwards is our loss.
async fn start_broker(folder: &Arc<Folder>, name: &str, more: &[&str]) -> RedisServer {
    let secret = format!(">{CANARY}");
    let account = ["--user", "app", "on", &secret, "~*", "&*", "+@all"];
    let arguments = [BROKER, &["--appendfsync", "always"], more, &account].concat();
    RedisServer::start(folder, name, &arguments).await.expect("a broker of its own")
}

/// What `condition` gives within `limit`, also when it does not answer.
async fn within<T>(limit: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let asked = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, asked).await.ok()
}
