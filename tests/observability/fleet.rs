//! Two daemons on throwaway servers, a load, and a Prometheus that looks at them.

use sqlx::{Connection, MySqlConnection};
use throwaway::servers::{Options, Servers};

use crate::load::Load;
use crate::prometheus::Prometheus;
use support::world::{Daemon, World};

pub struct Fleet {
    pub world: World,
    pub servers: Servers,
    pub daemons: Vec<Daemon>,
    pub prometheus: Prometheus,
    load: Option<Load>,
    loads: u32,
}

/// Things are noticed sooner than by default, and a busy machine is not taken for a lock node that does not answer.
const SETTINGS: [(&str, &str); 5] = [
    ("LOCKKEEPER_DATABASE_TIMEOUT_MS", "3000"),
    ("LOCKKEEPER_LOCK_TTL_MS", "5000"),
    ("LOCKKEEPER_LOCK_NODE_TIMEOUT_MS", "1000"),
    ("LOCKKEEPER_RETENTION_DEAD_LETTERS_DAYS", "90"),
    ("LOCKKEEPER_RETENTION_INTERVAL_MS", "1000"),
];

impl Fleet {
    pub async fn start() -> Self {
        let servers = Servers::start(Options::default()).await.expect("the throwaway servers start");
        let mysql = servers.database.url("").trim_end_matches('/').to_owned();
        let nodes = servers.lock_nodes.iter().map(|node| node.url()).collect();
        let mut world = World::on(&mysql, &servers.broker.url(), nodes, servers.folder().clone()).await;
        world.stream = "jobs".to_owned();
        let daemons = vec![world.daemon(&SETTINGS).await, world.daemon(&SETTINGS).await];
        let targets: Vec<String> = daemons.iter().map(|daemon| daemon.listen.clone()).collect();
        let prometheus = Prometheus::start(servers.folder(), &targets).await;
        let mut fleet = Self { world, servers, daemons, prometheus, load: None, loads: 0 };
        fleet.resume_load();
        fleet
    }

    /// Starts a daemon anew where it was.
    pub async fn restart(&mut self, number: usize) {
        let listen = self.daemons[number].listen.clone();
        let settings = [&SETTINGS[..], &[("LOCKKEEPER_HTTP_LISTEN", &listen)]].concat();
        self.daemons[number] = self.world.daemon(&settings).await;
    }

    pub fn resume_load(&mut self) {
        self.loads += 1;
        let prefix = self.world.id(self.loads);
        self.load = Some(Load::start(self.world.redis.clone(), self.world.stream.clone(), prefix));
    }

    pub async fn pause_load(&mut self) {
        if let Some(load) = self.load.take() {
            load.stop().await;
        }
    }

    /// Keeps every daemon from committing until it is closed.
    pub async fn hold_sequence(&self) -> MySqlConnection {
        let mut holder = MySqlConnection::connect(&self.world.database).await.expect("the database answers");
        let take = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE";
        sqlx::raw_sql(take).fetch_all(&mut holder).await.expect("the sequence row is held");
        holder
    }

    pub async fn stop(mut self) {
        self.pause_load().await;
        drop(self.daemons);
        drop(self.prometheus);
        self.servers.stop().await;
    }
}
