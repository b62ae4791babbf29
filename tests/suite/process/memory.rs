//! What large entries leave behind in the process: nothing.

use throwaway::servers::{Folder, RedisServer};

use support::{
    PATIENCE, eventually,
    world::{Daemon, World},
};

const MIB: u64 = 1 << 20;

/// A line of the process's memory in the kernel's words, in bytes.
fn memory(daemon: &Daemon, line: &str) -> u64 {
    let pid = daemon.process.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the kernel tells");
    let value = status.lines().find_map(|found| found.strip_prefix(line)).expect("a line");
    value.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

async fn world_of_its_own() -> (World, RedisServer) {
    let mut world = World::new().await;
    let folder = Folder::temporary().expect("a folder");
    let broker = RedisServer::start(&folder, "own", &[]).await.expect("a broker of its own");
    world.broker = broker.url();
    let client = redis::Client::open(world.broker.as_str()).expect("the broker's URL");
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    world.redis = client.get_multiplexed_async_connection_with_config(&config).await.expect("the broker answers");
    (world, broker)
}

/// Adds so many entries of 64 MiB in one step, from within the broker.
async fn push_large(world: &World, number: u32) {
    let fill = "local data = string.rep('x', 67108864) for i = 1, tonumber(ARGV[2]) do \
        redis.call('XADD', KEYS[1], '*', 'type', 'item.restock', 'key', ARGV[1], 'data', data) end return 0";
    let (number, key) = (number.to_string(), world.id("pen"));
    world.redis_do::<u64>(&["EVAL", fill, "1", &world.stream, &key, &number]).await;
}

/// Waits until the process has no more memory than this.
async fn given_back(daemon: &Daemon, most: u64) {
    let given_back = async || (memory(daemon, "VmRSS") <= most).then_some(());
    let waiting =
        async { tokio::time::timeout(PATIENCE / 6, eventually("the memory is given back", given_back)).await };
    let (now, peak) = (memory(daemon, "VmRSS") / MIB, memory(daemon, "VmHWM") / MIB);
    assert!(waiting.await.is_ok(), "{now} MiB at first, {} in the end, {peak} at most", memory(daemon, "VmRSS") / MIB);
}

async fn letters(world: &World) -> u64 {
    world.redis_do(&["XLEN", &format!("{}:dead", world.stream)]).await
}

#[tokio::test]
async fn large_entries_leave_no_memory_behind() {
    let (world, _broker) = world_of_its_own().await;
    let daemon = world.daemon(&[]).await;
    assert!(world.outcome("item.restock", &world.id("pen"), r#"{"quantity":1}"#).await.starts_with("rejected"));
    world.drained().await;
    let polled = async || daemon.metric("lockkeeper_queue_last_poll_timestamp_seconds").await;
    let then = polled().await.expect("it has read");
    eventually("a read brought nothing", async || polled().await.filter(|now| *now > then + 0.3)).await;
    let before = memory(&daemon, "VmRSS");
    push_large(&world, 3).await;
    eventually("the large ones are dead letters", async || (letters(&world).await == 3).then_some(())).await;
    world.drained().await;
    given_back(&daemon, before + 64 * MIB).await;
    let peak = memory(&daemon, "VmHWM");
    eprintln!("{} MiB before, {} at most, {} after", before / MIB, peak / MIB, memory(&daemon, "VmRSS") / MIB);
}

#[tokio::test]
async fn large_entries_of_a_dead_consumer_leave_no_memory_behind() {
    let (world, _broker) = world_of_its_own().await;
    push_large(&world, 2).await;
    world.redis_do::<()>(&["XGROUP", "CREATE", &world.stream, "lockkeeper", "0"]).await;
    let nothing = "redis.call('XREADGROUP', 'GROUP', 'lockkeeper', 'dead', 'STREAMS', KEYS[1], '>') return 0";
    world.redis_do::<u64>(&["EVAL", nothing, "1", &world.stream]).await;
    let daemon = world.daemon(&[]).await;
    eventually("the large ones are dead letters", async || (letters(&world).await == 2).then_some(())).await;
    world.drained().await;
    given_back(&daemon, 96 * MIB).await;
}

#[tokio::test]
async fn large_jobs_that_wait_are_not_fetched_to_be_counted() {
    let (world, _broker) = world_of_its_own().await;
    let far = "redis.call('ZADD', KEYS[1], '9e13', cmsgpack.pack({'id', 'far', 'data', string.rep('x', 67108864)})) \
        redis.call('XADD', KEYS[2], '*', 'id', 'dead', 'data', string.rep('x', 67108864)) return 0";
    let (schedule, dead) = (format!("{}:scheduled", world.stream), format!("{}:dead", world.stream));
    world.redis_do::<u64>(&["EVAL", far, "2", &schedule, &dead]).await;
    let settings = [("LOCKKEEPER_RETENTION_RECEIPTS_DAYS", "2"), ("LOCKKEEPER_RETENTION_DEAD_LETTERS_DAYS", "2")];
    let daemon = world.daemon(&settings).await;
    let series = format!(r#"lockkeeper_schedule_length{{queue="{}"}}"#, world.stream);
    eventually("the schedule is sampled", async || (daemon.metric(&series).await == Some(1.0)).then_some(())).await;
    let peak = memory(&daemon, "VmHWM");
    assert!(peak < 64 * MIB, "{} MiB for what nobody has to read", peak / MIB);
}
