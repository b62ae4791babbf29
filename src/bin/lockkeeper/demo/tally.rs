//! Which jobs were pushed, which have answered, and how long that took.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::sync::{Semaphore, watch};

use super::jobs::Job;
use lockkeeper::audit::JobId;

/// One cancellation in so many leaves its order among the standing ones, so that it may be cancelled twice.
const CANCELS_PER_REPEAT: u32 = 10;

/// Shared by the producers, the reader of replies and whoever watches them.
#[derive(Debug, Default)]
pub struct Tally {
    state: Mutex<State>,
    answered: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<JobId, Open>,
    ends: HashMap<JobId, End>,
    standing: Vec<String>,
    latencies: Vec<Duration>,
    begun: Option<Instant>,
    last_answer: Option<Instant>,
    resent: usize,
    contradictions: usize,
}

/// A job without an answer.
#[derive(Debug)]
struct Open {
    since: Instant,
    window: Arc<Semaphore>,
    /// The order that it places.
    order: Option<String>,
}

/// What a job ended as.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The outcome.
    pub outcome: String,
    /// Its reason, or empty.
    pub reason: String,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Jobs that were measured, and the time from the first push to the last answer.
    pub jobs: usize,
    /// That time.
    pub elapsed: Duration,
    /// From just before XADD to the answer: half of the jobs were faster.
    pub p50: Duration,
    /// 99 of 100 jobs were faster.
    pub p99: Duration,
}

impl Tally {
    /// These jobs are pushed now; each answer gives a permit back to `window`.
    pub fn push<'j>(&self, jobs: impl IntoIterator<Item = &'j Job>, window: &Arc<Semaphore>) {
        let mut state = self.state();
        let since = Instant::now();
        state.begun.get_or_insert(since);
        for job in jobs {
            let order = (job.job_type == "order.place").then(|| job.key.clone());
            state.open.insert(job.id, Open { since, window: window.clone(), order });
        }
    }

    /// A job is pushed once more under the same id.
    pub fn resend(&self) {
        self.state().resent += 1;
    }

    /// An answer has come. Answers come at least once, and all of a job's must be the same.
    pub fn answer(&self, job: JobId, end: End) {
        let mut state = self.state();
        let now = Instant::now();
        match (state.open.remove(&job), state.ends.get(&job)) {
            (Some(open), _) => {
                state.latencies.push(now - open.since);
                state.last_answer = Some(now);
                if let Some(order) = open.order.filter(|_| end.outcome == "applied") {
                    state.standing.push(order);
                }
                state.ends.insert(job, end);
                let answered = state.ends.len();
                drop(state);
                open.window.add_permits(1);
                self.answered.send_replace(answered);
            }
            (None, Some(first)) if *first == end => {}
            (None, _) => state.contradictions += 1,
        }
    }

    /// An order that stands, to be cancelled; mostly it is not offered again.
    pub fn take_standing(&self, rng: &mut SmallRng) -> Option<String> {
        let standing = &mut self.state().standing;
        if standing.is_empty() {
            return None;
        }
        let place = rng.random_range(0..standing.len());
        if rng.random_ratio(1, CANCELS_PER_REPEAT) {
            return standing.get(place).cloned();
        }
        Some(standing.swap_remove(place))
    }

    /// Forgets what was measured so far: only the sale counts, not the preparations.
    pub fn begin(&self) {
        let mut state = self.state();
        state.latencies.clear();
        (state.begun, state.last_answer) = (None, None);
    }

    /// The number of jobs that have answered.
    pub fn answered(&self) -> watch::Receiver<usize> {
        self.answered.subscribe()
    }

    /// How many jobs ended in which way.
    pub fn ends(&self) -> BTreeMap<End, usize> {
        let mut counts = BTreeMap::new();
        self.state().ends.values().for_each(|end| *counts.entry(end.clone()).or_default() += 1);
        counts
    }

    /// The ids of all jobs that were pushed.
    pub fn pushed(&self) -> HashSet<JobId> {
        let state = self.state();
        state.ends.keys().chain(state.open.keys()).copied().collect()
    }

    /// Jobs without an answer.
    pub fn open(&self) -> Vec<JobId> {
        self.state().open.keys().copied().collect()
    }

    /// How many jobs were pushed twice, and how many later answers contradicted the first or were of no job of ours.
    pub fn repetitions(&self) -> (usize, usize) {
        let state = self.state();
        (state.resent, state.contradictions)
    }

    /// What was measured since [`Tally::begin`].
    pub fn measures(&self) -> Measures {
        let state = self.state();
        let mut sorted = state.latencies.clone();
        sorted.sort_unstable();
        let at = |share: f64| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        let elapsed = state.begun.zip(state.last_answer).map(|(first, last)| last - first).unwrap_or_default();
        Measures { jobs: sorted.len(), elapsed, p50: at(0.50), p99: at(0.99) }
    }

    /// A panic elsewhere is not this one's matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
