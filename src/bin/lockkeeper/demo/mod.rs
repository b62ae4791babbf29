//! `demo`: limited stock is sold to many buyers on throwaway servers; then the database is audited.

mod buyers;
mod chaos;
mod fleet;
mod jobs;
mod progress;
mod rebuild;
mod tally;
mod verdict;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamPendingReply;
use tokio::task::JoinSet;
use uuid::Uuid;

use self::buyers::{Counter, GROUP, STREAM, WINDOW};
use self::chaos::Chaos;
use self::fleet::Fleet;
use self::jobs::{Offer, Shopper};
use self::progress::Progress;
use self::rebuild::Rebuild;
use self::tally::Tally;
use self::verdict::Verdict;
use crate::shop::audit;
use lockkeeper::audit::{JobId, Line, Store};
use lockkeeper::cli::Exit;
use lockkeeper::cli::output;
use throwaway::servers::{DATABASE, Options, Servers};

/// The run has failed when no job answers for so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often things that nobody announces are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// How many orders to place
    #[arg(long, default_value_t = 6000, value_name = "N")]
    orders: usize,
    /// How many items are on offer
    #[arg(long, default_value_t = 40, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    items: u32,
    /// How many pieces of each item there are
    #[arg(long, default_value_t = 50, value_name = "N")]
    stock: u32,
    /// How many producers push at the same time
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    producers: u32,
    /// How many daemons run [default: 1; 2 with --chaos]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    daemons: Option<u32>,
    /// Kill a lock node and, twice, a daemon on the way
    #[arg(long)]
    chaos: bool,
    /// Keep the data in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Repeats the orders of the run with this seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// Nothing moved for [`PATIENCE`], or a daemon ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stuck(String);

/// Runs the demo; 0 when every line of the verdict passes, 1 when not, 130 after Ctrl-C.
pub async fn demo(arguments: Demo) -> anyhow::Result<u8> {
    let finished = {
        let run = std::pin::pin!(run(&arguments));
        tokio::select! {
            result = run => Some(result),
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| None)?,
        }
    };
    match finished {
        None => {
            output::notice("interrupted; the servers are gone");
            Ok(crate::dev::INTERRUPTED)
        }
        Some(Err(error)) if error.is::<Stuck>() => {
            output::notice(error);
            Ok(Exit::NO)
        }
        Some(result) => result,
    }
}

async fn run(arguments: &Demo) -> anyhow::Result<u8> {
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    output::notice(format_args!("starting a broker, three lock nodes and a database (seed {seed})"));
    let servers = Servers::start(Options { keep: arguments.keep.clone(), ..Options::default() }).await?;
    let count = arguments.daemons.unwrap_or(if arguments.chaos { 2 } else { 1 });
    let fleet = Fleet::start(&servers, count as usize).await?;
    output::notice(format_args!("{count} {} ready", if count == 1 { "daemon is" } else { "daemons are" }));
    let mut sale = Sale::open(arguments, servers, fleet).await?;
    sale.prepare().await?;
    sale.sell(arguments, seed).await?;
    let verdict = sale.judge(arguments).await?;
    output::told(if arguments.json { verdict.json() } else { verdict.table() })?;
    let Sale { fleet, servers, .. } = sale;
    drop(fleet);
    servers.stop().await;
    Ok(if verdict.passed() { Exit::OK } else { Exit::NO })
}

/// What is in the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    entries: u64,
    pending: u64,
    dead_letters: u64,
}

impl Left {
    async fn now(broker: &mut MultiplexedConnection) -> anyhow::Result<Left> {
        let mut pipeline = redis::pipe();
        pipeline
            .cmd("XLEN")
            .arg(STREAM)
            .cmd("XPENDING")
            .arg(STREAM)
            .arg(GROUP)
            .cmd("XLEN")
            .arg(format!("{STREAM}:dead"));
        let (entries, pending, dead_letters): (u64, StreamPendingReply, u64) = pipeline.query_async(broker).await?;
        Ok(Left { entries, pending: pending.count() as u64, dead_letters })
    }
}

