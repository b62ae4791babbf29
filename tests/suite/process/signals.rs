//! Signals reach the daemon whatever it was started with and whatever it waits for.

use std::time::{Duration, Instant};

use throwaway::servers::Process;
use tokio::net::TcpListener;

use support::{
    eventually,
    world::{Daemon, World},
};

#[tokio::test]
async fn signals_that_were_blocked_or_ignored_when_it_was_started_are_seen() {
    let world = World::new().await;
    for how in ["--block-signal=TERM,INT,HUP,TSTP,CONT,CHLD", "--ignore-signal=TERM,INT,HUP"] {
        let environment = world.environment();
        let listen = environment["LOCKKEEPER_HTTP_LISTEN"].clone();
        let pairs: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let words = [how, env!("CARGO_BIN_EXE_lockkeeper"), "run"];
        let name = format!("signals-{}", world.id(how.len()));
        let process = Process::start(&world.folder, &name, "/usr/bin/env".as_ref(), words, &pairs).expect("it starts");
        let mut daemon = Daemon { process, listen };
        eventually("it is ready", async || (daemon.get("/readyz").await?.0 == 200).then_some(())).await;
        let read_at = async || daemon.metric("lockkeeper_config_last_reload_timestamp_seconds").await;
        let before = read_at().await;
        daemon.process.signal("HUP").expect("SIGHUP");
        eventually("it reads its configuration again", async || (read_at().await? > before?).then_some(())).await;
        assert_eq!(daemon.terminate().await, Some(0), "{how}");
    }
}

#[tokio::test]
async fn a_start_that_waits_for_a_silent_server_ends_within_a_second_of_a_signal() {
    let world = World::new().await;
    for key in ["DATABASE_URL", "LOCKKEEPER_STREAM_URL", "LOCKKEEPER_LOCK_NODES"] {
        for signal in ["TERM", "INT"] {
            // It takes connections, and that is all that it does.
            let silent = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let address = silent.local_addr().expect("its address");
            let url = match key {
                "DATABASE_URL" => format!("mysql://root@{address}/none"),
                _ => format!("redis://{address}"),
            };
            let mut daemon = world.start(&[(key, &url)]);
            let connection = silent.accept().await.expect("the daemon connects");
            let since = Instant::now();
            daemon.process.signal(signal).expect("a signal");
            let end = daemon.process.finished(Duration::from_secs(20)).await.expect("it ends");
            assert_eq!(end.code(), Some(0), "{key}, {signal}");
            assert!(since.elapsed() < Duration::from_secs(1), "{key}, {signal}: it took {:?}", since.elapsed());
            drop(connection);
        }
    }
}
