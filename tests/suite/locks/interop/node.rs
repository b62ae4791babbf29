//! node-redlock in a process of its own, told what to do line by line (`tests/peers/node/peer.js`).

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

/// The two published lines: 4.2.0 is what npm installs by default, 5 has been a beta for years and is widely used.
#[derive(Clone, Copy, Debug)]
pub enum Version {
    V4,
    V5,
}

/// A process that holds locks. It ends when this goes out of scope.
pub struct NodeRedlock {
    pipes: Mutex<Pipes>,
    _process: Child,
}

struct Pipes {
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl NodeRedlock {
    /// A client of these nodes that tries `retries` more times, so far apart, before it gives up.
    pub fn start(version: Version, nodes: &[String], retries: u32, delay: Duration) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/node");
        assert!(folder.join("node_modules/redlock").exists(), "`make setup-peers` installs what this test needs");
        let version = match version {
            Version::V4 => "4",
            Version::V5 => "5",
        };
        let mut process = Command::new("node")
            .arg(folder.join("peer.js"))
            .args([version, &retries.to_string(), &delay.as_millis().to_string()])
            .args(nodes)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is on the PATH");
        let commands = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        Self { pipes: Mutex::new(Pipes { commands, answers }), _process: process }
    }

    /// Tries to lock all of these keys at once: the lock's number.
    pub async fn lock(&self, keys: &[&str], ttl: Duration) -> Option<u64> {
        let answer = self.tell(json!({"do": "acquire", "keys": keys, "ttl": millis(ttl)})).await;
        answer["lock"].as_u64()
    }

    pub async fn extend(&self, lock: u64, ttl: Duration) {
        self.tell(json!({"do": "extend", "lock": lock, "ttl": millis(ttl)})).await;
    }

    pub async fn release(&self, lock: u64) {
        self.tell(json!({"do": "release", "lock": lock})).await;
    }

    /// Locks, visits the arbiter and releases, over and over until it is stopped.
    pub async fn contend(&self, keys: &[&str], ttl: Duration, arbiter: &str, name: &str) {
        let ttl = millis(ttl);
        self.tell(json!({"do": "contend", "keys": keys, "ttl": ttl, "arbiter": arbiter, "name": name})).await;
    }

    pub async fn stop(&self) {
        self.tell(json!({"do": "stop"})).await;
    }

    async fn tell(&self, command: Value) -> Value {
        let mut pipes = self.pipes.lock().await;
        pipes.commands.write_all(format!("{command}\n").as_bytes()).await.expect("node listens");
        let answer = pipes.answers.next_line().await.expect("node answers");
        let answer = answer.unwrap_or_else(|| panic!("node ended instead of answering {command}"));
        serde_json::from_str(&answer).expect("an answer in JSON")
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a ttl of a test is short")
}