/// The sale while it goes on.
struct Sale {
    servers: Servers,
    fleet: Fleet,
    store: Store,
    broker: MultiplexedConnection,
    counter: Counter,
    offer: Offer,
    /// Jobs of earlier runs on the same data.
    earlier: HashSet<JobId>,
    /// The reader of replies and the producers; they end with this.
    tasks: JoinSet<anyhow::Result<()>>,
    /// Read models are filled anew meanwhile.
    rebuild: Rebuild,
}

impl Sale {
    /// Connects to the servers and waits for the end of what an earlier run left.
    async fn open(arguments: &Demo, servers: Servers, fleet: Fleet) -> anyhow::Result<Sale> {
        let store = Store::connect(&servers.database.url(DATABASE), 2, Duration::from_secs(30)).await?;
        let url = servers.broker.url();
        let broker = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
        let reply = format!("reply:demo:{}", Uuid::now_v7()).into();
        let counter = Counter { url, reply, tally: Arc::new(Tally::default()) };
        let offer = Offer { prefix: String::new(), items: arguments.items as usize, stock: arguments.stock };
        let (earlier, tasks) = (HashSet::new(), JoinSet::new());
        let rebuild = Rebuild::default();
        let mut sale = Sale { servers, fleet, store, broker, counter, offer, earlier, tasks, rebuild };
        sale.settled().await?;
        sale.look_back().await?;
        sale.tasks.spawn(sale.counter.clone().read_replies());
        Ok(sale)
    }

