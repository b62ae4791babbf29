//! One run: what happens when, and what must hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use lockkeeper::fleet::{Lease, Tenancy};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::daemon::{Answer, Ask, Daemon, State};
use crate::servers::{AGGREGATES, Broker, Database, Job};

/// A mistake that has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Nobody looks after a read at what others were given.
    NoLook,
    /// What comes late has its place behind what is in hand.
    ByArrival,
    /// A batch is committed whatever somebody else has written.
    Unguarded,
    /// A batch is told of before it is committed.
    AcknowledgedEarly,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    pub steps: u64,
    pub commits: u64,
    pub refused: u64,
    pub takes: u64,
    /// Moments at which more than one daemon believed to own the stream.
    pub shared: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.commits += other.commits;
        self.refused += other.refused;
        self.takes += other.takes;
        self.shared += other.shared;
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Push,
    Tick,
    Ask(Ask),
    Answer(Answer),
    Fault,
}

const DAEMONS: usize = 3;
const JOBS: u64 = 60;
/// Microseconds: until then there are pushes and faults, and by then everything must have ended.
const CALM_FROM: u64 = 12_000_000;
const OVER: u64 = 90_000_000;

pub(crate) struct World {
    pub(crate) random: StdRng,
    pub(crate) start: Instant,
    pub(crate) now: u64,
    pub(crate) number: u64,
    pub(crate) queue: BinaryHeap<Reverse<(u64, u64)>>,
    /// Of each moment in the queue: whose it is, in which life.
    pub(crate) events: BTreeMap<u64, (usize, u64, Event)>,
    pub(crate) broker: Broker,
    pub(crate) database: Database,
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) pushed: u64,
    pub(crate) batches: u64,
    pub(crate) ignores_lease: bool,
    pub(crate) has_faults: bool,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) summary: Summary,
}

/// Runs a fleet by `seed`; the error says what did not hold.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Result<Summary, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let jobs = (0..JOBS).map(|_| job(&mut random)).collect();
    let (start, ignores_lease, has_faults) = (Instant::now(), seed % 2 == 1, seed % 8 >= 2);
    let mut world = World {
        random,
        start,
        now: 0,
        number: 0,
        queue: BinaryHeap::new(),
        events: BTreeMap::new(),
        broker: Broker::default(),
        database: Database::default(),
        daemons: (0..DAEMONS).map(|number| Daemon::new(number, 0, start)).collect(),
        jobs,
        pushed: 0,
        batches: 0,
        ignores_lease,
        has_faults,
        mutant,
        summary: Summary::default(),
    };
    world.at(0, 0, 0, Event::Push);
    (0..DAEMONS).for_each(|daemon| world.at(world.now, daemon, 0, Event::Tick));
    if has_faults {
        world.at(500_000, 0, 0, Event::Fault);
    }
    world.go()
}

fn job(random: &mut StdRng) -> Job {
    let touched = random.random_range(1..=2);
    let adds = (0..touched).map(|_| (random.random_range(0..AGGREGATES), random.random_range(-2..=2)));
    Job { adds: adds.collect() }
}

impl World {
    fn go(mut self) -> Result<Summary, String> {
        while let Some(Reverse((at, number))) = self.queue.pop() {
            let Some((daemon, life, event)) = self.events.remove(&number) else { continue };
            let frozen = self.daemons[daemon].frozen_until;
            let is_at_daemon = matches!(event, Event::Tick | Event::Answer(_));
            if is_at_daemon && frozen > at && self.daemons[daemon].life == life {
                self.at(frozen, daemon, life, event);
                continue;
            }
            (self.now, self.summary.steps) = (at, self.summary.steps + 1);
            let is_alive = self.daemons[daemon].life == life;
            match event {
                Event::Push => self.push(),
                Event::Fault => self.fault(),
                Event::Ask(ask) => self.ask(daemon, life, ask)?,
                Event::Answer(answer) if is_alive => self.answered(daemon, answer),
                Event::Tick if is_alive => self.tick(daemon),
                Event::Answer(_) | Event::Tick => {}
            }
            self.hold()?;
            if self.pushed == JOBS && self.broker.entries.is_empty() {
                return self.judge();
            }
            if self.now > OVER {
                return Err(format!("{:?} are left after {} s", self.broker.entries, OVER / 1_000_000));
            }
        }
        Err("nothing happens any more".to_owned())
    }

