use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

/// Tells the child of `nothing_is_left_after_a_kill` where to write its folder's path.
const HOLDER: &str = "LOCKKEEPER_TEST_HOLDER";

fn command(port: u16, words: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("{words}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn assert_gone(folder: &Path) {
    let deadline = Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let left = processes_naming(folder);
        if left.is_empty() && !folder.exists() {
            return;
        }
        assert!(Instant::now() < deadline, "left: {left:?}, folder there: {}", folder.exists());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn processes_naming(folder: &Path) -> Vec<String> {
    let command_lines = std::fs::read_dir("/proc").unwrap().flatten();
    let command_lines = command_lines.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let command_lines = command_lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    command_lines.filter(|line| line.contains(folder.to_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_servers_answer_and_nothing_is_left() {
    let mut servers = Servers::start(Options::default()).await.unwrap();
    let path = servers.path().to_owned();
    assert_eq!(servers.lock_nodes.len(), 3);
    assert_eq!(command(servers.broker.port(), "CONFIG GET appendonly").lines().nth(4), Some("yes"));
    assert_eq!(command(servers.broker.port(), "CONFIG GET maxmemory-policy").lines().nth(4), Some("noeviction"));

    let node = &mut servers.lock_nodes[1];
    assert!(command(node.port(), "SET lock:item:1 token").starts_with("+OK"));
    node.kill();
    assert!(TcpStream::connect(("127.0.0.1", node.port())).is_err());
    node.restart().await.unwrap();
    assert!(command(node.port(), "GET lock:item:1").starts_with("$-1"));

    let mut greeting = [0; 5];
    TcpStream::connect(("127.0.0.1", servers.database.port())).unwrap().read_exact(&mut greeting).unwrap();
    assert_eq!(greeting[4], 10, "the protocol version of MySQL's handshake");
    servers.broker.freeze().unwrap();
    drop(servers);
    assert!(!path.exists() && processes_naming(&path).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_data_is_there_again() {
    let parent = tempfile::tempdir().unwrap();
    let options = Options { lock_nodes: 0, keep: Some(parent.path().join("kept")) };
    let servers = Servers::start(options.clone()).await.unwrap();
    assert!(matches!(Folder::kept(servers.path()).await, Err(ServersError::InUse { .. })));
    assert!(command(servers.broker.port(), "SET jobs kept").starts_with("+OK"));
    let path = servers.path().to_owned();
    servers.stop().await;
    assert!(processes_naming(&path).is_empty());

    let servers = Servers::start(options).await.unwrap();
    assert_eq!(command(servers.broker.port(), "GET jobs").lines().nth(1), Some("kept"));
    drop(servers);
    assert!(path.join("database").exists() && processes_naming(&path).is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_start_shows_its_log() {
    let folder = Folder::temporary().unwrap();
    let error = RedisServer::start(&folder, "odd", &["--no-such-setting", "1"]).await.unwrap_err();
    assert!(error.to_string().contains("no-such-setting"), "{error}");
    let path = folder.path().to_owned();
    drop(folder);
    assert_gone(&path);
}

/// Not a test by itself: the process that `nothing_is_left_after_a_kill` starts and kills.
#[tokio::test(flavor = "multi_thread")]
async fn holder() {
    let Some(file) = std::env::var_os(HOLDER) else { return };
    let servers = Servers::start(Options::default()).await.unwrap();
    let unfinished = PathBuf::from(&file).with_extension("unfinished");
    std::fs::write(&unfinished, servers.path().to_str().unwrap()).unwrap();
    std::fs::rename(unfinished, file).unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn nothing_is_left_after_a_kill() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("folder");
    let name = concat!(module_path!(), "::holder").split_once("::").unwrap().1;
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(HOLDER, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + std::time::Duration::from_secs(120);
    while !file.exists() {
        assert!(holder.try_wait().unwrap().is_none() && Instant::now() < deadline, "the holder did not start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let folder = PathBuf::from(std::fs::read_to_string(file).unwrap());
    assert!(processes_naming(&folder).len() >= 5);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_gone(&folder);
}