    /// Takes note of the jobs of earlier runs, and keeps clear of their items and orders.
    async fn look_back(&mut self) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = self.store.receipts_from(after, 2000).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            self.earlier.extend(page.into_iter().map(|(job, _)| job));
        }
        if !self.earlier.is_empty() {
            self.offer.prefix = format!("run{}-", self.earlier.len());
        }
        Ok(())
    }

    /// Registers the items and puts them on sale.
    async fn prepare(&mut self) -> anyhow::Result<()> {
        for jobs in [self.offer.registrations(), self.offer.sale_permits()] {
            self.counter.prepare(&jobs).await?;
            let goal = self.counter.tally.pushed().len();
            self.watch(goal, jobs.len(), None, None).await?;
        }
        let refused: Vec<_> = self.counter.tally.ends().into_keys().filter(|end| end.outcome != "applied").collect();
        if !refused.is_empty() {
            bail!("the items cannot be put on sale: {refused:?}");
        }
        let Offer { items, stock, .. } = &self.offer;
        output::notice(format_args!("{items} items with a stock of {stock} each are on sale"));
        Ok(())
    }

    /// Lets the producers push all of their jobs, and waits until every one has answered.
    async fn sell(&mut self, arguments: &Demo, seed: u64) -> anyhow::Result<()> {
        let producers = arguments.producers as usize;
        let share =
            |number: usize| (arguments.orders * (number + 1)) / producers - (arguments.orders * number) / producers;
        let shoppers: Vec<Shopper> =
            (0..producers).map(|number| Shopper::new(&self.offer, number + 1, share(number), seed)).collect();
        let total: usize = shoppers.iter().map(Shopper::remaining).sum();
        let goal = self.counter.tally.pushed().len() + total;
        self.counter.tally.begin();
        for shopper in shoppers {
            self.tasks.spawn(self.counter.clone().buy(shopper));
        }
        let chaos = arguments.chaos.then(Chaos::default);
        self.watch(goal, total, Some(Progress::new(total)), chaos).await
    }

    /// Waits until `goal` jobs have answered, of which `total` are watched here, and the chaos is over.
    async fn watch(
        &mut self,
        goal: usize,
        total: usize,
        mut progress: Option<Progress>,
        mut chaos: Option<Chaos>,
    ) -> anyhow::Result<()> {
        let mut answered = self.counter.tally.answered();
        let mut last_change = Instant::now();
        loop {
            let done = *answered.borrow_and_update();
            if let Some(progress) = &mut progress {
                progress.show((total + done).saturating_sub(goal));
            }
            let share = 1.0 - goal.saturating_sub(done) as f64 / total.max(1) as f64;
            if let Some(progress) = &progress {
                self.rebuild.step(share, &self.servers)?.iter().for_each(|text| progress.say(text));
            }
            if let Some(chaos) = &mut chaos {
                let told = chaos.step(share, &mut self.servers, &mut self.fleet).await?;
                told.iter().zip(&progress).for_each(|(text, progress)| progress.say(text));
            }
            if done >= goal && chaos.as_ref().is_none_or(Chaos::is_over) {
                return Ok(());
            }
            tokio::select! {
                changed = answered.changed() => {
                    changed?;
                    last_change = Instant::now();
                }
                Some(ended) = self.tasks.join_next() => ended??,
                () = tokio::time::sleep(TICK) => self.check_alive(last_change)?,
            }
        }
    }

    /// Fails when a daemon has ended by itself, or when nothing has moved for too long.
    fn check_alive(&mut self, last_change: Instant) -> Result<(), Stuck> {
        let obituaries = self.fleet.obituaries();
        if !obituaries.is_empty() {
            return Err(Stuck(obituaries.join("\n")));
        }
        if last_change.elapsed() < PATIENCE {
            return Ok(());
        }
        let open = self.counter.tally.open();
        let some: Vec<String> = open.iter().take(3).map(JobId::to_string).collect();
        let seconds = PATIENCE.as_secs();
        let mut text =
            format!("nothing moved for {seconds} s; {} jobs have no answer: {} …\n", open.len(), some.join(", "));
        text += &self.fleet.last_lines().join("\n");
        Err(Stuck(text))
    }

    /// Waits until the stream is empty: an entry may outlive its job's answer, as what is sent twice does.
    async fn settled(&mut self) -> anyhow::Result<Left> {
        let (mut before, mut last_change) = (None, Instant::now());
        loop {
            let left = Left::now(&mut self.broker).await?;
            if (left.entries, left.pending) == (0, 0) {
                return Ok(left);
            }
            if before.replace(left) != Some(left) {
                last_change = Instant::now();
            }
            self.check_alive(last_change)?;
            tokio::time::sleep(TICK).await;
        }
    }

    /// Waits until the read models of the log have all of it. A daemon that runs jobs begins to read a little later.
    async fn caught_up(&mut self) -> anyhow::Result<()> {
        let (mut before, mut last_change) = (None, Instant::now());
        loop {
            let checkpoints = self.store.checkpoints().await?;
            if !checkpoints.is_empty() && checkpoints.iter().all(|checkpoint| checkpoint.lag() == 0) {
                return Ok(());
            }
            let positions: Vec<u64> = checkpoints.iter().map(|checkpoint| checkpoint.position).collect();
            if before.as_ref() != Some(&positions) {
                (before, last_change) = (Some(positions), Instant::now());
            }
            self.check_alive(last_change)?;
            tokio::time::sleep(TICK).await;
        }
    }

    /// Ends the daemons and audits what they wrote.
    async fn judge(&mut self, arguments: &Demo) -> anyhow::Result<Verdict> {
        let tally = self.counter.tally.clone();
        let left = self.settled().await?;
        self.caught_up().await?;
        let rebuilt = self.rebuild.judge(&self.servers).await?;
        let drained = self.fleet.drain().await;
        let pushed: HashSet<JobId> = tally.pushed().union(&self.earlier).copied().collect();
        let audit = audit(&self.store, Some(&pushed)).await?;
        let mut lines: Vec<Line> = vec![verdict::answers(&tally), verdict::streams(&left)];
        lines.extend(audit.lines);
        lines.push(rebuilt);
        lines.push(verdict::drained(drained));
        Ok(Verdict::new(lines, tally.measures(), arguments.producers as usize, WINDOW))
    }
}
