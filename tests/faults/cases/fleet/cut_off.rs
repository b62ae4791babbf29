//! An owner that reaches less than a peer does: the peer goes on.

use std::net::SocketAddr;
use std::time::Duration;

use throwaway::proxy::{Fault, Proxy};

use super::{longest_pause, now};
use crate::cases::locks::behind_proxies;
use crate::site::Site;
use support::eventually;

/// How long nothing may be committed after the owner was cut off.
const CUT_OFF: Duration = Duration::from_millis(2500);

/// The same when a session of the owner's stands still in the midst of its transaction.
const IN_TRANSACTION: Duration = Duration::from_secs(4);

/// How the way to a server is cut: nothing comes through any more, or everything is refused at once.
const CUTS: [Fault; 2] = [Fault::Stall, Fault::Reset];

impl Site {
    /// Whether this daemon says that it owns the stream.
    async fn owns(&self, number: usize) -> bool {
        self.daemons[number].get("/readyz").await.is_some_and(|(_, text)| text.contains("fleet: owns"))
    }

    /// Makes the first daemon the owner, which is the one that can be cut off.
    async fn first_owns(&self) {
        if self.owns(0).await {
            return;
        }
        for signal in ["TSTP", "CONT"] {
            self.daemons[1].process.signal(signal).expect("a signal");
            eventually("the first daemon owns the stream", async || self.owns(0).await.then_some(())).await;
        }
    }

    /// Cuts the first daemon off, and holds the time until the other goes on to `limit`.
    async fn cut_off(&mut self, what: &str, proxies: impl Fn(&Self) -> Vec<&Proxy>, limit: Duration) {
        for cut in CUTS {
            self.first_owns().await;
            self.progress().await;
            let since = now(self).await;
            proxies(self).iter().for_each(|proxy| proxy.set(cut));
            eventually("the other daemon owns the stream", async || self.owns(1).await.then_some(())).await;
            self.progress().await;
            let pause = longest_pause(self, since).await;
            proxies(self).iter().for_each(|proxy| proxy.set(Fault::None));
            self.paused(pause, limit, &format!("{what}, {cut:?}"));
            self.mended().await;
        }
    }

    /// One more daemon, which reaches every server past the proxies.
    async fn peer(&mut self) {
        let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port)).to_string();
        let database =
            self.world.database.replace(&self.to_database.address().to_string(), &local(self.servers.database.port()));
        let broker = self.world.broker.replace(&self.to_broker.address().to_string(), &local(self.broker.port()));
        let nodes: Vec<String> = self.servers.lock_nodes.iter().map(|node| node.url()).collect();
        let past = [
            ("DATABASE_URL", database.as_str()),
            ("LOCKKEEPER_STREAM_URL", broker.as_str()),
            ("LOCKKEEPER_LOCK_NODES", &nodes.join(",")),
        ];
        self.daemon(&past).await;
    }
}

pub async fn from_database(site: &mut Site) {
    site.under_load().await;
    site.peer().await;
    site.cut_off("no database", |site| vec![&site.to_database], CUT_OFF).await;
}

pub async fn from_broker(site: &mut Site) {
    site.under_load().await;
    site.peer().await;
    site.cut_off("no broker", |site| vec![&site.to_broker], CUT_OFF).await;
}

pub async fn from_quorum(site: &mut Site) {
    behind_proxies(site).await;
    site.under_load().await;
    site.peer().await;
    site.cut_off("two lock nodes", |site| site.to_nodes[..2].iter().collect(), CUT_OFF).await;
}

/// The owner is frozen when a statement of its transaction has failed and before it says so, so that its session keeps the sequence row
/// until the server ends it.
pub async fn within_a_transaction(site: &mut Site) {
    site.under_load().await;
    site.peer().await;
    for _ in 0..3 {
        site.first_owns().await;
        site.progress().await;
        let since = now(site).await;
        let mut holder = site.hold_end_of_log().await;
        site.batch_waits().await;
        site.daemons[0].process.freeze().expect("SIGSTOP");
        // That takes longer than the owner's statement waits.
        eventually("the other daemon owns the stream", async || site.owns(1).await.then_some(())).await;
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.expect("the log may be written to");
        site.progress().await;
        let pause = longest_pause(site, since).await;
        site.daemons[0].process.thaw().expect("SIGCONT");
        site.paused(pause, IN_TRANSACTION, "frozen in the midst of a transaction");
        site.mended().await;
    }
}
