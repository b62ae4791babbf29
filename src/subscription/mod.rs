//! Subscriptions: readers of the log, each with a checkpoint that moves with what it writes.
//!
//! Of a fleet one daemon reads each subscription. That only saves work: a page is refused by its checkpoint when somebody else has
//! moved it ([`crate::page`]).

mod reader;
mod seat;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::batch::Engine;
use crate::domain::Domain;
use crate::lifecycle::{Lifecycle, Phase};
use crate::projection::{Source, read_from_log};
use crate::store::sql::Tables;
use crate::store::{Checkpoint, CheckpointState, subscription_of};
pub use settings::Settings;

use reader::Reader;

/// The longest time between two looks at all checkpoints.
const LOOK: Duration = Duration::from_secs(1);

/// All subscriptions of a daemon.
pub struct Subscriptions<D: Domain> {
    /// What they read with.
    pub engine: Arc<Engine<D>>,
    /// What they keep.
    pub sources: Vec<Source<D>>,
    /// Until when.
    pub lifecycle: Lifecycle,
    /// How.
    pub settings: Settings,
    /// Machine and process, for people.
    pub holder: String,
    /// Whether this daemon runs jobs: then it leaves free subscriptions to others for a while.
    pub is_owner: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// What is known of subscriptions, by name.
#[derive(Default)]
struct Known {
    /// Those that are read here when it is their turn.
    readers: Vec<String>,
    /// Those whose checkpoint is still to be made. One that somebody deletes is not made again: it would begin anew, beside the rows
    /// that are there.
    missing: Vec<String>,
}

impl<D: Domain> Subscriptions<D> {
    /// Reads until the daemon drains.
    pub async fn run(self) {
        let mut readers = JoinSet::new();
        let lifecycle = self.lifecycle.clone();
        let has_any = !self.sources.is_empty();
        tokio::select! {
            () = lifecycle.reached(Phase::Draining) => {}
            () = self.look(&mut readers), if has_any => {}
        }
        while readers.join_next().await.is_some() {}
    }

    /// Looks at all builds and checkpoints again and again, and starts whatever reads them. Never returns.
    async fn look(&self, readers: &mut JoinSet<()>) {
        let (sender, looks) = watch::channel(Vec::new());
        let mut known = Known::default();
        for (at, source) in self.sources.iter().enumerate().filter(|(_, one)| one.code().tables().is_empty()) {
            self.start(&mut known, readers, (at, source.code().name().to_owned(), Tables::Plain), &looks);
        }
        let pause = LOOK.min(self.settings.lease / 3);
        loop {
            for (at, build) in self.builds() {
                let name = subscription_of(self.sources[at].code().name(), build);
                self.start(&mut known, readers, (at, name, Tables::Build(build)), &looks);
            }
            let mut left = Vec::new();
            for name in std::mem::take(&mut known.missing) {
                if let Err(error) = self.engine.store.add_checkpoint(&name, "log").await {
                    tracing::warn!(subscription = name, %error, "there is no checkpoint yet; trying again");
                    left.push(name);
                }
            }
            known.missing = left;
            let parked = self.engine.store.parked_counts().await.ok();
            if let Ok(checkpoints) = self.engine.store.checkpoints().await {
                for name in known.readers.iter().filter(|name| !known.missing.contains(name)) {
                    if let Some(parked) = &parked {
                        let count = parked.iter().find(|(of, _)| of == name).map_or(0, |(_, count)| *count);
                        self.engine.metrics.parked(name, count);
                    }
                    match checkpoints.iter().find(|checkpoint| checkpoint.name == *name) {
                        Some(checkpoint) => show(&self.engine, checkpoint),
                        // Nobody is missed who would read it.
                        None => {
                            let dropped = CheckpointState::Dropped.as_str();
                            self.engine.metrics.subscription(name, 0, (0, 0.0));
                            self.engine.metrics.subscription_state(name, &states(), dropped);
                        }
                    }
                }
                sender.send_replace(checkpoints);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The builds that this program reads from the log.
    fn builds(&self) -> Vec<(usize, u16)> {
        let read = read_from_log(&self.sources, &self.engine.written.builds());
        read.unwrap_or_else(|unwritable| {
            if self.engine.incidents.is_news("builds") {
                tracing::error!(%unwritable, "nothing is read from the log");
            }
            Vec::new()
        })
    }

    /// Starts reading what is not read yet.
    fn start(
        &self,
        known: &mut Known,
        readers: &mut JoinSet<()>,
        (at, name, tables): (usize, String, Tables),
        looks: &watch::Receiver<Vec<Checkpoint>>,
    ) {
        if known.readers.contains(&name) {
            return;
        }
        self.engine.metrics.start_subscription(&name, &states());
        let reader = Reader {
            engine: self.engine.clone(),
            source: self.sources[at].clone(),
            name: name.clone(),
            tables,
            lifecycle: self.lifecycle.clone(),
            settings: self.settings,
            holder: self.holder.clone(),
            is_owner: self.is_owner.clone(),
            looks: looks.clone(),
        };
        readers.spawn(reader.run());
        // A build comes with its checkpoint.
        if tables == Tables::Plain {
            known.missing.push(name.clone());
        }
        known.readers.push(name);
    }
}

fn show<D: Domain>(engine: &Engine<D>, checkpoint: &Checkpoint) {
    let lag = (checkpoint.lag(), checkpoint.age_seconds.unwrap_or(0.0));
    engine.metrics.subscription(&checkpoint.name, checkpoint.position, lag);
    engine.metrics.subscription_state(&checkpoint.name, &states(), checkpoint.state.as_str());
}

fn states() -> [&'static str; 5] {
    CheckpointState::ALL.map(CheckpointState::as_str)
}
