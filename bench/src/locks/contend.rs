//! The contender's side of `locks`: acquire and release, over and over, in many tasks.
//!
//! The peer compiles this very file, so that nothing differs but the lock.

use std::io::{BufRead, Write, stdin, stdout};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// Cycles of every task before it is ready: connections are made, and the scripts are known to the nodes.
const WARM_UP: u32 = 20;

/// What to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Load {
    /// URLs of the lock nodes.
    pub nodes: Vec<String>,
    /// How many tasks work at the same time, each on keys of its own.
    pub tasks: usize,
    /// How many keys one call takes.
    pub keys: usize,
    pub ttl_ms: u64,
    /// How long a node may take, for who can be told.
    pub node_timeout_ms: u64,
    /// How long new cycles are begun.
    pub millis: u64,
}

/// What was done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Done {
    /// Granted and released.
    pub cycles: u64,
    /// Calls that were not granted, though nobody else wants the keys.
    pub refused: u64,
    /// From the start until the last task had ended its last cycle and every release was answered.
    pub seconds: f64,
    /// How long an acquire took.
    pub acquire_p50_us: u64,
    pub acquire_p99_us: u64,
}

/// A client of the lock nodes.
pub trait Locker: Clone + Send + Sync + 'static {
    /// Acquires the keys and releases them: how long the acquire took, or `None` when it was not granted.
    fn cycle(&self, keys: &[String]) -> impl Future<Output = Option<Duration>> + Send;

    /// Waits until the nodes that answer have answered every release.
    fn settle(&self) -> impl Future<Output = ()> + Send;
}

/// Gets ready, waits to be let go, works, and tells what was done, on the standard streams.
pub async fn contend<L: Locker>(connect: impl AsyncFnOnce(&Load) -> anyhow::Result<L>) -> anyhow::Result<()> {
    let mut lines = stdin().lock().lines();
    let mut line = || lines.next().context("the standard input has ended")?.context("the standard input fails");
    let load: Load = serde_json::from_str(&line()?).context("the task")?;
    let locker = connect(&load).await?;
    run(&locker, &load, |_, cycles| cycles < WARM_UP).await?;
    tell("ready")?;
    line()?;
    let end = Duration::from_millis(load.millis);
    let done = run(&locker, &load, move |started, _| started.elapsed() < end).await?;
    tell(&serde_json::to_string(&done)?)?;
    // The other side looks at what this process has cost, and then closes.
    let _ = line();
    Ok(())
}

async fn run<L: Locker>(
    locker: &L,
    load: &Load,
    go_on: impl Fn(Instant, u32) -> bool + Copy + Send + 'static,
) -> anyhow::Result<Done> {
    let started = Instant::now();
    let tasks = (0..load.tasks).map(|task| {
        let (locker, keys) = (locker.clone(), keys(task, load.keys));
        tokio::spawn(async move {
            let (mut acquires, mut refused, mut cycles) = (Vec::new(), 0, 0);
            while go_on(started, cycles) {
                match locker.cycle(&keys).await {
                    Some(acquire) => acquires.push(u64::try_from(acquire.as_micros()).unwrap_or(u64::MAX)),
                    None => refused += 1,
                }
                cycles += 1;
            }
            (acquires, refused)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let (mut acquires, mut refused) = (Vec::new(), 0);
    for task in tasks {
        let (more, unhappy) = task.await?;
        acquires.extend(more);
        refused += unhappy;
    }
    locker.settle().await;
    let seconds = started.elapsed().as_secs_f64();
    acquires.sort_unstable();
    let at = |share: f64| acquires.get((acquires.len() as f64 * share) as usize).copied().unwrap_or_default();
    let (acquire_p50_us, acquire_p99_us) = (at(0.5), at(0.99));
    Ok(Done { cycles: acquires.len() as u64, refused, seconds, acquire_p50_us, acquire_p99_us })
}

/// A task's own keys, spelled as the daemon spells them.
fn keys(task: usize, number: usize) -> Vec<String> {
    (0..number).map(|key| format!("lock:item:{task}-{key}")).collect()
}

/// Tells the process that started this one, which reads line by line.
fn tell(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(stdout().lock(), "{line}")?)
}
