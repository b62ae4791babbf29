//! Subscriptions: readers of the log, each with a checkpoint that moves with what it writes.
//!
//! Of a fleet one daemon reads each subscription. That only saves work: a page is refused by its checkpoint when somebody else has
//! moved it ([`crate::page`]).

mod reader;
mod seat;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::batch::Engine;
use crate::domain::Domain;
use crate::lifecycle::{Lifecycle, Phase};
use crate::projection::LogProjection;
use crate::store::{Checkpoint, CheckpointState};
pub use reader::Settings;

use reader::Reader;

/// The longest time between two looks at all checkpoints.
const LOOK: Duration = Duration::from_secs(1);

/// All subscriptions of a daemon.
pub struct Subscriptions<D: Domain> {
    /// What they read with.
    pub engine: Arc<Engine<D>>,
    /// What they keep.
    pub projections: Vec<Box<dyn LogProjection<D>>>,
    /// Until when.
    pub lifecycle: Lifecycle,
    /// How.
    pub settings: Settings,
    /// Machine and process, for people.
    pub holder: String,
    /// Whether this daemon runs jobs: then it leaves free subscriptions to others for a while.
    pub is_owner: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl<D: Domain> Subscriptions<D> {
    /// Reads until the daemon drains.
    pub async fn run(self) {
        let names: Vec<&'static str> = self.projections.iter().map(|projection| projection.name()).collect();
        self.engine.metrics.start_subscriptions(&names, &states());
        let (sender, looks) = watch::channel(Vec::new());
        let mut readers = JoinSet::new();
        for projection in self.projections {
            let reader = Reader {
                engine: self.engine.clone(),
                projection,
                lifecycle: self.lifecycle.clone(),
                settings: self.settings,
                holder: self.holder.clone(),
                is_owner: self.is_owner.clone(),
                looks: looks.clone(),
            };
            readers.spawn(reader.run());
        }
        let looking = look(self.engine.clone(), &names, &sender, LOOK.min(self.settings.lease / 3));
        tokio::select! {
            () = self.lifecycle.reached(Phase::Draining) => {}
            () = looking, if !names.is_empty() => {}
        }
        while readers.join_next().await.is_some() {}
    }
}

/// Looks at all checkpoints again and again, and makes those that are missing. Never returns.
async fn look<D: Domain>(
    engine: Arc<Engine<D>>,
    names: &[&'static str],
    sender: &watch::Sender<Vec<Checkpoint>>,
    pause: Duration,
) {
    // One that somebody deletes is not made again: it would begin anew, beside the rows that are there.
    let mut missing: Vec<&'static str> = names.to_vec();
    loop {
        let mut left = Vec::new();
        for name in missing {
            if let Err(error) = engine.store.add_checkpoint(name, "log").await {
                tracing::warn!(subscription = name, %error, "there is no checkpoint yet; trying again");
                left.push(name);
            }
        }
        missing = left;
        if let Ok(checkpoints) = engine.store.checkpoints().await {
            for name in names.iter().filter(|name| !missing.contains(name)) {
                match checkpoints.iter().find(|checkpoint| checkpoint.name == *name) {
                    Some(checkpoint) => show(&engine, checkpoint),
                    // Nobody is missed who would read it.
                    None => engine.metrics.subscription_state(name, &states(), CheckpointState::Dropped.as_str()),
                }
            }
            sender.send_replace(checkpoints);
        }
        tokio::time::sleep(pause).await;
    }
}

fn show<D: Domain>(engine: &Engine<D>, checkpoint: &Checkpoint) {
    let lag = (checkpoint.lag(), checkpoint.age_seconds.unwrap_or(0.0));
    engine.metrics.subscription(&checkpoint.name, checkpoint.position, lag);
    engine.metrics.subscription_state(&checkpoint.name, &states(), checkpoint.state.as_str());
}

fn states() -> [&'static str; 4] {
    CheckpointState::ALL.map(CheckpointState::as_str)
}
