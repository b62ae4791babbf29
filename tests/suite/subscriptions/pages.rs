//! Pages, committed one by one: any cutting gives the same rows, and whoever has lost the subscription leaves nothing.

use lockkeeper::page::{self, Done, Failure, Fold, Place, Reading};
use lockkeeper::projection::{Code, Happened, LogProjection};
use lockkeeper::store::sql::{Sql, Tables};
use lockkeeper::store::{Checkpoint, CheckpointState, Leave, ParkedAggregates, StoreError};
use rand::RngExt;
use sqlx::{Executor, Row};
use uuid::Uuid;

use crate::engine::counter::Counter;
use support::world::World;

/// What each counter has come to by additions, and by how many.
struct Totals;

impl LogProjection<Counter> for Totals {
    fn name(&self) -> &'static str {
        "totals"
    }

    fn events(&self) -> &'static [&'static str] {
        &["counter.added"]
    }

    fn write(&self, page: &[Happened<'_, Counter>], sql: &mut Sql) {
        assert!(page.iter().all(|happened| *happened.event != 666), "a bug in the projection");
        sql.raw("INSERT INTO totals (name, total, additions, last) VALUES ");
        sql.list(page, |sql, happened| {
            sql.raw("(").text(&happened.aggregate.id).raw(",").number(*happened.event).raw(",1,");
            sql.number(happened.position).raw(")");
        });
        sql.raw(
            " ON DUPLICATE KEY UPDATE total = total + VALUES(total), additions = additions + 1, last = VALUES(last);",
        );
    }
}

const TABLE: &str = "CREATE TABLE totals (name VARBINARY(128) PRIMARY KEY, total INT UNSIGNED NOT NULL, \
                     additions INT UNSIGNED NOT NULL, last BIGINT UNSIGNED NOT NULL) ENGINE = InnoDB";

/// A world whose log has so many events of seven counters, and now and then one of a type that concerns nobody.
async fn with_log(events: u64) -> World {
    let world = World::new().await;
    let mut sql = world.sql().await;
    sql.execute(TABLE).await.expect("the table");
    let rows = (1..=events).map(|position| {
        let event_type = if position % 5 == 0 { "counter.polished" } else { "counter.added" };
        let (counter, version) = (position % 7, position.div_ceil(7));
        format!("({position},'counter','c{counter}',{version},UNHEX(LPAD(HEX({position}),32,'0')),'{event_type}',1,'{}','{{}}',NOW(6))", position % 11)
    });
    let rows: Vec<String> = rows.collect();
    let text = format!("INSERT INTO events VALUES {}; UPDATE event_sequence SET position = {events}", rows.join(","));
    sqlx::raw_sql(&text).execute(&mut sql).await.expect("the log");
    world.store.add_checkpoint("totals", "log").await.expect("a checkpoint");
    world
}

async fn checkpoint(world: &World) -> Checkpoint {
    world.store.checkpoints().await.expect("checkpoints").into_iter().next().expect("one")
}

/// Has the subscription taken by somebody.
async fn take(world: &World) -> Uuid {
    let token = Uuid::new_v4();
    let seen = checkpoint(world).await;
    assert!(world.store.take_checkpoint(&seen, token, "a test").await.expect("the database answers"));
    token
}

async fn page(world: &World, token: Uuid, position: u64, limit: u32) -> Result<Option<Done>, Failure> {
    let place = Place { name: "totals", token, position, tables: Tables::Plain };
    let (mut fold, parked) = (Fold::new(0), ParkedAggregates::new());
    let reading = Reading { code: Code::Log(&Totals), fold: &mut fold, parked: &parked };
    page::run(&world.store, reading, place, (limit, 1 << 24)).await
}

/// The rows of the read model, as text.
async fn rows(world: &World) -> Vec<String> {
    let text = "SELECT CONCAT_WS(' ', name, total, additions, last) FROM totals ORDER BY name";
    let rows = world.sql().await.fetch_all(text).await.expect("the rows");
    rows.iter().map(|row| row.try_get_unchecked(0).expect("text")).collect()
}

/// What the rows have to be, by the log alone.
async fn of_log(world: &World) -> Vec<String> {
    let text = "SELECT CONCAT_WS(' ', aggregate_id, SUM(payload), COUNT(*), MAX(position)) FROM events \
                WHERE event_type = 'counter.added' GROUP BY aggregate_id ORDER BY aggregate_id";
    let rows = world.sql().await.fetch_all(text).await.expect("the log");
    rows.iter().map(|row| row.try_get_unchecked(0).expect("text")).collect()
}

