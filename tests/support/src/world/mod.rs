//! What a test runs in: servers shared by all tests, and a database, a stream and ids that are its own.

mod daemon;
mod shared;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use lockkeeper::job::JobId;
use lockkeeper::store::{Migration, RecordedEvent, Store, StoredReceipt};
use redis::aio::MultiplexedConnection;
use sqlx::{Connection, MySqlConnection};
use throwaway::servers::{DatabaseServer, Process, free_port};

pub use daemon::Daemon;
use shared::shared;

use crate::program::program;
use crate::{PATIENCE, eventually};

/// The tables of the shop, which every test runs.
pub const SHOP: [Migration; 2] = [
    Migration { version: 2, name: "shop", text: include_str!("../../../../migrations/shop/0002_shop.sql") },
    Migration { version: 3, name: "sales", text: include_str!("../../../../migrations/shop/0003_sales.sql") },
];

/// A field of an entry: its name and its value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

type OwnedField = (Vec<u8>, Vec<u8>);

/// One test's surroundings.
pub struct World {
    /// URL of a database that only this test uses.
    pub database: String,
    /// URL of the broker.
    pub broker: String,
    /// URLs of the lock nodes.
    pub lock_nodes: Vec<String>,
    /// A stream that only this test uses.
    pub stream: String,
    /// Makes ids that no other test uses.
    pub prefix: String,
    pub redis: MultiplexedConnection,
    pub store: Store,
    /// Where servers and daemons of this test keep their files.
    pub folder: std::sync::Arc<throwaway::servers::Folder>,
}

impl World {
    /// Surroundings with an empty, migrated database, on the servers that all tests share.
    pub async fn new() -> Self {
        let shared = shared();
        let folder = match &shared.servers {
            Some(servers) => servers.folder().clone(),
            None => throwaway::servers::Folder::temporary().expect("a temporary folder"),
        };
        Self::on(&shared.mysql, &shared.redis, shared.lock_nodes.clone(), folder).await
    }

    /// Surroundings on a database server of their own, started with these arguments. Daemons log in as `app`, an account that has
    /// every right to the database and none to the server.
    pub async fn with_database(arguments: &[&str]) -> (Self, DatabaseServer) {
        let shared = shared();
        let folder = throwaway::servers::Folder::temporary().expect("a temporary folder");
        let server = DatabaseServer::start_with(&folder, "own", arguments).await.expect("a database server of its own");
        let mut world = Self::on(&server.url(""), &shared.redis, shared.lock_nodes.clone(), folder).await;
        let name = world.database.rsplit('/').next().expect("a database").to_owned();
        let account = format!(
            "CREATE USER 'app'@'127.0.0.1' IDENTIFIED BY 'first'; GRANT ALL ON `{name}`.* TO 'app'@'127.0.0.1'; COMMIT"
        );
        let mut root = MySqlConnection::connect(&server.url("")).await.expect("the database server answers");
        sqlx::raw_sql(&account).execute(&mut root).await.expect("an account");
        world.database = world.database.replace("root@", "app:first@");
        (world, server)
    }

