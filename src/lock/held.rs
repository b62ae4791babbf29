//! A lease that is kept alive beside the work it protects, and released when the work ends, whichever way.

use super::lease::Lease;
use super::quorum::{KeyResult, extended};
use super::round::Round;
use super::{Op, Redlock, Report, Settings};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};

/// Why a lease was not extended. Its old deadline stays in force, and its keys stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ExtendError {
    /// A quorum says that a key is not ours any more.
    #[error("a key of the lease is somebody else's or gone")]
    Lost,
    /// Too few nodes answered.
    #[error("too few lock nodes answered to extend the lease")]
    Unavailable,
    /// The deadline has passed. Nothing was extended: somebody else may hold the keys by now.
    #[error("the lease ran out before it was extended")]
    Expired,
    /// The lease has been held for as long as any may be.
    #[error("the lease has been held for as long as a lease may be")]
    HeldTooLong,
}

impl ExtendError {
    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Unavailable => "no_quorum",
            Self::Expired => "expired",
            Self::HeldTooLong => "held_too_long",
        }
    }
}

impl Redlock {
    /// Lets all keys of a lease live for another ttl. It counts only when a quorum of nodes extends every key before the
    /// old deadline; otherwise the old deadline stays, and trying again is sensible until then.
    pub async fn extend(&self, lease: &mut Lease) -> Result<(), ExtendError> {
        if lease.remaining().is_zero() {
            return Err(ExtendError::Expired);
        }
        if lease.since().elapsed() >= self.settings.hold_limit {
            return Err(ExtendError::HeldTooLong);
        }
        let mut round = Round::ask(self, Op::Extend, lease.shared_keys(), lease.token().clone());
        round.collect().await;
        let now = Instant::now();
        let (ttl, elapsed) = (self.settings.ttl, now.duration_since(round.claim.since));
        let results = round.conclude(ttl, elapsed);
        if results.contains(&KeyResult::Busy) {
            return Err(ExtendError::Lost);
        }
        if results.contains(&KeyResult::Unavailable) {
            return Err(ExtendError::Unavailable);
        }
        let life =
            extended(ttl, elapsed, lease.deadline().saturating_duration_since(now)).ok_or(ExtendError::Expired)?;
        lease.extend_to(now + life);
        Ok(())
    }

    /// Holds a lease: a task extends it from half of its life on until it is released, runs out, or has been held for
    /// [`hold_limit`](super::Settings::hold_limit). Must be called within a tokio runtime.
    pub fn hold(&self, lease: Lease) -> Held {
        let (token, keys) = (lease.token().clone(), lease.shared_keys());
        let state = State { deadline: lease.deadline(), failure: None };
        let (sender, state) = watch::channel(state);
        let keeper = (!keys.is_empty()).then(|| tokio::spawn(keep(self.clone(), lease, sender)));
        Held { redlock: self.clone(), token, keys, state, keeper }
    }
}

/// Keeps a lease alive for as long as it can be.
async fn keep(redlock: Redlock, mut lease: Lease, state: watch::Sender<State>) {
    let Settings { ttl, node_timeout, .. } = redlock.settings;
    loop {
        let due = lease.deadline().checked_sub(ttl / 2).unwrap_or_else(Instant::now);
        sleep_until(due.into()).await;
        let extended = redlock.extend(&mut lease).await;
        (redlock.observer)(Report::Extension(extended));
        match extended {
            Ok(()) => drop(state.send_replace(State { deadline: lease.deadline(), failure: None })),
            Err(why) => {
                // That it ran out in the end says less than why it was not extended before.
                state.send_modify(|state| {
                    state.failure = state.failure.filter(|_| why == ExtendError::Expired).or(Some(why))
                });
                if matches!(why, ExtendError::Expired | ExtendError::HeldTooLong) {
                    return;
                }
                // What one node's pause has spoiled may succeed now, and the old deadline has not passed.
                sleep(node_timeout.max(ttl / 50)).await;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    deadline: Instant,
    failure: Option<ExtendError>,
}

/// Keys that are held: extended beside the work, released when this is dropped. Releasing queues a request at each node and
/// waits for nothing.
///
/// Whoever holds it asks for [`remaining`](Held::remaining) before the step that cannot be undone, or works until
/// [`over`](Held::over). Neither makes that step safe: see the module's words on fencing.
#[must_use = "the keys are released when this is dropped"]
pub struct Held {
    redlock: Redlock,
    token: Arc<str>,
    keys: Arc<[String]>,
    state: watch::Receiver<State>,
    keeper: Option<JoinHandle<()>>,
}

impl Held {
    /// The held keys, sorted and each once.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The time from which another client may hold the keys, as known now.
    pub fn deadline(&self) -> Instant {
        self.state.borrow().deadline
    }

    /// How long the keys may still be trusted: zero once the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    /// Why the last try to extend it failed, if it did.
    pub fn failure(&self) -> Option<ExtendError> {
        self.state.borrow().failure
    }

    /// Returns when the deadline has passed and nothing has moved it: the work is to stop. It goes by this process's own
    /// clock, so that it returns whatever the network does.
    pub async fn over(&self) {
        while !self.remaining().is_zero() {
            sleep_until(self.deadline().into()).await;
        }
    }

    /// Releases the keys on every node, as dropping does.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
        self.redlock.send_release(self.token.clone(), self.keys.clone());
    }
}

/// The token stays out of every log: whoever knows it can release the keys.
impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut held = formatter.debug_struct("Held");
        held.field("keys", &self.keys.len()).field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}
