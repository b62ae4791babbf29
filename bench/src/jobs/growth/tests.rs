use clap::Parser;
use foldhash::HashMap;
use indicatif::ProgressBar;
use uuid::Uuid;

use super::*;
use crate::jobs::backlog::{Job, STOCK};
use crate::shop::audit;
use crate::shop::{Shop, State};
use lockkeeper::domain::{AggregateId, Domain, States};
use lockkeeper::store::{Store, column};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    growth: Growth,
}

fn arguments(arguments: &[&str]) -> Growth {
    Line::parse_from(["growth"].iter().chain(arguments)).growth.settled()
}

#[test]
fn the_full_size_is_what_is_promised_and_a_first_look_takes_a_twentieth() {
    let Growth { rounds, events, aggregates, backlog, .. } = arguments(&[]);
    assert_eq!((rounds, events, aggregates, backlog), (3, 10_000_000, 1_000_000, 1_000_000));
    let Growth { rounds, events, aggregates, backlog, .. } = arguments(&["--quick"]);
    assert_eq!((rounds, events, aggregates, backlog), (1, 500_000, 50_000, 50_000));
    assert!(Line::try_parse_from(["growth", "--quick", "--events", "5"]).is_err());
}

#[test]
fn tables_that_the_items_do_not_fit_into_are_refused_by_name() {
    let told = |line: &[&str]| arguments(line).check().map_err(|error| error.to_string());
    assert!(told(&["--aggregates", "1000"]).unwrap_err().contains("--aggregates"));
    assert!(told(&["--aggregates", "2000", "--events", "3999"]).unwrap_err().contains("--events"));
    assert_eq!(told(&["--aggregates", "2000", "--events", "4000"]), Ok(()));
}