    /// Surroundings with an empty, migrated database, on these servers. Daemons write their logs into `folder`.
    pub async fn on(
        mysql: &str,
        broker: &str,
        lock_nodes: Vec<String>,
        folder: std::sync::Arc<throwaway::servers::Folder>,
    ) -> Self {
        let prefix = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..10]);
        let name = format!("lk_{prefix}");
        let mut root = MySqlConnection::connect(mysql).await.expect("the database server answers");
        let create = &format!("CREATE DATABASE {name}");
        sqlx::raw_sql(create).execute(&mut root).await.expect("a database for this test");
        let database = with_database(mysql, &name);
        let store = Store::connect(&database, 4, Duration::from_secs(10)).await.expect("the database answers");
        let store = store.with_migrations(&SHOP);
        store.migrate().await.expect("the migrations apply");
        let client = redis::Client::open(broker).expect("the broker's URL");
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
        let redis = client.get_multiplexed_async_connection_with_config(&config).await.expect("the broker answers");
        let (broker, stream) = (broker.to_owned(), format!("jobs:{prefix}"));
        Self { database, broker, lock_nodes, stream, prefix, redis, store, folder }
    }

    /// An id that only this test uses.
    pub fn id(&self, name: impl std::fmt::Display) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The environment of a daemon in this world.
    pub fn environment(&self) -> HashMap<String, String> {
        let mut environment: HashMap<String, String> = [
            ("DATABASE_URL", self.database.clone()),
            ("LOCKKEEPER_STREAM_URL", self.broker.clone()),
            ("LOCKKEEPER_LOCK_NODES", self.lock_nodes.join(",")),
            ("LOCKKEEPER_STREAM_NAMES", self.stream.clone()),
            ("LOCKKEEPER_LOG_FORMAT", "text".to_owned()),
            // Nobody else will know it.
            ("LOCKKEEPER_STREAM_UNKNOWN_TYPES_WAIT_MS", "0".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let port = free_port().expect("a free port");
        environment.insert("LOCKKEEPER_HTTP_LISTEN".into(), format!("127.0.0.1:{port}"));
        environment
    }

    /// A running daemon with this beside the usual environment; ready when this returns.
    pub async fn daemon(&self, extra: &[(&str, &str)]) -> Daemon {
        let mut daemon = self.start(extra);
        daemon.await_ready().await;
        daemon
    }

    /// A daemon that has just been started; it may end at any time.
    pub fn start(&self, extra: &[(&str, &str)]) -> Daemon {
        self.start_with(&[], extra)
    }

    /// A daemon that has just been started with these flags.
    pub fn start_with(&self, flags: &[&str], extra: &[(&str, &str)]) -> Daemon {
        let mut environment = self.environment();
        environment.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let listen = environment["LOCKKEEPER_HTTP_LISTEN"].clone();
        let pairs: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let name = format!("daemon-{}", uuid::Uuid::new_v4().simple());
        let arguments = [&["run"], flags].concat();
        let process = Process::start(&self.folder, &name, &program(), arguments, &pairs).expect("the daemon starts");
        Daemon { process, listen }
    }

    /// Pushes one entry as it is, and returns its id in the stream.
    pub async fn push_raw(&self, fields: &[Field<'_>]) -> String {
        let mut command = redis::cmd("XADD");
        command.arg(&self.stream).arg("*");
        fields.iter().for_each(|(name, value)| {
            command.arg(*name).arg(*value);
        });
        command.query_async(&mut self.redis.clone()).await.expect("XADD")
    }

    /// Pushes one job and returns its id.
    pub async fn push(&self, job_type: &str, key: &str, data: &str) -> JobId {
        self.push_with(job_type, key, data, &[]).await
    }

    /// Pushes one job with further fields and returns its id.
    pub async fn push_with(&self, job_type: &str, key: &str, data: &str, more: &[(&str, &str)]) -> JobId {
        let given = more.iter().find(|(name, _)| *name == "id").map(|(_, id)| (*id).to_owned());
        let id = given.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let mut fields = vec![("type", job_type), ("key", key), ("data", data)];
        if given.is_none() {
            fields.push(("id", &id));
        }
        fields.extend_from_slice(more);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        self.push_raw(&fields).await;
        JobId::from_text(&id)
    }

    /// The receipt of `job`, once it is there.
    pub async fn receipt(&self, job: JobId) -> StoredReceipt {
        eventually(&format!("job {job} has a receipt"), async || {
            let snapshot = self.store.read(&[job], &[], &[]).await.ok()?;
            snapshot.receipts.get(&job).cloned()
        })
        .await
    }

    /// Pushes a job and waits for its end: its outcome, or `rejected: why`.
    pub async fn outcome(&self, job_type: &str, key: &str, data: &str) -> String {
        let job = self.push(job_type, key, data).await;
        told(&self.receipt(job).await)
    }

    /// Registers an item that is on sale.
    pub async fn item_on_sale(&self, item: &str, stock: u32) {
        let data = format!(
            r#"{{"name":"{item}","supply_price":"10.000","vat":"1.000","is_tax_free":false,"stock":{stock},"member_id":1}}"#
        );
        assert_eq!(self.outcome("item.register", item, &data).await, "applied");
        assert_eq!(self.outcome("item.allow_sale", item, "{}").await, "applied");
    }

    /// The history of an aggregate as `type v1` and so on.
    pub async fn history(&self, kind: &str, id: &str) -> Vec<RecordedEvent> {
        self.store.history(kind, id).await.expect("the history is read")
    }

    /// The quantities by which an item was restocked, in their order.
    pub async fn restocked(&self, item: &str) -> Vec<u64> {
        let events = self.history("item", item).await.into_iter().filter(|event| event.event_type == "item.restocked");
        let quantity = |payload: &[u8]| -> Option<u64> {
            serde_json::from_slice::<serde_json::Value>(payload).ok()?.get("quantity")?.as_u64()
        };
        events.filter_map(|event| quantity(&event.payload)).collect()
    }

    /// Waits until nothing is left of this world's stream: not an entry, and nothing pending. How long that takes is a
    /// matter of the machine; that it goes on is not.
    pub async fn drained(&self) {
        let (mut least, mut deadline) = (u64::MAX, Instant::now() + PATIENCE);
        loop {
            let (entries, pending) = self.left().await;
            if (entries, pending) == (0, 0) {
                return;
            }
            if entries < least {
                (least, deadline) = (entries, Instant::now() + PATIENCE);
            }
            let on_time = Instant::now() < deadline;
            assert!(on_time, "{entries} entries are left, {pending} of them pending, and none fewer in {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Entries in the stream, and how many of them are pending.
    pub async fn left(&self) -> (u64, u64) {
        let mut pipeline = redis::pipe();
        pipeline.cmd("XLEN").arg(&self.stream).cmd("XPENDING").arg(&self.stream).arg("lockkeeper");
        let left: redis::RedisResult<(u64, (u64, redis::Value, redis::Value, redis::Value))> =
            pipeline.query_async(&mut self.redis.clone()).await;
        // While the broker or the group is away, nobody knows.
        left.map_or((u64::MAX, u64::MAX), |(entries, (pending, ..))| (entries, pending))
    }

    /// All entries of a stream, as fields by name.
    pub async fn entries(&self, stream: &str) -> Vec<HashMap<String, String>> {
        let mut command = redis::cmd("XRANGE");
        command.arg(stream).arg("-").arg("+");
        let entries: Vec<(String, Vec<OwnedField>)> =
            command.query_async(&mut self.redis.clone()).await.expect("XRANGE");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let fields = |fields: Vec<_>| fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
        entries.into_iter().map(|(_, values)| fields(values)).collect()
    }

    /// Sends one command to the broker.
    pub async fn redis_do<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut self.redis.clone()).await.expect(words[0])
    }

    /// A connection of its own to this world's database.
    pub async fn sql(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.database).await.expect("the database answers")
    }
}

/// `mysql://user@host:port` with a database name, before any options.
fn with_database(server: &str, name: &str) -> String {
    match server.split_once('?') {
        Some((server, options)) => format!("{}/{name}?{options}", server.trim_end_matches('/')),
        None => format!("{}/{name}", server.trim_end_matches('/')),
    }
}

/// A receipt in a word, or in two with its reason.
pub fn told(receipt: &StoredReceipt) -> String {
    match &receipt.reason {
        Some(reason) => format!("{}: {reason}", receipt.outcome),
        None => receipt.outcome.clone(),
    }
}
