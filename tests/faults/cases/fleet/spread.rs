//! Streams that are shared out, while daemons come and go.

use crate::load::{Job, send};
use crate::site::Site;
use support::{eventually, world::Daemon};

const STREAMS: usize = 4;

/// Jobs of each stream between two changes of the fleet.
const ROUNDS: usize = 30;

/// How many of the streams a daemon owns; `None` while it does not answer.
async fn owned(daemon: &Daemon, streams: &[String]) -> Option<usize> {
    let (_, metrics) = daemon.get("/metrics").await?;
    let is_owned = |stream: &&String| metrics.contains(&format!("lockkeeper_stream_owned{{queue=\"{stream}\"}} 1"));
    Some(streams.iter().filter(is_owned).count())
}

/// The fleet has come to rest with each stream owned once, and nobody with more than a share.
async fn balanced(site: &Site, streams: &[String]) {
    let most = STREAMS.div_ceil(site.daemons.len());
    eventually("the streams are shared out", async || {
        let mut all = 0;
        for daemon in &site.daemons {
            let owned = owned(daemon, streams).await?;
            all += owned;
            if owned > most {
                return None;
            }
        }
        (all == STREAMS).then_some(())
    })
    .await;
}

/// Each stream has items and orders of its own, so that each has an order that can be proved.
async fn sell(site: &Site, streams: &[String], round: usize) {
    for (number, stream) in streams.iter().enumerate() {
        let item = |which: usize| site.world.id(format!("of{number}-{which}"));
        let line = |which| format!(r#"{{"item_id":"{}","quantity":1}}"#, item(which));
        let order = format!(r#"{{"member_id":1,"lines":[{},{}]}}"#, line(round % 3), line(3));
        let restock = Job::new("item.restock", &item(round % 4), r#"{"quantity":1}"#);
        let place = Job::new("order.place", &site.world.id(format!("order{number}-{round}")), &order);
        let jobs = [restock, place];
        site.pushed.add(&jobs);
        send(&site.client(), &site.pushed, stream, &jobs).await;
    }
}

pub async fn more_and_fewer(site: &mut Site) {
    let one = site.world.stream.clone();
    let others = (1..STREAMS).map(|number| format!("{one}:{number}"));
    let streams: Vec<String> = std::iter::once(one.clone()).chain(others).collect();
    let names = streams.join(",");
    let settings = [("LOCKKEEPER_STREAM_NAMES", names.as_str()), ("LOCKKEEPER_STREAM_SPREAD", "true")];
    site.daemon(&settings).await;
    let data = r#"{"name":"item","supply_price":"10","vat":"1","is_tax_free":false,"stock":5,"member_id":1}"#;
    for (number, stream) in streams.iter().enumerate() {
        let items = (0..4).map(|which| site.world.id(format!("of{number}-{which}")));
        let jobs =
            items.flat_map(|item| [Job::new("item.register", &item, data), Job::new("item.allow_sale", &item, "{}")]);
        let jobs: Vec<Job> = jobs.collect();
        site.pushed.add(&jobs);
        send(&site.client(), &site.pushed, stream, &jobs).await;
    }
    let mut round = 0;
    for (wanted, is_killed) in [(4, false), (2, false), (3, true), (2, true), (4, true), (1, false), (2, true)] {
        let mut is_changed = false;
        while site.daemons.len() != wanted || !is_changed {
            for _ in 0..ROUNDS {
                sell(site, &streams, round).await;
                round += 1;
            }
            if site.daemons.len() < wanted {
                site.daemon(&settings).await;
            } else if site.daemons.len() > wanted {
                let mut leaving = site.daemons.remove(0);
                if is_killed {
                    leaving.process.kill();
                } else {
                    assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
                }
            }
            is_changed = true;
        }
        balanced(site, &streams).await;
    }
    for stream in &streams {
        let empty = async || (site.world.redis_do::<u64>(&["XLEN", stream]).await == 0).then_some(());
        eventually("every stream is empty", empty).await;
    }
}