/// The events that the domain itself writes for an item: type, schema version and payload of each.
fn history(number: u64, count: usize) -> Vec<(String, u16, Vec<u8>)> {
    let mut states: HashMap<AggregateId, State> = HashMap::default();
    let register = serde_json::json!({
        "name": format!("Item {number}"), "supply_price": format!("{}.{:03}", 1 + number % 9, number * 37 % 1000),
        "vat": "0.100", "is_tax_free": number.is_multiple_of(5), "stock": STOCK, "member_id": 1
    });
    let jobs = [("item.register", register.to_string()), ("item.allow_sale", "{}".to_owned())];
    let restock = std::iter::repeat(("item.restock", r#"{"quantity":1}"#.to_owned()));
    let run = |(kind, data): (&str, String)| {
        let command = Shop::command(kind, &format!("item-{number}"), 1, &data).unwrap();
        let new = Shop::decide(&command, &States::new(&states)).unwrap().remove(0);
        Shop::evolve(states.entry(new.aggregate).or_default(), &new.event);
        let event = Shop::encode(&new.event);
        (event.event_type.to_owned(), event.schema_version, event.payload.into_bytes())
    };
    jobs.into_iter().chain(restock).take(count).map(run).collect()
}

async fn text(admin: &Store, sql: &str) -> String {
    column(&admin.rows(sql.to_owned(), false).await.unwrap()[0], 0).unwrap()
}

/// Writes what a daemon would for a job, and takes its entry out of the stream.
async fn work(site: &Site, admin: &Store, ground: &Ground, (job, place): (&Job, u64), version: u64) {
    let (database, position, id) = (ground.database, ground.events + place, job.id.0.simple());
    let sql = format!(
        "INSERT INTO {database}.receipts VALUES (X'{id}', 'applied', NULL, {position}, {position}, X'{id}', \
         UTC_TIMESTAMP(6)); \
         INSERT INTO {database}.events VALUES ({position}, 'item', '{key}', {version}, X'{id}', 'item.restocked', 1, \
         '{data}', '{{\"job\":\"{job}\"}}', UTC_TIMESTAMP(6)); \
         UPDATE {database}.items SET stock = stock + 1, version = {version} WHERE item_id = '{key}'; \
         UPDATE {database}.event_sequence SET position = {position}",
        key = job.key,
        data = job.data,
        job = job.id,
    );
    admin.rows(sql, false).await.unwrap();
    let mut broker = site.broker().await.unwrap();
    let first: Vec<(String, HashMap<String, String>)> =
        redis::cmd("XRANGE").arg("jobs").arg("-").arg("+").arg("COUNT").arg(1).query_async(&mut broker).await.unwrap();
    redis::cmd("XDEL").arg("jobs").arg(&first[0].0).exec_async(&mut broker).await.unwrap();
}

/// The rows made in bulk are those that the domain and the store write, a whole audit says so, what a run leaves is looked
/// at in both directions, and it is taken out again.
#[tokio::test(flavor = "multi_thread")]
async fn a_filled_database_is_one_that_a_daemon_could_have_written_and_a_run_leaves_no_trace() {
    let site = Site::bare(None, Vec::new(), 1).await.unwrap();
    let admin = Ground::admin(&site).await.unwrap();
    let ground = Ground::new("grown", 4_700, 1_500);
    super::fill::count(&admin).await.unwrap();
    let progress = ProgressBar::hidden();
    ground.fill(&site, &admin, &progress).await.unwrap();
    assert_eq!(progress.position(), 6_200);
    site.settings().await.expect("the server is durable again");

    let store = ground.store(&site).await.unwrap();
    let whole = audit(&store, Some(&(1..=4_700).map(|position| ground.job(position)).collect())).await.unwrap();
    assert!(whole.passed(), "{whole}");
    for (number, count) in [(0, 4), (7, 4), (35, 4), (199, 4), (200, 3), (1_499, 3)] {
        let recorded = store.history("item", &format!("item-{number}")).await.unwrap();
        let events =
            recorded.iter().map(|event| (event.event_type.clone(), event.schema_version, event.payload.clone()));
        assert_eq!(events.collect::<Vec<_>>(), history(number, count), "item-{number}");
        let positions: Vec<u64> = recorded.iter().map(|event| event.position).collect();
        assert_eq!(positions, ground.positions(number).collect::<Vec<_>>());
    }
    let id = text(&admin, "SELECT LOWER(HEX(event_id)) FROM grown.events WHERE position = 1508").await;
    assert_eq!(id, Uuid::new_v5(&ground.job(1_508).0, &0_u32.to_be_bytes()).simple().to_string());
    // The tables are those of the migrations, with every index in its place.
    admin.rows("CREATE DATABASE lockkeeper2", false).await.unwrap();
    let other = Store::connect(&site.servers.database.url("lockkeeper2"), 1, Duration::from_secs(60)).await.unwrap();
    let other = other.with_migrations(&crate::shop::MIGRATIONS);
    other.migrate().await.unwrap();
    other.close().await;
    let shape = async |database: &str| {
        let rows = admin.rows(format!("SHOW CREATE TABLE {database}.events"), false).await.unwrap();
        column::<String>(&rows[0], 1).unwrap()
    };
    assert_eq!(shape("grown").await, shape("lockkeeper2").await);

    let sums = "SELECT CONCAT_WS(' ', (SELECT SUM(CRC32(CONCAT(position, payload, metadata))) FROM grown.events), \
                (SELECT SUM(CRC32(CONCAT(item_id, stock, version))) FROM grown.items), \
                (SELECT SUM(CRC32(job_id)) FROM grown.receipts), (SELECT position FROM grown.event_sequence))";
    let before = text(&admin, sums).await;
    let jobs = [Job::restock(1_499), Job::restock(3)];
    site.refill(&jobs).await.unwrap();
    assert_eq!(ground.verify(&site, &admin, &jobs).await.unwrap(), 0);
    work(&site, &admin, &ground, (&jobs[0], 1), 4).await;
    assert_eq!(ground.verify(&site, &admin, &jobs).await.unwrap(), 1);
    work(&site, &admin, &ground, (&jobs[1], 2), 5).await;
    assert_eq!(ground.verify(&site, &admin, &jobs).await.unwrap(), 2);
    assert_ne!(text(&admin, sums).await, before);

    let wrong = async |damage: &str, mend: &str| {
        admin.rows(damage.to_owned(), false).await.unwrap();
        let told = ground.verify(&site, &admin, &jobs).await.unwrap_err().to_string();
        admin.rows(mend.to_owned(), false).await.unwrap();
        told
    };
    let read_model = "UPDATE grown.items SET stock = stock";
    let told = wrong(
        &format!("{read_model} + 1 WHERE item_id = 'item-3'"),
        &format!("{read_model} - 1 WHERE item_id = 'item-3'"),
    )
    .await;
    assert!(told.contains("items item-3: stock"), "{told}");
    let receipt = "UPDATE grown.receipts SET last_position =";
    let told =
        wrong(&format!("{receipt} 9 WHERE first_position = 4"), &format!("{receipt} 4 WHERE first_position = 4")).await;
    assert!(told.contains("has no receipt"), "{told}");
    let sequence = "UPDATE grown.event_sequence SET position =";
    let told = wrong(&format!("{sequence} 4703"), &format!("{sequence} 4702")).await;
    assert!(told.contains("sequence: 4703") && told.contains("2 jobs are done"), "{told}");
    let told = ground.verify(&site, &admin, &[jobs[0].clone(), jobs[1].clone(), Job::restock(5)]).await.unwrap_err();
    assert!(told.to_string().contains("3 jobs are done"), "{told}");

    ground.undo(&admin).await.unwrap();
    assert_eq!(text(&admin, sums).await, before);
    store.close().await;
    admin.close().await;
    site.stop().await.unwrap();
}
