//! A job's transaction.

use std::collections::HashMap;

use sqlx::mysql::{MySql, MySqlDatabaseError, MySqlPool};
use sqlx::{QueryBuilder, Transaction};

use crate::shop::{Command, Done, Item, Job, SELECT_ITEMS, decide};

/// Run once on every connection.
pub const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Errors of a transaction that met another one: a row that is there already, a wait that took too long, a deadlock.
const MET_ANOTHER: [u16; 3] = [1062, 1205, 1213];

/// Why a job was not done.
#[derive(Debug)]
pub enum Failure {
    /// It is to be done again from the beginning.
    Again,
    Other(anyhow::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        let number = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
            .map(MySqlDatabaseError::number);
        if number.is_some_and(|number| MET_ANOTHER.contains(&number)) {
            Failure::Again
        } else {
            Failure::Other(error.into())
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Other(error)
    }
}

/// Does a job that was not done before: the number of its events. The locks of everything it is about are held.
pub async fn apply(pool: &MySqlPool, job: &Job<'_>, command: &Command) -> Result<u64, Failure> {
    let mut transaction = pool.begin().await?;
    let receipt = sqlx::query_scalar::<_, String>("SELECT outcome FROM receipts WHERE job_id = ?");
    let receipt = receipt.bind(&job.id.as_bytes()[..]).fetch_optional(&mut *transaction).await?;
    if receipt.is_some() {
        transaction.rollback().await?;
        return Ok(0);
    }
    let mut items = load(&mut transaction, command).await?;
    let done = decide(job.id, command, &mut items)?;
    write_models(&mut transaction, &items, &done).await?;
    let events = done.events.len() as u64;
    // Whoever holds this row holds up all others, so it comes as late as can be.
    let last = sqlx::query("UPDATE event_sequence SET position = LAST_INSERT_ID(position + ?) WHERE id = 1")
        .bind(events)
        .execute(&mut *transaction)
        .await?
        .last_insert_id();
    write_log(&mut transaction, job, &done, last - events).await?;
    transaction.commit().await?;
    Ok(events)
}

/// The items that a job is about.
async fn load(transaction: &mut Transaction<'_, MySql>, command: &Command) -> Result<HashMap<String, Item>, Failure> {
    let ids: Vec<&str> = match command {
        Command::Restock { item, .. } => vec![item],
        Command::Place { lines, .. } => lines.iter().map(|line| line.item_id.as_str()).collect(),
    };
    let mut select = QueryBuilder::<MySql>::new(SELECT_ITEMS);
    select.push(" WHERE item_id IN (");
    let mut list = select.separated(",");
    for id in ids {
        list.push_bind(id.as_bytes());
    }
    select.push(")");
    let rows = select.build().fetch_all(&mut **transaction).await?;
    let items: anyhow::Result<_> = rows.iter().map(|row| Item::of(row).map(|item| (item.id.clone(), item))).collect();
    Ok(items?)
}

async fn write_models(
    transaction: &mut Transaction<'_, MySql>,
    items: &HashMap<String, Item>,
    done: &Done,
) -> Result<(), Failure> {
    let mut update = QueryBuilder::<MySql>::new("UPDATE items SET stock = CASE item_id");
    for item in items.values() {
        update.push(" WHEN ").push_bind(item.id.as_bytes()).push(" THEN ").push_bind(item.stock);
    }
    update.push(" END, version = CASE item_id");
    for item in items.values() {
        update.push(" WHEN ").push_bind(item.id.as_bytes()).push(" THEN ").push_bind(item.version);
    }
    update.push(" END WHERE item_id IN (");
    let mut list = update.separated(",");
    for item in items.values() {
        list.push_bind(item.id.as_bytes());
    }
    update.push(")");
    update.build().execute(&mut **transaction).await?;
    let Some(order) = &done.order else { return Ok(()) };
    sqlx::query("INSERT INTO orders (order_id, member_id, total_price, status, version) VALUES (?, ?, ?, 'PLACED', 1)")
        .bind(order.id.as_bytes())
        .bind(order.member_id)
        .bind(order.total_price.to_string())
        .execute(&mut **transaction)
        .await?;
    let mut insert =
        QueryBuilder::<MySql>::new("INSERT INTO order_items (order_id, item_id, price, quantity, is_tax_free) ");
    insert.push_values(&order.lines, |mut row, line| {
        row.push_bind(order.id.as_bytes()).push_bind(line.item_id.as_bytes());
        row.push_bind(line.price.to_string()).push_bind(line.quantity).push_bind(line.is_tax_free);
    });
    insert.build().execute(&mut **transaction).await?;
    Ok(())
}

/// Writes the receipt, and the events from the position after `base` on.
async fn write_log(
    transaction: &mut Transaction<'_, MySql>,
    job: &Job<'_>,
    done: &Done,
    base: u64,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO receipts (job_id, outcome, first_position, last_position, fingerprint, recorded_at) \
         VALUES (?, 'applied', ?, ?, ?, UTC_TIMESTAMP(6))",
    )
    .bind(&job.id.as_bytes()[..])
    .bind(base + 1)
    .bind(base + done.events.len() as u64)
    .bind(&job.fingerprint()[..])
    .execute(&mut **transaction)
    .await?;
    let mut insert = QueryBuilder::<MySql>::new(
        "INSERT INTO events (position, aggregate_type, aggregate_id, version, event_id, event_type, schema_version, \
         payload, metadata, recorded_at) ",
    );
    insert.push_values(done.events.iter().zip(base + 1..), |mut row, (event, position)| {
        row.push_bind(position).push_bind(event.aggregate_type).push_bind(event.aggregate_id.as_bytes());
        row.push_bind(event.version).push_bind(&event.event_id[..]).push_bind(event.event_type);
        row.push("1").push_bind(event.payload.as_bytes()).push_bind(event.metadata.as_bytes());
        row.push("UTC_TIMESTAMP(6)");
    });
    insert.build().execute(&mut **transaction).await?;
    Ok(())
}
