//! How fast a read model is filled anew, held against the limit: the same pages read and the same rows written by hand.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use uuid::Uuid;

use crate::Ratio;
use crate::jobs::measure::Bench;
use crate::shop::{Shop, read_models};
use lockkeeper::page::{self, Fold};
use lockkeeper::rebuild::{Code, Fill, Models};
use lockkeeper::store::sql::{Sql, Tables};
use lockkeeper::store::{NewBuild, Store};

/// States that are remembered, in bytes.
const MEMORY: usize = 512 << 20;

/// What a filling must reach of the limit.
const SHARE: f64 = 0.5;

/// The events of a page by hand.
const PAGE: u32 = 10_000;

/// A read model filled anew, and by hand.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Filled {
    events: u64,
    events_per_second: f64,
    by_hand_per_second: f64,
}

impl Bench {
    /// Fills `orders` and `order_items` of the log that is there, once as an operator has it filled and once by hand.
    pub async fn fill(&self) -> anyhow::Result<Filled> {
        let store = self.site.store().await?;
        let (states, log) = (read_models::all(), read_models::of_log());
        let models: Models<'_, Shop> = Models { states: &states, log: &log };
        let code = models.newest().into_iter().find(|code| code.name() == "orders").context("the shop has orders")?;
        let events = store.sequence().await?;
        let statements = statements(&store, code).await?;
        let by_hand = by_hand(&store, code, &statements).await?;
        let filled = fill(&store, code, 90).await?;
        store.close().await;
        let rate = |time: Duration| events as f64 / time.as_secs_f64();
        Ok(Filled { events, events_per_second: rate(filled), by_hand_per_second: rate(by_hand) })
    }
}

/// A new build with empty tables, and the token that it is filled by.
async fn begin(store: &Store, code: Code<'_, Shop>, build: u16) -> anyhow::Result<Uuid> {
    let table = code.tables().first().context("it has a table")?;
    let name = Tables::Build(build).name(table.name);
    store.rows(format!("DROP TABLE IF EXISTS {name}; CREATE TABLE {name} LIKE {}_1", table.name), true).await?;
    let new: NewBuild<'_> = code.build(build);
    store.add_build(&new).await?;
    let name = lockkeeper::store::subscription_of(new.name, build);
    let checkpoints = store.checkpoints().await?;
    let seen = checkpoints.iter().find(|one| one.name == name).context("it has a checkpoint")?;
    let token = Uuid::new_v4();
    ensure!(store.take_checkpoint(seen, token, "bench").await?, "the build is ours");
    Ok(token)
}

async fn fill(store: &Store, code: Code<'_, Shop>, build: u16) -> anyhow::Result<Duration> {
    let token = begin(store, code, build).await?;
    let max_packet = store.server().await?.max_packet;
    let began = Instant::now();
    let mut fill = Fill::new((store, max_packet), (code, build), (token, 0), (MEMORY, false));
    fill.until(0, |_| {}).await?;
    Ok(began.elapsed())
}

/// What is written for each page, without any time counted.
async fn statements(store: &Store, code: Code<'_, Shop>) -> anyhow::Result<Vec<(u64, String)>> {
    let Code::States(projection) = code else { anyhow::bail!("it is written with the events") };
    let (mut fold, mut at, mut all) = (Fold::<Shop>::new(MEMORY), 0, Vec::new());
    while let Some(page) = page::read(store, code.only(), at, PAGE).await? {
        let mut rows = Sql::new();
        rows.of(Tables::Build(91));
        let folded = fold.page(store, &page.events).await?;
        folded.write(projection, &mut rows)?;
        fold.keep(folded);
        at = page.last.0;
        all.push((at, rows.into_string()));
    }
    Ok(all)
}

/// The same reading and the same writing, with nothing in between.
async fn by_hand(store: &Store, code: Code<'_, Shop>, statements: &[(u64, String)]) -> anyhow::Result<Duration> {
    begin(store, code, 91).await?;
    let (began, mut at) = (Instant::now(), 0);
    for (next, text) in statements {
        let read = page::read(store, code.only(), at, PAGE);
        let written = store.rows(format!("START TRANSACTION; {text} COMMIT"), true);
        let (read, written) = tokio::join!(read, written);
        ensure!(read?.is_some_and(|page| page.last.0 == *next), "the log has stayed as it was");
        written?;
        at = *next;
    }
    Ok(began.elapsed())
}

/// What filling must reach.
pub fn bar(all: &[Filled]) -> Ratio {
    let pairs = all.iter().map(|one| (one.events_per_second, one.by_hand_per_second));
    Ratio::of("log,rebuild/by-hand", pairs, SHARE)
}
