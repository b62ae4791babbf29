//! Long histories: what a daemon reads of them when it starts anew, and what it makes of a snapshot that is of no use.
//!
//! Whether an event was read is told by making it unreadable: jobs of an aggregate whose loading meets it wait for ever.

use lockkeeper::job::JobId;
use sqlx::{MySqlConnection, Row};

use support::hold::restock;
use support::{
    audit, eventually,
    world::{Daemon, World},
};

/// What a daemon may take at most, in KiB.
const MEMORY: u64 = 64 * 1024;

/// Ten rows of one digit.
const DIGITS: &str = "(SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL \
                      SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";

async fn execute(sql: &mut MySqlConnection, statements: String) {
    sqlx::raw_sql(&statements).execute(sql).await.expect("the statements are executed");
}

/// Writes a history into an empty log, as if one job had done it all: an item that is registered with 1 piece and put on sale,
/// and restocked by 1 until it has `events` events. No snapshot is written.
async fn write_history(world: &World, item: &str, events: u64) {
    let job = JobId::from_text("the history");
    let registered = format!(
        r#"{{"name":"{item}","supply_price":"10.000","vat":"1.000","is_tax_free":false,"stock":1,"member_id":1}}"#
    );
    let numbers = format!(
        "SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + 1 AS n \
         FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} d, {DIGITS} e"
    );
    let statements = format!(
        "INSERT INTO events SELECT n, 'item', '{item}', n, LEFT(SHA2(n, 256), 16), \
         CASE n WHEN 1 THEN 'item.registered' WHEN 2 THEN 'item.sale_allowed' ELSE 'item.restocked' END, 1, \
         CASE n WHEN 1 THEN '{registered}' WHEN 2 THEN '{{}}' ELSE '{{\"quantity\":1}}' END, \
         '{{\"job\":\"{job}\"}}', '2026-01-31 12:00:00' FROM ({numbers}) numbers WHERE n <= {events}; \
         INSERT INTO receipts VALUES (x'{}', 'applied', NULL, 1, {events}, x'{:032x}', '2026-01-31 12:00:00'); \
         UPDATE event_sequence SET position = {events}",
        job.0.simple(),
        0
    );
    execute(&mut world.sql().await, statements).await;
}

/// Pieces in stock after [`write_history`].
fn stock(events: u64) -> u64 {
    events - 1
}

/// Makes the events with these versions of the item unreadable, or readable again.
async fn set_readable(world: &World, versions: &str, readable: bool) {
    let (from, to) = if readable { ("item.lost", "item.restocked") } else { ("item.restocked", "item.lost") };
    let update = format!("UPDATE events SET event_type = '{to}' WHERE event_type = '{from}' AND version {versions}");
    execute(&mut world.sql().await, update).await;
}

/// The version of the one snapshot that there is.
async fn snapshot(world: &World) -> Option<u64> {
    let page = world.store.snapshots_from(None, 10).await.expect("the snapshots");
    assert!(page.len() < 2, "{page:?}");
    page.first().map(|snapshot| snapshot.version)
}