    /// What every job came to is what it comes to when one after the other is run in the order of the stream.
    fn judge(self) -> Result<Summary, String> {
        let mut values = [0; AGGREGATES];
        for (number, job) in self.jobs.iter().enumerate() {
            let is_applied = job.decide(&values);
            if is_applied {
                job.adds.iter().for_each(|(aggregate, add)| values[*aggregate] += add);
            }
            let found = self.database.receipts.get(&(number as u64));
            if found != Some(&is_applied) {
                return Err(format!("job {number} {:?} came to {found:?}, and not to {is_applied}", job.adds));
            }
        }
        if values != self.database.values {
            Err(format!("{:?} is not {values:?}", self.database.values))
        } else {
            Ok(self.summary)
        }
    }

    /// What holds at every moment.
    fn hold(&mut self) -> Result<(), String> {
        let owners = self.daemons.iter().filter(|daemon| daemon.seat.held().is_some()).count();
        self.summary.shared += u64::from(owners > 1);
        if owners > 1 && !self.has_faults && !self.ignores_lease {
            return Err(format!("{owners} own the stream although nothing has happened"));
        }
        let Some((last, before)) = self.database.order.split_last() else { return Ok(()) };
        let shares = |one: u64| {
            self.jobs[one as usize].adds.keys().any(|name| self.jobs[*last as usize].adds.contains_key(name))
        };
        let late = (0..*last).find(|older| shares(*older) && !before.contains(older));
        late.map_or(Ok(()), |older| {
            Err(format!("job {last} was committed before job {older}, with which it shares an aggregate"))
        })
    }