#[tokio::test]
async fn any_cutting_of_the_log_into_pages_gives_the_same_rows() {
    let world = with_log(400).await;
    let expected = of_log(&world).await;
    assert_eq!(expected.len(), 7);
    for most in [1, 2, 9, 100, 1000] {
        let reset = "DELETE FROM totals; UPDATE checkpoints SET position = 0, event_id = NULL, token = NULL";
        sqlx::raw_sql(reset).execute(&mut world.sql().await).await.expect("everything is as before");
        let (token, mut position) = (take(&world).await, 0);
        let limit = || rand::rng().random_range(1..=most);
        while let Some(done) = page(&world, token, position, limit()).await.expect("a page") {
            assert!(done.position > position, "it goes on");
            position = done.position;
        }
        assert_eq!((position, checkpoint(&world).await.position), (400, 400));
        assert_eq!(rows(&world).await, expected, "pages of up to {most} events");
    }
}

#[tokio::test]
async fn whoever_has_lost_the_subscription_or_is_behind_leaves_nothing() {
    let world = with_log(40).await;
    let first = take(&world).await;
    let done = page(&world, first, 0, 10).await.expect("a page").expect("events");
    assert_eq!((done.position, done.events), (10, 10));
    let before = rows(&world).await;
    let second = take(&world).await;
    let refused = async |what: &str, token, position| {
        let failure = page(&world, token, position, 10).await.expect_err(what);
        assert!(matches!(failure, Failure::Store(StoreError::Fenced(_))), "{what}: {failure}");
        assert_eq!(rows(&world).await, before, "{what}: nothing of its page is there");
    };
    refused("somebody else has the subscription", first, 10).await;
    refused("the page was done before", second, 0).await;
    refused("a page was left out", second, 20).await;
    assert!(world.store.set_checkpoint("totals", CheckpointState::Paused, Some("a test")).await.expect("an answer"));
    refused("it is paused", second, 10).await;
    assert!(!world.store.beat_checkpoint("totals", second).await.expect("an answer"));
    world.sql().await.execute("DELETE FROM checkpoints").await.expect("it is gone");
    refused("its checkpoint is gone", second, 10).await;
}

#[tokio::test]
async fn a_subscription_is_taken_by_one_and_left_by_whoever_has_it() {
    let world = with_log(3).await;
    let (seen, token) = (checkpoint(&world).await, take(&world).await);
    let late = Uuid::new_v4();
    assert!(!world.store.take_checkpoint(&seen, late, "late").await.expect("an answer"), "somebody was faster");
    world.store.leave_checkpoint("totals", late, Leave::Stopped("it is not mine")).await.expect("an answer");
    assert_eq!(checkpoint(&world).await.token, Some(token), "only its own");
    assert!(world.store.beat_checkpoint("totals", token).await.expect("an answer"));
    world.store.leave_checkpoint("totals", token, Leave::Stopped("position 1: no")).await.expect("an answer");
    let stopped = checkpoint(&world).await;
    assert_eq!(
        (stopped.state, stopped.token, stopped.reason.as_deref()),
        (CheckpointState::Stopped, None, Some("position 1: no"))
    );
    assert!(!world.store.take_checkpoint(&stopped, token, "again").await.expect("an answer"), "it is stopped");
}

#[tokio::test]
async fn holes_and_events_that_cannot_be_read_are_told_with_their_position() {
    let world = with_log(40).await;
    let token = take(&world).await;
    let change = async |text: &str| {
        world.sql().await.execute(text).await.expect("the log is changed");
    };
    change("UPDATE events SET payload = 'x' WHERE position = 12").await;
    let failure = page(&world, token, 0, 40).await.expect_err("an event cannot be read");
    assert!(matches!(failure, Failure::Poison { position: 12, .. }), "{failure}");
    change("UPDATE events SET payload = '666' WHERE position = 12").await;
    let failure = page(&world, token, 0, 40).await.expect_err("the projection panics");
    assert!(failure.to_string().contains("a bug in the projection"), "{failure}");
    change("UPDATE events SET schema_version = 3 WHERE position = 12").await;
    let failure = page(&world, token, 0, 40).await.expect_err("a newer program wrote it");
    assert!(matches!(&failure, Failure::Newer(12, event_type, 3) if event_type == "counter.added"), "{failure}");
    change("DELETE FROM events WHERE position = 7").await;
    assert!(matches!(page(&world, token, 0, 40).await, Err(Failure::Gap(7))));
    assert!(page(&world, token, 0, 6).await.is_ok(), "what is before the hole is done");
    assert!(matches!(page(&world, token, 6, 40).await, Err(Failure::Gap(7))), "a hole at the beginning is one");
    assert!(!checkpoint(&world).await.is_of_another_log());
    change("UPDATE events SET event_id = 'another' WHERE position = 6").await;
    assert!(checkpoint(&world).await.is_of_another_log());
}
