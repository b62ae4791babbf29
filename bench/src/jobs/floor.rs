//! What a job takes at least: one lock round trip to the nodes, then one commit of one job's rows, and nothing else.
//!
//! At the same rate as the contenders of `latency`, by the daemon's own lock library and its own store. One follows the
//! other, each timed from its own start, so that no queue is part of it. Beside that each is timed from when it was due, as the
//! contenders' jobs are: a halt of the machine counts once in the first, and in the second for all that were due meanwhile.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use foldhash::HashMap;
use serde_json::json;
use tokio::time::sleep;

use super::backlog::{Job, Scenario};
use super::contenders::{Figures, Who};
use super::cpu::usage::Processes;
use super::latency::{Latency, Timetable};
use super::measure::{Bench, Mark, Measured, Pace};
use super::site::TICK;
use crate::shop::{Shop, State};
use lockkeeper::domain::{AggregateId, Domain, States};
use lockkeeper::job::{Fingerprint, Outcome};
use lockkeeper::lock::{KeyResult, Redlock, Settings};
use lockkeeper::projection::{Change, Projection};
use lockkeeper::store::{AppendCondition, EventToAppend, Receipt, Store, Transaction};

/// The daemon's default.
const TTL: Duration = Duration::from_secs(2);

/// How long the nodes may take to be there.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// The aggregates as they are, and the read models that follow them.
struct Shelf {
    states: HashMap<AggregateId, State>,
    versions: HashMap<AggregateId, u64>,
    projections: Vec<Box<dyn Projection<Shop>>>,
}

impl Shelf {
    /// After these jobs.
    fn after(jobs: &[Job]) -> anyhow::Result<Shelf> {
        let mut shelf = Shelf {
            states: HashMap::default(),
            versions: HashMap::default(),
            projections: crate::shop::read_models::all(),
        };
        jobs.iter().try_for_each(|job| shelf.run(job).map(drop))?;
        Ok(shelf)
    }

    /// What the job locks, and what it writes.
    fn run(&mut self, job: &Job) -> anyhow::Result<(String, Transaction)> {
        let command = Shop::command(job.job_type, &job.key, 1, &job.data)?;
        let new = Shop::decide(&command, &States::new(&self.states));
        let new = new.ok().and_then(|mut events| events.pop()).context("a job of one event")?;
        let (state, version) = (
            self.states.entry(new.aggregate.clone()).or_default(),
            self.versions.entry(new.aggregate.clone()).or_default(),
        );
        Shop::evolve(state, &new.event);
        *version += 1;
        let mut transaction = Transaction::default();
        let events = [new.event];
        let change = Change { aggregate: &new.aggregate, version: *version, state, events: &events };
        for projection in &self.projections {
            projection.write(std::slice::from_ref(&change), &mut transaction.projections);
        }
        transaction.receipts.push(Receipt {
            job: job.id,
            outcome: Outcome::applied(Some((0, 0))),
            fingerprint: Fingerprint(job.id.0.into_bytes()),
        });
        transaction.events.push(EventToAppend {
            aggregate: new.aggregate.clone(),
            version: *version,
            job: job.id,
            index: 0,
            event: Shop::encode(&events[0]),
            metadata: json!({ "job": job.id.to_string() }).to_string(),
        });
        Ok((format!("lock:{}:{}", new.aggregate.kind, new.aggregate.id), transaction))
    }
}

impl Bench {
    /// Measures it at `rate` per second.
    pub async fn floor(&mut self, rate: u32, pace: Pace) -> anyhow::Result<Measured> {
        self.site.renew(&[]).await?;
        let settings = Settings::new(TTL);
        let redlock = Redlock::start(self.site.lock_nodes()?, settings, Arc::new(|_| ()))?;
        let started = Instant::now();
        while !redlock.nodes().iter().all(|node| node.is_up()) {
            ensure!(started.elapsed() < UP_WITHIN, "the lock nodes are not up");
            sleep(TICK).await;
        }
        let store = self.site.store().await?;
        let mut shelf = Shelf::after(&self.site.set_up)?;
        let max_packet = store.server().await?.max_packet;
        let processes = Processes::of(&self.site.servers, None);
        let table = Timetable::new(Duration::ZERO, rate, pace)?;
        let jobs = self.backlog(Scenario::Latency).first(table.jobs()).to_vec();
        let [begins, ends] = table.window();
        let (mut times, mut from_due, mut first, mut done) = (Vec::new(), Vec::new(), None, 0);
        for (place, job) in jobs.iter().enumerate().take_while(|_| Instant::now() < ends) {
            let due = table.due(place);
            // A thread keeps the time, as for the contenders: the runtime's own clock goes by the millisecond.
            tokio::task::spawn_blocking(move || thread::sleep(due.saturating_duration_since(Instant::now()))).await?;
            let counts = Instant::now() >= begins;
            if counts && first.is_none() {
                first = Some(Mark::now(&store, &processes).await?);
            }
            let (key, transaction) = shelf.run(job)?;
            let time = once(&redlock, &store, key, transaction, max_packet).await?;
            done += 1;
            if counts {
                times.push(time.as_secs_f64() * 1e3);
                from_due.push(due.elapsed().as_secs_f64() * 1e3);
            }
        }
        let last = Mark::now(&store, &processes).await?;
        redlock.settle(UP_WITHIN).await;
        let figures = Figures { jobs: Some(done), ..Figures::default() };
        self.site.verify(&store, Who::Floor, &jobs, &figures).await?;
        store.close().await;
        let measured = last.since(first.context("no job counts")?, Scenario::Latency);
        Ok(Measured {
            latency: Latency::of(times, 0, 0.0),
            from_due: Latency::of(from_due, 0, 0.0),
            figures,
            ..measured
        })
    }
}

/// One round trip and one commit.
async fn once(
    redlock: &Redlock,
    store: &Store,
    key: String,
    transaction: Transaction,
    max_packet: u64,
) -> anyhow::Result<Duration> {
    let packet = transaction.packet(max_packet)?;
    let connection = store.connection().await?;
    let started = Instant::now();
    let acquisition = redlock.acquire(&[key]).await;
    ensure!(acquisition.results.iter().all(|result| *result == KeyResult::Granted), "a free lock is refused");
    connection.commit(&packet, &AppendCondition::default(), None, |_| {}).await?;
    let time = started.elapsed();
    redlock.release(acquisition.lease);
    Ok(time)
}
