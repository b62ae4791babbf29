//! A lease that is kept alive beside the work it protects, and released when the work ends, whichever way.

use super::lease::Lease;
use super::quorum::{KeyResult, extended};
use super::round::Round;
use super::{Op, Redlock, Report, Settings};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
        let round = self.ask_to_extend(lease)?;
        lease.extend_to(self.extended(round, lease.deadline()).await?);
        Ok(())
    }

    /// Queues the request at every node; it has its place in each node's order when this returns.
    fn ask_to_extend(&self, lease: &Lease) -> Result<Round, ExtendError> {
        if lease.remaining().is_zero() {
            return Err(ExtendError::Expired);
        }
        if lease.since().elapsed() >= self.settings.hold_limit {
            return Err(ExtendError::HeldTooLong);
        }
        Ok(Round::ask(self, Op::Extend, lease.shared_keys(), lease.token().clone()))
    }

    /// The new deadline, when the nodes have agreed before the old one.
    async fn extended(&self, mut round: Round, deadline: Instant) -> Result<Instant, ExtendError> {
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
        let life = extended(ttl, elapsed, deadline.saturating_duration_since(now)).ok_or(ExtendError::Expired)?;
        Ok(now + life)
    }

    /// Holds a lease: a task extends it from half of its life on until it is released, runs out, or has been held for
    /// [`hold_limit`](super::Settings::hold_limit). Must be called within a tokio runtime.
    pub fn hold(&self, lease: Lease) -> Held {
        let state = State { deadline: lease.deadline(), failure: None };
        let (sender, state) = watch::channel(state);
        let is_empty = lease.keys().is_empty();
        let lease = Arc::new(Mutex::new(lease));
        let keeper = (!is_empty).then(|| tokio::spawn(keep(self.clone(), lease.clone(), sender)));
        Held { redlock: self.clone(), lease, state, keeper }
    }
}

/// Keeps a lease alive for as long as it can be.
async fn keep(redlock: Redlock, lease: Arc<Mutex<Lease>>, state: watch::Sender<State>) {
    let Settings { ttl, node_timeout, .. } = redlock.settings;
    loop {
        let deadline = lock(&lease).deadline();
        sleep_until(deadline.checked_sub(ttl / 2).unwrap_or_else(Instant::now).into()).await;
        // No key is released between the look at the keys and the request for them.
        let asked = redlock.ask_to_extend(&lock(&lease));
        let extended = match asked {
            Ok(round) => redlock.extended(round, deadline).await,
            Err(why) => Err(why),
        };
        (redlock.observer)(Report::Extension(extended.map(drop)));
        match extended {
            Ok(deadline) => {
                lock(&lease).extend_to(deadline);
                state.send_replace(State { deadline, failure: None });
            }
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

/// Nothing that is done under this lock panics, so nothing is left half changed.
fn lock(lease: &Mutex<Lease>) -> MutexGuard<'_, Lease> {
    lease.lock().unwrap_or_else(PoisonError::into_inner)
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
    lease: Arc<Mutex<Lease>>,
    state: watch::Receiver<State>,
    keeper: Option<JoinHandle<()>>,
}

impl Held {
    /// The held keys, sorted and each once.
    pub fn keys(&self) -> Arc<[String]> {
        lock(&self.lease).shared_keys()
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

    /// Releases some of the keys on every node, and holds the others on.
    pub fn let_go(&self, keys: &[String]) {
        let mut lease = lock(&self.lease);
        self.redlock.release_keys(&mut lease, keys);
    }

    /// Releases the keys on every node, as dropping does.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
        let lease = lock(&self.lease);
        self.redlock.send_release(lease.token().clone(), lease.shared_keys());
    }
}

/// The token stays out of every log: whoever knows it can release the keys.
impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut held = formatter.debug_struct("Held");
        held.field("keys", &self.keys().len()).field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}
