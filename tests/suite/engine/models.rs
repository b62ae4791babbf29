//! What goes wrong with a read model's own statements: it shares the packet with our guards, and is not taken for one of them.

use lockkeeper::batch::{Engine, PutBackReason};
use lockkeeper::projection::{Change, Projection};
use lockkeeper::store::sql::Sql;
use sqlx::{Connection, MySqlConnection};

use super::counter::Counter;
use super::{engine, outcomes, planned, retries, run};
use support::{eventually, world::World};

/// The count that its statement goes wrong with.
const POISON: u64 = 7;

/// Has a statement for the poison, and none for anything else.
struct Model(&'static str);

impl Projection<Counter> for Model {
    fn name(&self) -> &'static str {
        "model"
    }

    fn write(&self, changes: &[Change<'_, Counter>], sql: &mut Sql) {
        if changes.iter().any(|change| change.events.contains(&POISON)) {
            sql.raw(self.0).raw("; ");
        }
    }
}

/// Its columns and keys are called as ours are.
const TABLES: &str = "CREATE TABLE parents (id INT PRIMARY KEY); \
    CREATE TABLE model (id INT NOT NULL, position INT NOT NULL, unchanged INT NOT NULL, name VARCHAR(4) NOT NULL, \
        amount INT UNSIGNED NOT NULL, parent INT NULL, PRIMARY KEY (id), UNIQUE KEY uq_events_version (name), \
        CONSTRAINT few CHECK (amount < 100), FOREIGN KEY (parent) REFERENCES parents (id)); \
    INSERT INTO model VALUES (1, 1, 1, 'a', 0, NULL), (2, 1, 1, 'b', 0, NULL)";

/// An engine whose read model has this statement for a counter that 7 is added to.
pub async fn with_model(world: &World, statement: &'static str) -> Engine<Counter> {
    Engine { projections: vec![std::sync::Arc::new(Model(statement))], ..engine(world, |_, _| {}).await }
}

async fn world_with_model() -> World {
    let world = World::new().await;
    sqlx::raw_sql(TABLES).execute(&mut world.sql().await).await.expect("the read model's tables");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_refused_is_its_job_s_whatever_its_columns_and_keys_are_called() {
    let world = world_with_model().await;
    let refused = [
        "INSERT INTO model VALUES (1, 1, 1, 'c', 1, NULL)",
        "INSERT INTO model VALUES (3, 1, 1, 'a', 1, NULL)",
        "UPDATE model SET position = NULL WHERE id = 1",
        "UPDATE model SET unchanged = NULL WHERE id = 1",
        "INSERT INTO model (id, position, unchanged, name) VALUES (3, 1, 1, 'c')",
        "UPDATE model SET name = 'longer' WHERE id = 1",
        "UPDATE model SET amount = 5000000000 WHERE id = 1",
        "UPDATE model SET amount = amount - 1 WHERE id = 1",
        "UPDATE model SET amount = 'many' WHERE id = 1",
        "UPDATE model SET amount = 100 WHERE id = 1",
        "UPDATE model SET amount = 1 / 0 WHERE id = 1",
        "UPDATE model SET parent = 9 WHERE id = 1",
    ];
    for (number, statement) in refused.into_iter().enumerate() {
        let engine = with_model(&world, statement).await;
        let (bad, good) = (world.id(format!("bad{number}")), world.id(format!("good{number}")));
        let together = vec![planned("counter.add", &bad, "7", 1), planned("counter.add", &good, "2", 2)];
        let ended = run(&engine, together).await;
        let back: Vec<PutBackReason> = ended.back.iter().map(|(_, why)| *why).collect();
        assert_eq!(back, [PutBackReason::Refused; 2], "{statement}: which of the two it is cannot be known yet");
        let alone = run(&engine, vec![planned("counter.add", &bad, "7", 3)]).await;
        let told = outcomes(&alone);
        assert!(told.len() == 1 && told[0].starts_with("dead: cannot_commit: "), "{statement}: {told:?}");
        let other = run(&engine, vec![planned("counter.add", &good, "2", 4)]).await;
        assert_eq!(outcomes(&other), ["applied"], "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_can_never_work_is_the_program_s_fault_and_no_job_s() {
    let world = world_with_model().await;
    for statement in ["UPDATE nowhere SET id = 1", "UPDATE model SET nothing = 1", "UPDATE SET", "DROP TABLE nowhere"] {
        let engine = with_model(&world, statement).await;
        let ended = run(&engine, vec![planned("counter.add", &world.id("c"), "7", 1)]).await;
        let back: Vec<PutBackReason> = ended.back.iter().map(|(_, why)| *why).collect();
        assert_eq!(
            back,
            [PutBackReason::Unavailable],
            "{statement}: it waits until the program or the schema is mended"
        );
    }
    assert!(world.history("counter", &world.id("c")).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_somebody_else_holds_on_a_read_model_delays_the_job_and_kills_nothing() {
    let world = world_with_model().await;
    let engine = with_model(&world, "UPDATE model SET amount = 1 WHERE id = 1").await;
    let mut sql = world.sql().await;
    let hold = "START TRANSACTION; UPDATE model SET amount = 2 WHERE id = 1";
    sqlx::raw_sql(hold).execute(&mut sql).await.expect("the row is held");
    let key = world.id("c");
    let ended = run(&engine, vec![planned("counter.add", &key, "7", 1)]).await;
    assert!(ended.settled.is_empty() && ended.back.len() == 1, "it goes back");
    assert_ne!(ended.back[0].1, PutBackReason::Refused, "nothing is wrong with it");
    assert!(retries(&engine, "lock_wait") > 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut sql).await.expect("the row is free");
    assert_eq!(outcomes(&run(&engine, vec![planned("counter.add", &key, "7", 2)]).await), ["applied"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_over_a_read_model_is_repeated() {
    let world = world_with_model().await;
    let crossing = "UPDATE model SET amount = 1 WHERE id = 1; DO SLEEP(1); UPDATE model SET amount = 1 WHERE id = 2";
    let engine = with_model(&world, crossing).await;
    let mut other = MySqlConnection::connect(&world.database).await.expect("the database answers");
    // The larger transaction is not the one that a deadlock costs.
    let large = "CREATE TABLE many (id INT PRIMARY KEY AUTO_INCREMENT); START TRANSACTION; \
        INSERT INTO many (id) SELECT NULL FROM information_schema.columns a LIMIT 500; UPDATE model SET amount = 2 WHERE id = 2";
    sqlx::raw_sql(large).execute(&mut other).await.expect("the second row is held");
    let key = world.id("c");
    let crosses = async {
        let mut look = world.sql().await;
        eventually("the batch holds the first row", async || {
            let look = sqlx::raw_sql("SELECT id FROM model WHERE id = 1 FOR UPDATE NOWAIT").execute(&mut look).await;
            look.is_err().then_some(())
        })
        .await;
        sqlx::raw_sql("UPDATE model SET amount = 3 WHERE id = 1; COMMIT").execute(&mut other).await
    };
    let (ended, crossed) = tokio::join!(run(&engine, vec![planned("counter.add", &key, "7", 1)]), crosses);
    crossed.expect("the other transaction is committed");
    assert_eq!(outcomes(&ended), ["applied"]);
    assert_eq!(retries(&engine, "deadlock"), 1);
}
