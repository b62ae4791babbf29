//! What the jobs of a batch come to, decided one after the other in memory. Pure.
//!
//! A job is looked at in this order: receipt, `exp`, `at`, `expect`, decide.

use std::panic::{AssertUnwindSafe, catch_unwind};

use foldhash::{HashMap, HashSet};

mod watch;

pub use watch::DecisionWatch;

use crate::domain::{AggregateId, Domain, NewEvent, Rejection, States, Targets};
use crate::fail;
use crate::job::{Dead, DeadCode, Fingerprint, Job, JobId, Outcome, OutcomeKind};
use crate::plan::Planned;
use crate::store::StoredReceipt;

/// The rejections that the engine itself gives, beside those of [`Domain::REJECTIONS`].
pub const VERSION_MISMATCH: &str = "version_mismatch";
/// Another job has this job's id. No receipt is written: the id's receipt is the other job's.
pub const ID_REUSED: &str = "id_reused";

/// What a job comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It comes to this, now: it gets a receipt.
    Ends(Outcome),
    /// It has been run before.
    Duplicate(StoredReceipt),
    /// An earlier job of this batch, at this index, has the same id and content.
    Repeats(usize),
    /// Its id belongs to another job.
    IdReused,
    /// It is not due before this Unix time in milliseconds.
    NotDue(u64),
    /// An aggregate that it touches has events which this program cannot read.
    Unreadable,
    /// It touches other aggregates than was thought, or an older job that had to go back, or is dead, touches the same.
    Again,
}

impl Verdict {
    /// Whether the job goes back to the plan, having come to no end.
    pub fn goes_back(&self) -> bool {
        matches!(self, Self::Unreadable | Self::Again)
    }

    /// Whether the job is dead, now or by its receipt.
    pub fn is_dead(&self) -> bool {
        match self {
            Self::Ends(outcome) => outcome.kind == OutcomeKind::Dead,
            Self::Duplicate(receipt) => receipt.outcome == OutcomeKind::Dead.as_str(),
            _ => false,
        }
    }
}

/// A new event with its place in its aggregate's history.
#[derive(Debug)]
pub struct Versioned<E> {
    /// Index of the job that caused it.
    pub job: usize,
    /// Its place among the job's events.
    pub index: u32,
    /// The aggregate's version with this event.
    pub version: u64,
    /// The aggregate and the event.
    pub new: NewEvent<E>,
}

/// What is known before a batch is decided.
#[derive(Debug)]
pub struct Known<D: Domain> {
    /// Receipts of those jobs that have one.
    pub receipts: HashMap<JobId, StoredReceipt>,
    /// States of the batch's aggregates.
    pub states: HashMap<AggregateId, D::State>,
    /// Their versions; an aggregate without events is not listed.
    pub versions: HashMap<AggregateId, u64>,
    /// Aggregates whose events cannot be read by this program.
    pub unreadable: HashSet<AggregateId>,
    /// Whether later jobs wait behind a dead one.
    pub hold_after_dead: bool,
}

impl<D: Domain> Known<D> {
    /// More aggregates are known, each with its version.
    pub fn add(&mut self, aggregates: HashMap<AggregateId, (u64, D::State)>) {
        for (aggregate, (version, state)) in aggregates {
            self.versions.insert(aggregate.clone(), version);
            self.states.insert(aggregate, state);
        }
    }
}

/// What a batch comes to.
#[derive(Debug)]
pub struct Decided<D: Domain> {
    /// One per job, in their order.
    pub verdicts: Vec<Verdict>,
    /// All new events, in the order in which they happened.
    pub events: Vec<Versioned<D::Event>>,
    /// States after the batch.
    pub states: HashMap<AggregateId, D::State>,
    /// Versions after the batch.
    pub versions: HashMap<AggregateId, u64>,
    /// Aggregates that a decision rests on and that get no event, with the version that was read.
    pub read_only: Vec<(AggregateId, u64)>,
}

struct Decider<D: Domain> {
    decided: Decided<D>,
    receipts: HashMap<JobId, StoredReceipt>,
    /// Jobs of this batch that get a receipt: by id, their index and fingerprint.
    settled: HashMap<JobId, (usize, Fingerprint)>,
    /// Aggregates whose events cannot be read.
    unreadable: HashSet<AggregateId>,
    /// Aggregates that no further job of this batch may touch.
    barred: HashSet<AggregateId>,
    read: HashSet<AggregateId>,
    written: HashSet<AggregateId>,
    now_ms: u64,
}

/// Decides `jobs` in their order on what is `known`; each sees what the ones before it changed. `now_ms` is the broker's
/// time.
pub fn decide<D: Domain>(jobs: &[Planned<Job<D>>], known: Known<D>, now_ms: u64) -> Decided<D> {
    let Known { receipts, states, versions, unreadable, hold_after_dead } = known;
    let decided =
        Decided { verdicts: Vec::with_capacity(jobs.len()), events: vec![], states, versions, read_only: vec![] };
    let (settled, read, written) = (HashMap::default(), HashSet::default(), HashSet::default());
    let mut deciding =
        Decider { decided, receipts, settled, unreadable, barred: HashSet::default(), read, written, now_ms };
    for (index, planned) in jobs.iter().enumerate() {
        let verdict = deciding.verdict(index, planned);
        if matches!(verdict, Verdict::Ends(_)) {
            deciding.settled.insert(planned.queued.job.id, (index, planned.queued.job.fingerprint));
        }
        if verdict.goes_back() || hold_after_dead && verdict.is_dead() {
            deciding.barred.extend(planned.aggregates().iter().cloned());
        }
        deciding.decided.verdicts.push(verdict);
    }
    deciding.finish()
}

