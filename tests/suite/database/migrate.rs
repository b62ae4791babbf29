//! Migrations that end half way are finished, and what earlier versions have migrated is taken as it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use lockkeeper::store::Store;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Connection, Executor, MySqlConnection, Row};
use throwaway::proxy::{Fault, Proxy};

use support::{
    eventually, lockkeeper,
    world::{SHOP, World},
};

const MIGRATIONS: [(i64, &str, &str); 9] = [
    (1, "events", include_str!("../../../migrations/engine/0001_events.sql")),
    (2, "shop", include_str!("../../../migrations/shop/0002_shop.sql")),
    (3, "snapshots", include_str!("../../../migrations/engine/0003_snapshots.sql")),
    (4, "defaults", include_str!("../../../migrations/engine/0004_defaults.sql")),
    (5, "fence", include_str!("../../../migrations/engine/0005_fence.sql")),
    (6, "schemas", include_str!("../../../migrations/engine/0006_schemas.sql")),
    (7, "subscriptions", include_str!("../../../migrations/engine/0007_subscriptions.sql")),
    (8, "projections", include_str!("../../../migrations/engine/0008_projections.sql")),
    (9, "parked", include_str!("../../../migrations/engine/0009_parked.sql")),
];

/// The domain's after its first.
const SALES: (i64, &str, &str) = (3, "sales", include_str!("../../../migrations/shop/0003_sales.sql"));

fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join("\n");
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// A further database of this world's server, empty, and its URL.
async fn empty(world: &World, name: &str) -> (MySqlConnection, String) {
    let (server, own) = world.database.rsplit_once('/').expect("a URL with a database");
    let name = format!("{own}_{name}");
    world.sql().await.execute(format!("CREATE DATABASE {name}").as_str()).await.expect("a further database");
    let url = format!("{server}/{name}");
    (MySqlConnection::connect(&url).await.expect("it answers"), url)
}

/// All that migrations make: every table, the sequence row, and the table of migrations without its times.
async fn picture(sql: &mut MySqlConnection) -> Vec<String> {
    let tables = sql.fetch_all("SHOW TABLES").await.expect("the tables");
    let mut picture = Vec::new();
    for table in tables.iter().map(|row| row.get_unchecked::<String, _>(0)) {
        let row = sql.fetch_one(format!("SHOW CREATE TABLE {table}").as_str()).await.expect("its text");
        picture.push(row.get_unchecked::<String, _>(1));
    }
    for rows in [
        "SELECT CONCAT_WS(' ', id, position, unchanged) FROM event_sequence",
        "SELECT CONCAT_WS(' ', version, description, success, HEX(checksum)) FROM _sqlx_migrations ORDER BY version",
        "SELECT CONCAT_WS(' ', version, description, success, HEX(checksum)) FROM _domain_migrations ORDER BY version",
    ] {
        let rows = sql.fetch_all(rows).await.expect("the rows");
        picture.extend(rows.iter().map(|row| row.get_unchecked::<String, _>(0)));
    }
    picture
}

async fn migrate(url: &str) {
    let store = Store::connect(url, 1, Duration::from_secs(10)).await.expect("the database answers");
    store.with_migrations(&SHOP).migrate().await.expect("it is finished");
}