    pub(crate) fn at(&mut self, at: u64, daemon: usize, life: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number)));
        self.events.insert(self.number, (daemon, life, event));
    }

    pub(crate) fn clock(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    pub(crate) fn is_stormy(&self) -> bool {
        self.has_faults && self.now < CALM_FROM
    }

    /// How long a message is on its way: mostly a millisecond, at times seconds.
    fn way(&mut self) -> u64 {
        let slow = self.is_stormy() && self.random.random_bool(0.02);
        if slow { self.random.random_range(100_000..3_000_000) } else { self.random.random_range(100..2_000) }
    }

    pub(crate) fn send(&mut self, daemon: usize, ask: Ask) {
        let life = self.daemons[daemon].life;
        if self.is_stormy() && self.random.random_bool(0.01) {
            // It never comes there, which shows when the connection breaks.
            let at = self.now + self.random.random_range(1_000..1_000_000);
            return self.at(at, daemon, life, Event::Answer(unheard(ask)));
        }
        let at = self.now + self.way();
        self.at(at, daemon, life, Event::Ask(ask));
    }

    fn push(&mut self) {
        self.broker.entries.insert(self.pushed);
        self.pushed += 1;
        if self.pushed < JOBS {
            let pause = if self.random.random_bool(0.7) { 2_000 } else { 600_000 };
            let at = self.now + self.random.random_range(0..pause);
            self.at(at, 0, 0, Event::Push);
        }
    }

    fn fault(&mut self) {
        if !self.is_stormy() {
            return;
        }
        let (daemon, kind) = (self.random.random_range(0..DAEMONS), self.random.random_range(0..10));
        match kind {
            0..=3 => {
                // It is killed, and another one is started in its place.
                let life = self.daemons[daemon].life + 1;
                self.daemons[daemon] = Daemon::new(daemon, life, self.clock());
                let at = self.now + self.random.random_range(10_000..1_500_000);
                self.at(at, daemon, life, Event::Tick);
            }
            4..=6 => self.daemons[daemon].frozen_until = self.now + self.random.random_range(10_000..4_000_000),
            7 => self.daemons[daemon].drains ^= true,
            8 => self.broker.lease = Lease::default(),
            _ => {
                self.broker.lease =
                    Lease { id: "somebody".to_owned(), tenancy: Tenancy::Owned, beats: 7, ..Lease::default() }
            }
        }
        let at = self.now + self.random.random_range(50_000..1_500_000);
        self.at(at, 0, 0, Event::Fault);
    }

    /// A server is asked, does what it is asked for, and answers.
    fn ask(&mut self, daemon: usize, life: u64, ask: Ask) -> Result<(), String> {
        let is_lost = self.is_stormy() && self.random.random_bool(0.01);
        let lost = is_lost.then(|| unheard(ask.clone()));
        let name = self.daemons[daemon].name.clone();
        let answer = match ask {
            Ask::Look => Answer::Lease(Some(self.broker.lease.clone())),
            Ask::Take { seen, id } => {
                let taken = self.broker.take(&seen, &id);
                self.summary.takes += u64::from(taken.is_some());
                Answer::Taken(Some(taken))
            }
            Ask::Beat { id, epoch, tenancy, is_clean } => {
                Answer::Beaten { tenancy, is_ours: Some(self.broker.beat(&id, epoch, tenancy, is_clean)) }
            }
            Ask::Read { spell, count } => Answer::Read { spell, brought: Some(self.broker.read(&name, count)) },
            Ask::Delivered { spell } => Answer::Delivered { spell, entries: Some(self.broker.delivered()) },
            Ask::Seize { spell, wanted, beside, is_head } => {
                Answer::Seized { spell, entries: Some(self.broker.seize(&name, &wanted)), beside, is_head }
            }
            Ask::Survey { spell } => {
                Answer::Surveyed { spell, pending: Some(self.broker.pending.keys().copied().collect()) }
            }
            Ask::Acknowledge { jobs } => {
                let finished: Vec<u64> = jobs.iter().map(|(job, _)| *job).collect();
                if let Some(job) = finished.iter().find(|job| !self.database.receipts.contains_key(job)) {
                    return Err(format!("job {job} left the stream without a receipt"));
                }
                self.broker.acknowledge(&finished);
                Answer::Acknowledged { jobs, is_told: true }
            }
            Ask::Load { batch } => {
                let Database { values, versions, receipts, .. } = &self.database;
                let state = State { values: *values, versions: *versions, receipts: receipts.clone() };
                Answer::Loaded { batch, state: Some(state) }
            }
            Ask::Commit { batch, packet } => {
                let is_committed = self.database.execute(&packet);
                self.summary.commits += u64::from(is_committed);
                self.summary.refused += u64::from(!is_committed);
                Answer::Committed { batch, is_committed: Some(is_committed) }
            }
        };
        let at = self.now + self.way();
        self.at(at, daemon, life, Event::Answer(lost.unwrap_or(answer)));
        Ok(())
    }
}

/// What is heard of a question that is lost, or of whose answer nothing comes.
fn unheard(ask: Ask) -> Answer {
    match ask {
        Ask::Look => Answer::Lease(None),
        Ask::Take { .. } => Answer::Taken(None),
        Ask::Beat { tenancy, .. } => Answer::Beaten { tenancy, is_ours: None },
        Ask::Read { spell, .. } => Answer::Read { spell, brought: None },
        Ask::Delivered { spell } => Answer::Delivered { spell, entries: None },
        Ask::Seize { spell, beside, is_head, .. } => Answer::Seized { spell, entries: None, beside, is_head },
        Ask::Survey { spell } => Answer::Surveyed { spell, pending: None },
        Ask::Acknowledge { jobs } => Answer::Acknowledged { jobs, is_told: false },
        Ask::Load { batch } => Answer::Loaded { batch, state: None },
        Ask::Commit { batch, .. } => Answer::Committed { batch, is_committed: None },
    }
}