impl<D: Domain> Decider<D> {
    fn verdict(&mut self, index: usize, planned: &Planned<Job<D>>) -> Verdict {
        let job = &planned.queued.job;
        if let Some((earlier, fingerprint)) = self.settled.get(&job.id) {
            return if *fingerprint == job.fingerprint { Verdict::Repeats(*earlier) } else { Verdict::IdReused };
        }
        if let Some(receipt) = self.receipts.get(&job.id) {
            let same = receipt.fingerprint == job.fingerprint;
            return if same { Verdict::Duplicate(receipt.clone()) } else { Verdict::IdReused };
        }
        let command = match &job.work {
            Ok(command) => command,
            Err(dead) => return Verdict::Ends(Outcome::dead(dead.clone())),
        };
        if job.exp.is_some_and(|exp| exp < self.now_ms) {
            return Verdict::Ends(Outcome::expired());
        }
        if let Some(at) = job.at.filter(|at| *at > self.now_ms) {
            return Verdict::NotDue(at);
        }
        let among = |set: &HashSet<AggregateId>| planned.aggregates().iter().any(|aggregate| set.contains(aggregate));
        if among(&self.unreadable) {
            return Verdict::Unreadable;
        }
        if among(&self.barred) || !self.targets_hold(planned) {
            return Verdict::Again;
        }
        self.read.extend(planned.aggregates().iter().cloned());
        let version = job.subject.as_ref().map(|subject| self.version(subject));
        if job.expect.is_some() && job.expect != version {
            return Verdict::Ends(Outcome::rejected(VERSION_MISMATCH));
        }
        self.run(index, planned, command)
    }

    /// True when the job touches what it was locked for, on the state as it is now. If not, what it does touch is barred,
    /// so that no younger job of this batch overtakes it there.
    fn targets_hold(&mut self, planned: &Planned<Job<D>>) -> bool {
        let Ok(command) = &planned.queued.job.work else { return true };
        let Targets::FromStateOf(source) = D::targets(command) else { return true };
        let nothing = D::State::default();
        let touched = D::resolve(command, self.decided.states.get(&source).unwrap_or(&nothing));
        let held: HashSet<_> = planned.aggregates().iter().collect();
        let same = touched.len() == held.len() && touched.iter().all(|aggregate| held.contains(aggregate));
        if !same {
            self.barred.extend(touched);
        }
        same
    }

    fn version(&self, aggregate: &AggregateId) -> u64 {
        self.decided.versions.get(aggregate).copied().unwrap_or(0)
    }

    /// The domain's code runs here. A panic in it is a bug that costs this one job.
    fn run(&mut self, index: usize, planned: &Planned<Job<D>>, command: &D::Command) -> Verdict {
        let states = &self.decided.states;
        let subject = planned.queued.job.subject.as_ref().map_or("", |subject| &subject.id);
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            fail::point("decide", subject);
            decide_one::<D>(states, planned.aggregates(), command)
        }));
        let dead = |detail: String| Verdict::Ends(Outcome::dead(Dead::new(DeadCode::Panicked, detail)));
        let (events, evolved) = match attempt {
            Ok(Ok(decision)) => decision,
            Ok(Err(Undecided::Rejected(reason))) => return Verdict::Ends(Outcome::rejected(reason)),
            Ok(Err(Undecided::Stranger(stranger))) => {
                return dead(format!("the domain put an event on {stranger}, which is not among the job's aggregates"));
            }
            Err(panic) => return dead(panic_text(panic.as_ref())),
        };
        let (first, count) = (self.decided.events.len() as u64, events.len() as u64);
        for (place, new) in events.into_iter().enumerate() {
            let version = self.version(&new.aggregate) + 1;
            self.decided.versions.insert(new.aggregate.clone(), version);
            self.written.insert(new.aggregate.clone());
            self.decided.events.push(Versioned { job: index, index: place as u32, version, new });
        }
        self.decided.states.extend(evolved);
        Verdict::Ends(Outcome::applied((count > 0).then(|| (first, first + count - 1))))
    }

    fn finish(self) -> Decided<D> {
        let mut decided = self.decided;
        let unwritten = self.read.into_iter().filter(|aggregate| !self.written.contains(aggregate));
        decided.read_only = unwritten
            .map(|aggregate| {
                let version = decided.versions.get(&aggregate).copied().unwrap_or(0);
                (aggregate, version)
            })
            .collect();
        decided.read_only.sort();
        decided
    }
}

type Decision<D> = (Vec<NewEvent<<D as Domain>::Event>>, HashMap<AggregateId, <D as Domain>::State>);

/// Why a command has no events.
enum Undecided {
    /// The domain says no.
    Rejected(&'static str),
    /// The domain put an event on this aggregate, which it had no right to touch.
    Stranger(AggregateId),
}

/// The events of one command and the states that they lead to.
fn decide_one<D: Domain>(
    states: &HashMap<AggregateId, D::State>,
    allowed: &[AggregateId],
    command: &D::Command,
) -> Result<Decision<D>, Undecided> {
    let decided = D::decide(command, &States::new(states));
    let events = decided.map_err(|Rejection(reason)| Undecided::Rejected(reason))?;
    let mut evolved: HashMap<AggregateId, D::State> = HashMap::default();
    for NewEvent { aggregate, event } in &events {
        if !allowed.contains(aggregate) {
            return Err(Undecided::Stranger(aggregate.clone()));
        }
        let before = || states.get(aggregate).cloned().unwrap_or_default();
        D::evolve(evolved.entry(aggregate.clone()).or_insert_with(before), event);
    }
    Ok((events, evolved))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the domain's code panicked: {}", text.unwrap_or("no message"))
}
