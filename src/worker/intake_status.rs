//! Whether the streams are read, and if not, why: for the intake itself, for `/readyz` and for a metric.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::Metrics;
use crate::stream::BrokerError;

/// What the intake does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It reads.
    Reads,
    /// As many jobs are in hand as there may be.
    Full,
    /// It was told to be quiet.
    Quiet,
    /// Another daemon owns the streams.
    StandsBy,
    /// Somebody has paused the streams.
    Paused,
    /// Nothing can be committed, so nothing is taken in that a peer might run.
    StoreAway,
    /// The broker does not answer, or not now; its error.
    BrokerAway(String),
    /// The broker refuses our name, password or rights; its error.
    Refused(String),
}

impl State {
    /// Every label, for the metric's series.
    pub const LABELS: [&'static str; 8] =
        ["reads", "full", "quiet", "stands_by", "paused", "store_away", "broker_away", "refused"];

    fn label(&self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Full => "full",
            Self::Quiet => "quiet",
            Self::StandsBy => "stands_by",
            Self::Paused => "paused",
            Self::StoreAway => "store_away",
            Self::BrokerAway(_) => "broker_away",
            Self::Refused(_) => "refused",
        }
    }
}

/// The state of the intake. Clones share it.
#[derive(Clone, Debug)]
pub struct IntakeStatus {
    state: Arc<Mutex<State>>,
    store_away: watch::Sender<bool>,
    held_news: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl IntakeStatus {
    /// An intake that is about to read.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let state = Arc::new(Mutex::new(State::Quiet));
        let reading = Self { state, store_away: watch::Sender::new(false), held_news: Arc::default(), metrics };
        reading.set(State::Reads);
        reading
    }

    /// The intake does this now.
    pub fn set(&self, state: State) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != state {
            self.metrics.reading(&State::LABELS, state.label());
            *current = state;
        }
    }

    /// Whether another daemon owns the streams.
    pub fn stands_by(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::StandsBy
    }

    /// A read failed.
    pub fn failed(&self, error: &BrokerError) {
        let text = error.to_string();
        self.set(if error.is_denied() { State::Refused(text) } else { State::BrokerAway(text) });
    }

    /// Whether the streams can be read; the error says why not. A pause of our own is no reason not to be ready.
    pub fn check(&self) -> Result<(), String> {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::BrokerAway(why) | State::Refused(why) => Err(why.clone()),
            State::Reads | State::Full | State::Quiet | State::StandsBy => Ok(()),
            State::Paused | State::StoreAway => Ok(()),
        }
    }

    /// A batch has ended for want of the database; or something shows that it is there.
    pub fn store_is_away(&self, away: bool) {
        self.store_away.send_if_modified(|current| std::mem::replace(current, away) != away);
    }

    /// A job that was held may go on, since nothing holds it any more.
    pub fn held_may_go_on(&self) {
        self.held_news.store(true, Ordering::Relaxed);
    }

    /// Whether one may since this was asked before.
    pub fn is_held_news(&self) -> bool {
        self.held_news.swap(false, Ordering::Relaxed)
    }

    /// Whether nothing can be committed for now.
    pub fn is_store_away(&self) -> bool {
        *self.store_away.borrow()
    }

    /// Returns at once, unless the database is away: then once it is back, or the process drains.
    pub async fn with_store(&self, lifecycle: &Lifecycle) {
        let mut away = self.store_away.subscribe();
        tokio::select! {
            _ = away.wait_for(|away| !away) => {}
            () = lifecycle.reached(Phase::Draining) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reading_waits_for_the_database_and_goes_on_with_it_or_with_the_drain() {
        let reading = IntakeStatus::new(Arc::new(Metrics::new().expect("metrics")));
        let lifecycle = Lifecycle::default();
        reading.with_store(&lifecycle).await;
        for drains in [false, true] {
            reading.store_is_away(true);
            let (other, ends) = (reading.clone(), lifecycle.clone());
            let waits = tokio::spawn(async move { other.with_store(&ends).await });
            tokio::task::yield_now().await;
            assert!(!waits.is_finished());
            assert!(reading.is_store_away());
            if drains {
                lifecycle.step()
            } else {
                reading.store_is_away(false)
            }
            waits.await.expect("it goes on");
        }
    }
}
