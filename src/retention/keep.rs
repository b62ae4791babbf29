//! The daemon's own retention: one daemon of a fleet sweeps per interval, gently, until it drains.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::pace::{Pace, Stopped, What};
use super::sweep::{floor, letters, receipts, replies};
use crate::config::{self, Config};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::stream::Broker;

/// Between two steps. A step is a page of at most a thousand receipts, or of a hundred entries.
const PAUSE: Duration = Duration::from_millis(20);

/// The longest time between two questions whose turn it is.
const ASK: Duration = Duration::from_secs(60);

/// Sweeps once per interval as `config.retention` says, until the process drains; then it waits for its own end, so that no
/// drain waits for it. Of the daemons that read the same streams one has its turn, and should two have it, each deletes
/// what is still there.
pub async fn keep(config: Config, store: Store, broker: Broker, metrics: Arc<Metrics>, lifecycle: Lifecycle) {
    let config::Retention { interval, .. } = config.retention;
    while lifecycle.is_running() {
        // A broker that is away is told of by the intake; and it may be somebody else's turn.
        if let Ok(true) = broker.take_turn(interval).await {
            match sweep(&config, &store, &broker, &metrics, &lifecycle).await {
                Ok(()) => metrics.retention_done(unix_seconds()),
                Err(Stopped::Draining) => {}
                Err(error) => {
                    metrics.retention_failed();
                    tracing::warn!(%error, "retention has stopped before its end, and goes on at its next turn");
                }
            }
        }
        // Between half and all of it, so that a fleet that was started together does not ask together.
        let wait = interval.min(ASK).mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = lifecycle.reached(Phase::Draining) => {}
        }
    }
    pending().await
}

async fn sweep(
    config: &Config,
    store: &Store,
    broker: &Broker,
    metrics: &Arc<Metrics>,
    lifecycle: &Lifecycle,
) -> Result<(), Stopped> {
    let bounds = &config.retention;
    let counted = metrics.clone();
    let pace = Pace {
        dry_run: false,
        pause: PAUSE,
        lifecycle: lifecycle.clone(),
        told: Box::new(move |what, step| counted.retention_deleted(what.as_str(), step.deleted)),
    };
    let mut told = Vec::new();
    // Letters go first, since the receipts of their jobs are kept as long as they are there.
    if let Some(age) = bounds.dead_letters {
        told.push((What::DeadLetters, letters(broker, age, &pace).await?));
    }
    if let Some(age) = bounds.replies {
        told.push((What::ReplyStreams, replies(broker, age, &pace).await?));
    }
    if let Some(age) = bounds.receipts {
        let age = age.max(floor(broker, &config.stream).await?.age);
        told.push((What::Receipts, receipts(store, broker, age, &pace).await?));
    }
    for (what, total) in told.iter().filter(|(_, total)| total.deleted > 0) {
        tracing::info!(
            what = what.as_str(),
            deleted = total.deleted,
            held = total.held,
            "retention has deleted old ones"
        );
    }
    Ok(())
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
