//! A start of a job that was taken over is counted when the job has its locks, and not before: a job that waits has not been started,
//! however often the process that has it in hand is killed.

use lockkeeper::job::JobId;
use throwaway::servers::{LOCK_NODE, RedisServer};

use support::hold::{consumer, give_lock, hold_sequence, pending, read_as, release, started, take_lock};
use support::{
    eventually,
    world::{Daemon, World},
};

const SOON: [(&str, &str); 2] = [("LOCKKEEPER_FLEET_LEASE_MS", "300"), ("LOCKKEEPER_FLEET_LOOK_MS", "50")];

/// As often was work on the job started before: once less than makes it dead.
const EARLIER: u64 = 4;

/// A job of which dead processes have used up all starts but one.
async fn nearly_used_up(world: &World, item: &str) -> JobId {
    let job = world.push("item.restock", item, r#"{"quantity":1}"#).await;
    let dead = consumer(world, "dead").await;
    let read = read_as(world, &dead).await;
    assert_eq!(read.len(), 1, "it is the only job");
    started(world, &dead, &read, EARLIER).await;
    job
}

async fn starts(world: &World) -> Vec<u64> {
    pending(world).await.into_iter().map(|(_, count)| count).collect()
}

/// A daemon that has taken the job over, and had to put it back for `reason` more than once.
async fn waiting(world: &World, reason: &str) -> Daemon {
    let daemon = world.start(&SOON);
    let put_back = format!(r#"lockkeeper_jobs_put_back_total{{reason="{reason}"}}"#);
    eventually("the job waits", async || daemon.metric(&put_back).await.filter(|times| *times >= 3.0)).await;
    assert_eq!(starts(world).await, [EARLIER], "a job that waits has not been started");
    daemon
}

/// Daemons that have the job in hand are killed while it waits for its locks, more often than it may be started. Then
/// `mend` lets the next one have them.
async fn is_started_once(world: &World, job: JobId, reason: &str, mend: impl AsyncFnOnce()) {
    for _ in 0..3 {
        waiting(world, reason).await.process.kill();
    }
    let _daemon = waiting(world, reason).await;
    // So that the batch with the job does not come to its end.
    let holder = hold_sequence(world).await;
    mend().await;
    eventually("the job is decided, and nothing speaks against it", async || {
        (starts(world).await == [0]).then_some(())
    })
    .await;
    release(holder).await;
    assert_eq!(world.receipt(job).await.outcome, "applied");
    world.drained().await;
}

#[tokio::test]
async fn a_job_whose_lock_somebody_else_holds_is_not_started_until_it_has_it() {
    let world = World::new().await;
    let pen = world.id("pen");
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    assert_eq!(calm.terminate().await, Some(0));
    let lock = format!("lock:item:{pen}");
    take_lock(&world, &lock).await;
    let job = nearly_used_up(&world, &pen).await;
    is_started_once(&world, job, "lock_busy", async || give_lock(&world, &lock).await).await;
}

#[tokio::test]
async fn a_job_is_not_started_while_there_is_no_quorum_of_lock_nodes() {
    let mut world = World::new().await;
    let mut nodes = Vec::new();
    for name in ["first", "second", "third"] {
        let name = format!("{name}-{}", world.prefix);
        nodes.push(RedisServer::start(&world.folder, &name, LOCK_NODE).await.expect("a node"));
    }
    world.lock_nodes = nodes.iter().map(RedisServer::url).collect();
    let pen = world.id("pen");
    let mut calm = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    assert_eq!(calm.terminate().await, Some(0));
    nodes[..2].iter_mut().for_each(RedisServer::kill);
    let job = nearly_used_up(&world, &pen).await;
    let mend = async || {
        for node in &mut nodes[..2] {
            node.restart().await.expect("the node starts again");
        }
    };
    is_started_once(&world, job, "lock_no_quorum", mend).await;
}
