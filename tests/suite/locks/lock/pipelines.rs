//! Pipelines that are under way at the same time. The proxy lets requests through and loses their replies, so what the
//! node has done was sent while nothing was answered.

use super::*;
use lockkeeper::lock::{NodeOutcome, Report};
use std::net::SocketAddr;
use std::sync::Mutex;
use throwaway::proxy::{Fault, Proxy};

use NodeOutcome::{Error, Ok, Skipped, Timeout};

/// Nothing is late here: what is not answered is under way.
const PATIENT: Settings = Settings { node_timeout: PATIENCE, ..SETTINGS };

/// A node behind a proxy, and what the observer has heard of it.
struct Site {
    server: Server,
    proxy: Proxy,
    redlock: Redlock,
    heard: Arc<Mutex<Vec<NodeOutcome>>>,
}

impl Site {
    async fn start(settings: Settings) -> Site {
        let server = Server::start(PERSISTENT);
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port))).await.expect("a free port");
        let client = redis::Client::open(format!("redis://{}", proxy.address())).expect("a valid URL");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        let observer = Arc::new(move |report: Report<'_>| {
            if let Report::Request { outcome, .. } = report {
                ear.lock().expect("no panic").push(outcome);
            }
        });
        let redlock = Redlock::start(vec![NodeAddress { name: "redis".into(), client }], settings, observer);
        let redlock = redlock.expect("an odd number");
        until("the node is up", || redlock.nodes()[0].is_up()).await;
        Site { server, proxy, redlock, heard }
    }

    fn acquire(&self, name: &str) -> tokio::task::JoinHandle<Vec<KeyResult>> {
        let (redlock, keys) = (self.redlock.clone(), keys(&[name]));
        tokio::spawn(async move { redlock.acquire(&keys).await.results })
    }

    /// Two acquires, each in a pipeline of its own, that have reached the node and are not answered.
    async fn two_under_way(&self) -> [tokio::task::JoinHandle<Vec<KeyResult>>; 2] {
        self.proxy.set(Fault::DropReplies);
        let first = self.acquire("a");
        until("the first is under way", || self.server.has("lock:item:a")).await;
        let second = self.acquire("b");
        until("the second is under way", || self.server.has("lock:item:b")).await;
        [first, second]
    }

    async fn until_empty(&self) {
        until("nothing is left", || self.server.ask::<u64>(&["DBSIZE"]) == 0).await;
        self.redlock.settle(PATIENCE).await;
    }

    fn has_run(&self, commands: &str) -> bool {
        let seen: String = self.server.ask(&["INFO", "commandstats"]);
        commands.split(' ').all(|command| seen.contains(&format!("cmdstat_{command},")))
    }
}

#[tokio::test]
async fn a_second_pipeline_goes_out_before_the_first_is_answered_and_both_are_lost_with_the_connection() {
    let site = Site::start(PATIENT).await;
    let [first, second] = site.two_under_way().await;
    let third = site.acquire("c");
    tokio::task::yield_now().await;
    site.proxy.set(Fault::None);
    for refused in [first, second, third] {
        assert_eq!(refused.await.expect("no panic"), [Unavailable]);
    }
    site.until_empty().await;
    assert!(site.has_run("set:calls=2 del:calls=2"), "the third was not sent");
    assert_eq!(*site.heard.lock().expect("no panic"), [Error, Error, Skipped, Skipped, Ok, Ok]);
}

#[tokio::test]
async fn what_two_late_pipelines_asked_for_is_reported_once_and_released() {
    let site = Site::start(Settings { node_timeout: Duration::from_secs(2), ..SETTINGS }).await;
    for refused in site.two_under_way().await {
        assert_eq!(refused.await.expect("no panic"), [Unavailable]);
    }
    until("both are late", || site.heard.lock().expect("no panic").len() == 2).await;
    site.proxy.set(Fault::None);
    site.until_empty().await;
    assert!(site.has_run("set:calls=2 del:calls=2"));
    assert_eq!(*site.heard.lock().expect("no panic"), [Timeout, Timeout, Ok, Ok]);
}

#[tokio::test]
async fn a_release_follows_its_set_while_neither_is_answered() {
    let site = Site::start(PATIENT).await;
    site.proxy.set(Fault::DropReplies);
    let keys = keys(&["a"]);
    tokio::select! {
        _ = site.redlock.acquire(&keys) => panic!("the reply is lost"),
        () = until("the set is under way", || site.server.has("lock:item:a")) => (),
    }
    // The call has been dropped, and its release sent.
    until("the release has been", || !site.server.has("lock:item:a")).await;
    assert!(site.has_run("set:calls=1 del:calls=1") && site.heard.lock().expect("no panic").is_empty());
}
