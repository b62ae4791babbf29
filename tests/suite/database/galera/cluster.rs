//! A Galera cluster of two nodes, real ones.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use sqlx::{Connection, MySqlConnection, Row};
use throwaway::servers::{DatabaseServer, Folder, free_port};

use support::eventually;

/// Where systems keep the library that makes nodes of servers.
const PROVIDERS: [&str; 4] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
    "/usr/local/lib/galera/libgalera_smm.so",
];

/// How soon a node that is gone is missed.
const GROUP: &str = "gcache.size=16M;evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;evs.install_timeout=PT4S";

/// Two nodes. The second weighs more, so that it goes on alone when the first is gone.
pub struct Cluster {
    pub first: DatabaseServer,
    pub second: DatabaseServer,
    pub folder: Arc<Folder>,
}

impl Cluster {
    pub async fn start() -> Self {
        let folder = Folder::temporary().expect("a temporary folder");
        let port = || free_port().expect("a free port");
        let group = [port(), port()];
        let first = node(&folder, "first", group, 0, &["--wsrep-new-cluster"]).await;
        synced(&first, 1).await;
        shut_down(first).await;
        // The second begins with a copy of its data, so that only what came after has to be transferred.
        let copy = Command::new("cp").arg("-a").args(["first", "second"].map(|name| folder.path().join(name))).status();
        assert!(copy.expect("cp runs").success(), "the data is copied");
        // Under root the program that says so runs as nobody.
        for (path, mode) in [(folder.path().to_owned(), 0o711), (folder.path().join("second"), 0o777)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("rights for nobody");
        }
        let first = node(&folder, "first", group, 0, &["--wsrep-new-cluster"]).await;
        synced(&first, 1).await;
        let second = node(&folder, "second", group, 1, &[]).await;
        synced(&second, 2).await;
        synced(&first, 2).await;
        Self { first, second, folder }
    }
}

/// Has the node end by itself, so that its data says how far it is.
async fn shut_down(node: DatabaseServer) {
    let mut connection = MySqlConnection::connect(&node.url("")).await.expect("the node answers");
    sqlx::raw_sql("SHUTDOWN").execute(&mut connection).await.expect("the node shuts down");
    let running = format!("/proc/{}/fd", node.pid().expect("it runs"));
    // The process is waited for only when it is dropped, and has no open files before.
    let has_ended = || std::fs::read_dir(&running).map_or(true, |mut files| files.next().is_none());
    eventually("the node has ended", async || has_ended().then_some(())).await;
}

async fn node(folder: &Arc<Folder>, name: &str, group: [u16; 2], number: usize, more: &[&str]) -> DatabaseServer {
    let provider = PROVIDERS.into_iter().find(|path| Path::new(path).exists());
    let provider = provider.expect("`make setup` installs a server of MariaDB, which brings the library of Galera");
    let port = || free_port().expect("a free port");
    let (own, weight) = (group[number], number + 1);
    let arguments = [
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={provider}"),
        format!("--wsrep-cluster-address=gcomm://127.0.0.1:{},127.0.0.1:{}", group[0], group[1]),
        "--wsrep-node-address=127.0.0.1".to_owned(),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address=127.0.0.1:{}", port()),
        format!(
            "--wsrep-provider-options=base_port={own};gmcast.listen_addr=tcp://127.0.0.1:{own};\
             ist.recv_addr=127.0.0.1:{};pc.weight={weight};{GROUP}",
            port()
        ),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    DatabaseServer::start_with(folder, name, &arguments).await.expect("a node")
}

/// Waits until the node is one of a cluster of this size and has all that the others have.
async fn synced(node: &DatabaseServer, size: u32) {
    eventually(&format!("the node is one of {size}"), async || {
        let mut connection = MySqlConnection::connect(&node.url("")).await.ok()?;
        let is = async |connection: &mut MySqlConnection, name: &str| -> Option<String> {
            let rows = sqlx::raw_sql("SHOW STATUS LIKE 'wsrep%'").fetch_all(connection).await.ok()?;
            rows.iter().find(|row| row.get::<String, _>(0) == name).map(|row| row.get(1))
        };
        let state = is(&mut connection, "wsrep_local_state_comment").await?;
        (state == "Synced" && is(&mut connection, "wsrep_cluster_size").await? == size.to_string()).then_some(())
    })
    .await;
}