#[tokio::test]
async fn a_migration_that_ended_after_any_statement_is_finished() {
    let world = World::new().await;
    let wanted = picture(&mut world.sql().await).await;
    let own = world.database.rsplit('/').next().expect("a database");
    for (version, _, text) in MIGRATIONS {
        let all = statements(text);
        for done in 0..=all.len() {
            // The row that says that it has begun is lost when the process died before the first commit.
            for has_row in [true, false] {
                let (mut sql, url) = empty(&world, &format!("{version}_{done}_{has_row}")).await;
                for before in MIGRATIONS.iter().take_while(|(before, ..)| *before < version) {
                    for statement in statements(before.2) {
                        sql.execute(statement.as_str()).await.expect("an earlier migration");
                    }
                }
                if version > 1 || has_row {
                    let last = if has_row { version } else { version - 1 };
                    let rows = format!(
                        "CREATE TABLE _sqlx_migrations LIKE {own}._sqlx_migrations; INSERT INTO _sqlx_migrations \
                         SELECT version, description, installed_on, version < {version}, checksum, execution_time \
                         FROM {own}._sqlx_migrations WHERE version <= {last}"
                    );
                    sql.execute(rows.as_str()).await.expect("the table of migrations");
                }
                for statement in &all[..done] {
                    sql.execute(statement.as_str()).await.expect("a part of the migration");
                }
                migrate(&url).await;
                let case = format!("migration {version}, {done} statements, row: {has_row}");
                assert_eq!(picture(&mut sql).await, wanted, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_process_that_is_killed_after_each_statement_in_turn_leaves_what_the_next_one_finishes() {
    let world = World::new().await;
    let (mut sql, url) = empty(&world, "killed").await;
    let mut environment = world.environment();
    environment.insert("DATABASE_URL".into(), url);
    // The domain's come after the engine's.
    let [events, shop, others @ ..] = MIGRATIONS;
    for (version, _, text) in [events].into_iter().chain(others).chain([shop, SALES]) {
        for statement in 0..=statements(text).len() {
            environment.insert("LOCKKEEPER_TEST_ABORT".into(), format!("migrate:{version}.{statement}"));
            let (code, output) = lockkeeper(&["migrate"], &environment).await;
            assert_eq!(code, None, "it is killed at {version}.{statement}: {output}");
        }
    }
    environment.remove("LOCKKEEPER_TEST_ABORT");
    let (code, output) = lockkeeper(&["migrate"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("migration 3 (sales) is finished") && output.contains("is current"), "{output}");
    assert_eq!(picture(&mut sql).await, reference(&world).await);
}

/// What the command makes of an empty database.
async fn reference(world: &World) -> Vec<String> {
    let (mut sql, url) = empty(world, "reference").await;
    let mut environment = world.environment();
    environment.insert("DATABASE_URL".into(), url);
    let (code, output) = lockkeeper(&["migrate"], &environment).await;
    assert_eq!(code, Some(0), "{output}");
    picture(&mut sql).await
}

/// Migrates as versions of this program before did.
async fn as_before(sql: &mut MySqlConnection, last: i64) {
    #[derive(Debug)]
    struct Files(i64);
    impl sqlx::migrate::MigrationSource<'static> for Files {
        fn resolve(self) -> futures_util::future::BoxFuture<'static, Result<Vec<Migration>, sqlx::error::BoxDynError>> {
            let files = MIGRATIONS.into_iter().filter(move |(version, ..)| *version <= self.0);
            let migration = |(version, name, text): (i64, &'static str, &'static str)| {
                Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, Cow::Borrowed(text), false)
            };
            Box::pin(async move { Ok(files.map(migration).collect()) })
        }
    }
    let mut migrator = Migrator::new(Files(last)).await.expect("the migrations");
    migrator.set_locking(false);
    migrator.run_direct(sql).await.expect("they apply");
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_taken_as_it_is_and_the_earlier_one_takes_ours() {
    let world = World::new().await;
    let (mut sql, url) = empty(&world, "earlier").await;
    as_before(&mut sql, 4).await;
    let rows = "INSERT INTO items VALUES ('pen', 'Pen', 1, 0, 1, FALSE, 7, 'ON', 1, 1); \
                UPDATE event_sequence SET position = 41";
    sql.execute(rows).await.expect("what an earlier version wrote");
    let mut environment = world.environment();
    environment.insert("DATABASE_URL".into(), url);
    let (code, output) = lockkeeper(&["migrate"], &environment).await;
    let applied = ["5 (fence)", "6 (schemas)", "7 (subscriptions)", "8 (projections)", "9 (parked)", "3 (sales)"];
    let told: String = applied.iter().map(|migration| format!("migration {migration} is applied\n")).collect();
    let adopted = ["items", "orders", "order_items", "sales_per_day"];
    let text = "its table is its first build, and the name a view that shows it";
    let adopted: String = adopted.iter().map(|name| format!("{name}: {text}\n")).collect();
    assert_eq!((code, output), (Some(0), told + "the schema is current\n" + &adopted));
    let kept = "SELECT position + (SELECT stock FROM items) FROM event_sequence WHERE id = 1 AND batch = 0";
    let kept: i64 = sql.fetch_one(kept).await.expect("the rows").get_unchecked(0);
    assert_eq!(kept, 48);
    sql.execute("UPDATE event_sequence SET position = 0").await.expect("as in an empty one");
    assert_eq!(picture(&mut sql).await, reference(&world).await);
    as_before(&mut sql, 9).await;
    let (code, output) = lockkeeper(&["migrate"], &environment).await;
    assert_eq!((code, output.as_str()), (Some(0), "the schema is current\n"), "nothing is left to do");
}

#[tokio::test]
async fn what_stops_a_migration_is_named_with_its_statement_and_an_exit_code() {
    let world = World::new().await;
    let (mut sql, url) = empty(&world, "stopped").await;
    let mut environment: HashMap<_, _> = world.environment();
    environment.insert("DATABASE_URL".into(), url.clone());
    sql.execute("CREATE TABLE receipts (number INT)").await.expect("somebody else's table");
    let (code, output) = lockkeeper(&["migrate"], &environment).await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("migration 1 (events), statement 2 (CREATE TABLE receipts)"), "{output}");
    assert!(output.contains("none of ours") && output.contains("job_id"), "{output}");
    sql.execute("DROP TABLE receipts").await.expect("it is gone");

    let name = url.rsplit('/').next().expect("a database");
    let account = format!("'migrator_{}'@'127.0.0.1'", world.prefix);
    let grant = format!("CREATE USER {account} IDENTIFIED BY 'canary'; GRANT SELECT, INSERT ON {name}.* TO {account}");
    sql.execute(grant.as_str()).await.expect("an account that must not create tables");
    let server = url.split('@').nth(1).expect("user@host");
    environment.insert("DATABASE_URL".into(), format!("mysql://migrator_{}:canary@{server}", world.prefix));
    sql.execute("DROP TABLE events; DROP TABLE _sqlx_migrations; DROP TABLE _domain_migrations")
        .await
        .expect("an empty database");
    let (code, output) = lockkeeper(&["migrate"], &environment).await;
    assert!(code == Some(77) && output.contains("CREATE command denied"), "{code:?} {output}");

    let address = server.split('/').next().expect("an address").parse().expect("an address");
    let proxy = Proxy::start(address).await.expect("a proxy");
    environment.insert("DATABASE_URL".into(), url.replace(&address.to_string(), &proxy.address().to_string()));
    somebody_migrates(&mut sql).await;
    let away = async {
        waits_for_the_lock(&world, name).await;
        proxy.set(Fault::Reset);
    };
    let ((code, output), ()) = tokio::join!(lockkeeper(&["migrate"], &environment), away);
    assert!(code == Some(69) && output.contains("unavailable"), "{code:?} {output}");
}

/// Takes the lock of migrations. A process that has just ended may have it until the server hears of that.
async fn somebody_migrates(sql: &mut MySqlConnection) {
    let lock = "SELECT GET_LOCK(CONCAT('lockkeeper:', LEFT(DATABASE(), 48)), 60)";
    let is_had: Option<i64> = sqlx::query_scalar(lock).fetch_one(sql).await.expect("a lock");
    assert_eq!(is_had, Some(1), "somebody else is migrating");
}

/// Returns once a session in this database waits for the lock of migrations.
async fn waits_for_the_lock(world: &World, database: &str) {
    let waiting =
        format!("SELECT 1 FROM information_schema.processlist WHERE db = '{database}' AND state = 'User lock'");
    let mut sql = world.sql().await;
    eventually("it waits for the lock", async || sql.fetch_optional(waiting.as_str()).await.expect("sessions")).await;
}

#[tokio::test]
async fn a_signal_ends_a_start_that_waits_for_another_process_to_migrate() {
    let world = World::new().await;
    let (mut sql, url) = empty(&world, "locked").await;
    somebody_migrates(&mut sql).await;
    let mut daemon = world.start(&[("DATABASE_URL", &url)]);
    waits_for_the_lock(&world, url.rsplit('/').next().expect("a database")).await;
    let since = Instant::now();
    assert_eq!(daemon.terminate().await, Some(0));
    assert!(since.elapsed() < Duration::from_secs(1), "it took {:?}", since.elapsed());
}