/// An order of more than there is, which is rejected, and of all that there is, which is not: the state is exactly right. The
/// first one reads the item and writes nothing.
async fn sell_out(world: &World, item: &str, stock: u64) {
    let order = |quantity| format!(r#"{{"member_id":1,"lines":[{{"item_id":"{item}","quantity":{quantity}}}]}}"#);
    let outcome = world.outcome("order.place", &world.id("too-much"), &order(stock + 1)).await;
    assert_eq!(outcome, "rejected: item_stock_shortage");
    assert_eq!(world.outcome("order.place", &world.id("all"), &order(stock)).await, "applied");
}

async fn sound(world: &World) {
    let verdict = audit(&world.database, None).await;
    assert_eq!(verdict, Ok(()));
}

fn peak(daemon: &Daemon) -> u64 {
    let pid = daemon.process.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the kernel tells");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a high-water mark");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn a_history_of_a_hundred_thousand_events_is_read_once_and_after_a_restart_by_its_snapshot() {
    let world = World::new().await;
    let pen = world.id("pen");
    write_history(&world, &pen, 100_000).await;
    let mut daemon = world.daemon(&[]).await;
    assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied");
    assert_eq!(snapshot(&world).await, Some(100_000), "the log that had none is healed");
    eprintln!("peak of a daemon that has read 100,000 events: {} KiB", peak(&daemon));
    assert!(peak(&daemon) < MEMORY, "{} KiB", peak(&daemon));
    assert_eq!(daemon.terminate().await, Some(0));

    set_readable(&world, "<= 100000", false).await;
    let _successor = world.daemon(&[]).await;
    sell_out(&world, &pen, stock(100_000) + 1).await;
    set_readable(&world, "<= 100000", true).await;
    sound(&world).await;
}

#[tokio::test]
async fn without_a_snapshot_everything_is_read() {
    let world = World::new().await;
    let pen = world.id("pen");
    write_history(&world, &pen, 1000).await;
    set_readable(&world, "= 3", false).await;
    let daemon = world.daemon(&[]).await;
    restock(&world, &pen, 1).await;
    let back = r#"lockkeeper_jobs_put_back_total{reason="unreadable"}"#;
    eventually("the job goes back", async || daemon.metric(back).await.filter(|count| *count >= 1.0)).await;
    assert_eq!(snapshot(&world).await, None, "none is taken of what cannot be read");
    set_readable(&world, "= 3", true).await;
    world.drained().await;
    sell_out(&world, &pen, stock(1000) + 1).await;
    sound(&world).await;
}

#[tokio::test]
async fn a_busy_aggregate_gets_a_snapshot_every_few_hundred_events_and_a_quiet_one_none() {
    let world = World::new().await;
    let (pen, ink) = (world.id("pen"), world.id("ink"));
    let mut daemon = world.daemon(&[("LOCKKEEPER_BATCH_MAX_JOBS", "100")]).await;
    world.item_on_sale(&pen, 0).await;
    world.item_on_sale(&ink, 0).await;
    restock(&world, &pen, 700).await;
    restock(&world, &ink, 200).await;
    world.drained().await;
    let taken = snapshot(&world).await.expect("the pen has one, and the ink has none");
    assert!((512..=702).contains(&taken), "the last multiple of 256 that was passed is 512: {taken}");
    sound(&world).await;
    assert_eq!(daemon.terminate().await, Some(0));

    set_readable(&world, "<= 512", false).await;
    let ink_again =
        format!("UPDATE events SET event_type = 'item.restocked' WHERE aggregate_id = '{ink}' AND version > 2");
    execute(&mut world.sql().await, ink_again).await;
    let _successor = world.daemon(&[]).await;
    sell_out(&world, &pen, 700).await;
    assert_eq!(world.outcome("item.restock", &ink, r#"{"quantity":1}"#).await, "applied");
}

#[tokio::test]
async fn a_snapshot_that_is_of_no_use_is_ignored_and_replaced() {
    let world = World::new().await;
    let pen = world.id("pen");
    write_history(&world, &pen, 600).await;
    let rich = format!(
        r#"{{"item":{{"name":"{pen}","supply_price":"10.000","vat":"1.000","is_tax_free":false,"is_on_sale":true,"stock":9999,"member_id":1}}}}"#
    );
    for (what, version, event_id, schema, state) in [
        ("is no JSON", 599, "LEFT(SHA2(599, 256), 16)", 1, "{"),
        ("is of something else", 599, "LEFT(SHA2(599, 256), 16)", 1, r#"{"order":null}"#),
        ("is of another schema version", 599, "LEFT(SHA2(599, 256), 16)", 2, rich.as_str()),
        ("is newer than the head", 1599, "LEFT(SHA2(1599, 256), 16)", 1, rich.as_str()),
        ("is of an event that another has replaced", 599, "LEFT(SHA2('other', 256), 16)", 1, rich.as_str()),
    ] {
        let head = world.history("item", &pen).await.len() as u64;
        let insert =
            format!("REPLACE INTO snapshots VALUES ('item', '{pen}', {version}, {event_id}, {schema}, '{state}')");
        execute(&mut world.sql().await, insert).await;
        let mut daemon = world.daemon(&[]).await;
        let order = format!(r#"{{"member_id":1,"lines":[{{"item_id":"{pen}","quantity":5000}}]}}"#);
        let outcome = world.outcome("order.place", &world.id("rich"), &order).await;
        assert_eq!(outcome, "rejected: item_stock_shortage", "the snapshot {what}");
        assert_eq!(snapshot(&world).await, Some(head), "the snapshot {what}");
        assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied");
        assert_eq!(daemon.terminate().await, Some(0));
        sound(&world).await;
    }
    let stored = sqlx::raw_sql("SELECT stock FROM items").fetch_one(&mut world.sql().await).await.expect("the item");
    assert_eq!(u64::from(stored.get::<u32, _>(0)), stock(600) + 5);
}

#[tokio::test]
async fn the_table_may_be_emptied_at_any_time() {
    let world = World::new().await;
    let pen = world.id("pen");
    let _daemon = world.daemon(&[]).await;
    world.item_on_sale(&pen, 0).await;
    for round in 1..=5 {
        restock(&world, &pen, 300).await;
        execute(&mut world.sql().await, "TRUNCATE TABLE snapshots".to_owned()).await;
        world.drained().await;
        let history = world.history("item", &pen).await;
        assert_eq!(history.len(), 2 + 300 * round);
    }
    sell_out(&world, &pen, 1500).await;
    sound(&world).await;
}
