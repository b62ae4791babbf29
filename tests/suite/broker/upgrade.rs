//! Beside daemons of the version before, which shared a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::before::{NAME, reads_as_before};
use support::hold::{pending, restock};
use support::{eventually, world::World};

#[tokio::test]
async fn a_daemon_stands_by_beside_one_of_the_version_before_and_takes_what_that_leaves() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    world.drained().await;
    assert_eq!(calm.terminate().await, Some(0));
    restock(&world, &pen, 5).await;
    let until = Arc::new(AtomicBool::new(false));
    let (ends, soon) = (until.clone(), [("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "1000")]);
    let story = async {
        eventually("the one before has them in hand", async || (pending(&world).await.len() == 5).then_some(())).await;
        let newer = world.daemon(&soon).await;
        restock(&world, &pen, 5).await;
        eventually("the one before reads on", async || (pending(&world).await.len() == 10).then_some(())).await;
        let (_, ready) = newer.get("/readyz").await.expect("it is ready");
        assert!(ready.contains("fleet: stands by"), "{ready}");
        assert!(pending(&world).await.iter().all(|(consumer, _)| consumer == NAME), "nothing was taken from it");
        ends.store(true, Ordering::Relaxed);
        newer
    };
    let (_, newer) = tokio::join!(reads_as_before(&world, until), story);
    // It was killed: its entries are older than all that comes now.
    restock(&world, &pen, 5).await;
    world.drained().await;
    assert_eq!(world.history("item", &pen).await.len(), 17);
    let (_, ready) = newer.get("/readyz").await.expect("it is ready");
    assert!(ready.contains("fleet: owns"), "{ready}");
}

#[tokio::test]
async fn one_of_the_version_before_that_drains_is_followed_at_once() {
    let world = World::new().await;
    let make = ["XGROUP", "CREATE", &world.stream, "lockkeeper", "0", "MKSTREAM"];
    world.redis_do::<()>(&make).await;
    world.redis_do::<u64>(&["XGROUP", "CREATECONSUMER", &world.stream, "lockkeeper", NAME]).await;
    let newer = world.daemon(&[("LOCKKEEPER_STREAM_CLAIM_AFTER_MS", "86400000")]).await;
    let (_, ready) = newer.get("/readyz").await.expect("it is ready");
    assert!(ready.contains("fleet: stands by"), "{ready}");
    world.redis_do::<u64>(&["XGROUP", "DELCONSUMER", &world.stream, "lockkeeper", NAME]).await;
    eventually("the newer one owns the stream", async || {
        newer.get("/readyz").await?.1.contains("fleet: owns").then_some(())
    })
    .await;
}
