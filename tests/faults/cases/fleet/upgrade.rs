//! From a version that shared the stream, and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::site::Site;
use support::before::{claims_as_before, reads_as_before};
use support::eventually;

const SOON: [(&str, &str); 1] = [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "1000")];

/// An older daemon reads, newer ones stand by; it is killed and they take what it had; then the way back, and again.
pub async fn to_and_fro(site: &mut Site) {
    site.daemon(&SOON).await;
    site.stock_up().await;
    for _ in 0..3 {
        site.settle().await;
        while let Some(mut leaving) = site.daemons.pop() {
            assert_eq!(leaving.terminate().await, Some(0), "{}", leaving.process.last_lines());
        }
        let before = site.epoch().await;
        site.load();
        let until = Arc::new(AtomicBool::new(false));
        let ends = until.clone();
        let (first, second) = {
            let world = &site.world;
            let settings = Site::settings(&SOON);
            let story = async {
                let in_hand = async || (support::hold::pending(world).await.len() > 20).then_some(());
                eventually("the older one has jobs in hand", in_hand).await;
                let pair = (world.daemon(&settings).await, world.daemon(&settings).await);
                tokio::time::sleep(Duration::from_secs(3)).await;
                ends.store(true, Ordering::Relaxed);
                pair
            };
            let (read, pair) = tokio::join!(reads_as_before(world, until), story);
            assert!(read.len() > 20, "the older one has read {} jobs", read.len());
            pair
        };
        assert_eq!(site.epoch().await, before, "the stream was taken beside a daemon that shares it");
        site.daemons.extend([first, second]);
        eventually("one of the newer ones takes it", async || (site.epoch().await > before).then_some(())).await;
        site.mended().await;
        // The way back: what the newer ones had in hand is claimed, and nothing is left that no list has.
        site.daemons.iter_mut().for_each(|daemon| daemon.process.kill());
        site.daemons.clear();
        site.stop_load().await;
        let claimed = claims_as_before(&site.world, 0).await;
        let (entries, pending) = site.world.left().await;
        let unread: u64 = entries - pending;
        assert_eq!(claimed as u64, pending, "{entries} entries, {unread} of them unread");
        site.daemon(&SOON).await;
        site.mended().await;
    }
}
