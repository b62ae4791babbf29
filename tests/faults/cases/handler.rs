//! Faults of the domain's own code: it panics, and it never returns.

use std::time::Instant;

use crate::load::Job;
use crate::site::Site;
use support::{PATIENCE, world::told};

pub async fn panics_and_hangs(site: &mut Site) {
    let [bug, trap] = ["bug", "trap"].map(|name| site.world.id(name));
    let [panics, hangs] = [&bug, &trap].map(|key| format!("decide:{key}"));
    let settings = Site::settings(&[
        ("LOCKKEEPER_TEST_PANIC", &panics),
        ("LOCKKEEPER_TEST_HANG", &hangs),
        ("LOCKKEEPER_BATCH_DECIDE_TIMEOUT_MS", "1000"),
        ("LOCKKEEPER_FLEET_LEASE_MS", "400"),
    ]);
    site.daemon(&settings).await;
    site.stock_up().await;
    site.load();
    site.progress().await;
    site.dead += 2;

    let panicking = Job::new("item.restock", &bug, r#"{"quantity":1}"#);
    site.push(std::slice::from_ref(&panicking)).await;
    let receipt = site.world.receipt(lockkeeper::job::JobId::from_text(&panicking.id)).await;
    assert!(told(&receipt).starts_with("dead: panicked"), "{}", told(&receipt));
    site.mended().await;
    assert_eq!(site.daemons[0].process.exit_status(), None, "a panic costs one job and no process");

    let hanging = Job::new("item.restock", &trap, r#"{"quantity":1}"#);
    site.push(std::slice::from_ref(&hanging)).await;
    let id = lockkeeper::job::JobId::from_text(&hanging.id);
    let (mut ends, mut alive) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while site.world.store.read(&[id], &[], &[]).await.expect("a read").receipts.is_empty() {
        assert!(Instant::now() < deadline, "the job is not dead after {ends} ends");
        if let Some(status) = site.daemons[0].process.exit_status() {
            assert_eq!(status.code(), Some(70), "I7: a decision that does not end ends the process, and says so");
            ends += 1;
            // As a supervisor would.
            site.daemons[0] = site.world.start(&settings);
        } else if site.daemons[0].get("/livez").await.is_some_and(|(status, _)| status == 200) {
            alive += 1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(ends, 5, "one end for each of max_deliveries");
    assert!(alive > 0, "/livez answers while one thread is held");
    assert!(told(&site.world.receipt(id).await).starts_with("dead: max_deliveries"));
    site.logged("a decision does not end").await;
    site.mended().await;
}
