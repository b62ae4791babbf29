//! The limit: the rows that lockkeeper writes, in batches made by hand and ahead of time, without Redis, without locks and
//! without a look at what is there. Nobody who writes these rows into these tables can be faster than the database is here.
//!
//! One thread makes the batches, and one for each connection sends them, so that the database never waits for a batch to be
//! made. Batches take their turns: one is sent when the one before holds the sequence row, so versions and positions
//! follow each other, and the next batch is there while a commit waits for the disk.

mod form;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use anyhow::{Context, anyhow};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{Connection as _, Executor as _};

use self::form::{Batch, Form, Packets};
use self::wire::Connection;
use crate::shop::{Item, Job, SELECT_ITEMS, decide};
use crate::task::{Bench, Figures, Limit};

/// How many batches lie ready.
const AHEAD: usize = 64;

/// Runs as a contender.
pub async fn work() -> anyhow::Result<()> {
    let (mut bench, task): (Bench, Limit) = Bench::task()?;
    let options: MySqlConnectOptions = task.database.parse()?;
    let mut reader = MySqlConnection::connect_with(&options).await?;
    let (items, base) = (items(&mut reader).await?, base(&mut reader).await?);
    reader.close().await?;
    let mut connections = Vec::new();
    let mut form = None;
    for _ in 0..task.connections {
        let mut connection = Connection::open(&options)?;
        let this = Form::open(&mut connection, task.form.as_deref())?;
        form = Some(this);
        connections.push(connection);
    }
    let form = form.context("there must be a connection")?;

    let (full, ready) = sync_channel(AHEAD);
    let (announce, announced) = sync_channel(1);
    let maker = thread::spawn(move || {
        let mut made = 0;
        make(&task, items, base, |batch| {
            let packets = form.packets(batch)?;
            let sent = full.send(packets).is_ok();
            made += 1;
            if made == AHEAD / 2 {
                let _ = announce.try_send(());
            }
            Ok(sent)
        })
    });
    // Ready when there is plenty, or when everything is made.
    let _ = announced.recv();
    bench.ready()?;

    let started = Instant::now();
    let stopped = Arc::new(AtomicBool::new(false));
    let queue = Arc::new(Mutex::new(ready));
    let senders = connections.into_iter().map(|connection| {
        let (queue, stopped) = (Arc::clone(&queue), Arc::clone(&stopped));
        thread::spawn(move || send(connection, &queue, &stopped))
    });
    let senders: Vec<_> = senders.collect();
    bench.stop()?;
    stopped.store(true, Ordering::Relaxed);
    let mut figures = Figures::default();
    for sender in senders {
        let part = sender.join().map_err(|_| anyhow!("a sender panicked"))??;
        figures.jobs += part.jobs;
        figures.events += part.events;
        figures.ran_out |= part.ran_out;
    }
    figures.seconds = started.elapsed().as_secs_f64();
    // The maker ends when nobody takes its batches.
    drop(queue);
    maker.join().map_err(|_| anyhow!("the maker of batches panicked"))??;
    bench.done(&figures)
}

async fn items(connection: &mut MySqlConnection) -> anyhow::Result<HashMap<String, Item>> {
    let rows = connection.fetch_all(SELECT_ITEMS).await?;
    let items = rows.iter().map(|row| Item::of(row).map(|item| (item.id.clone(), item)));
    items.collect()
}

/// The position of the last event.
async fn base(connection: &mut MySqlConnection) -> anyhow::Result<u64> {
    Ok(sqlx::query_scalar("SELECT position FROM event_sequence WHERE id = 1").fetch_one(connection).await?)
}

/// Makes batches of the jobs, for as long as `take` wants them.
fn make(
    task: &Limit,
    mut items: HashMap<String, Item>,
    mut base: u64,
    mut take: impl FnMut(&Batch<'_>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let path = &task.jobs;
    let mut lines = BufReader::new(File::open(path).with_context(|| format!("{}", path.display()))?).lines();
    loop {
        let mut jobs = Vec::with_capacity(task.batch);
        for line in lines.by_ref().take(task.batch) {
            let line = line?;
            let job: Job<'_> = serde_json::from_str(&line).with_context(|| line.clone())?;
            let done = decide(job.id, &job.command()?, &mut items)?;
            jobs.push(form::JobRows { id: job.id.into_bytes(), fingerprint: job.fingerprint(), done });
        }
        let batch = Batch::of(jobs, &items, base);
        base += batch.events;
        if batch.events == 0 || !take(&batch)? {
            return Ok(());
        }
    }
}

/// Sends batches in turn until it is to stop or none are left.
fn send(mut connection: Connection, queue: &Mutex<Receiver<Packets>>, stopped: &AtomicBool) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    loop {
        // Whoever holds the queue has the turn.
        let turn = queue.lock().map_err(|_| anyhow!("another sender panicked"))?;
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let Ok(mut packets) = turn.recv() else {
            figures.ran_out = true;
            break;
        };
        connection.send_all(&mut packets.bytes)?;
        for _ in 0..packets.answers_until_sequence {
            connection.done()?;
        }
        drop(turn);
        for _ in packets.answers_until_sequence..packets.answers {
            connection.done()?;
        }
        figures.jobs += packets.jobs;
        figures.events += packets.events;
    }
    Ok(figures)
}
