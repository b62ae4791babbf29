//! A daemon: its seat, its plan and its hand are the real ones; what it asks the servers comes back as answers, late or never.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use lockkeeper::domain::{AggregateId, Targets};
use lockkeeper::fleet::{Lease, Seat, Take, Tenancy, Times};
use lockkeeper::job::{Entry, EntryId, JobId, Spell, Turn};
use lockkeeper::plan::{BatchId, Limits, Plan, Planned, Queued, Terms};
use lockkeeper::worker::Prefetch;

use crate::servers::{AGGREGATES, Job, Packet};

pub const TIMES: Times = Times { lease: Duration::from_millis(1200), look: Duration::from_millis(100) };
const TERMS: Terms = Terms { retry_delay: Duration::from_millis(50), retry_count: 3 };
const LIMITS: Limits = Limits { jobs: 4, bytes: usize::MAX, aggregates: usize::MAX, touches: usize::MAX };

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Ask {
    Look,
    Take { seen: Lease, id: String },
    Beat { id: String, epoch: u64, tenancy: Tenancy, is_clean: bool },
    Read { spell: u64, count: usize },
    Delivered { spell: u64 },
    Seize { spell: u64, wanted: Vec<u64>, beside: Vec<u64>, is_head: bool },
    Survey { spell: u64 },
    Acknowledge { jobs: Vec<(u64, Spell)> },
    Load { batch: BatchId },
    Commit { batch: BatchId, packet: Packet },
}

/// What a server says. `None` where nothing was heard of it in time.
#[derive(Clone, Debug)]
pub enum Answer {
    Lease(Option<Lease>),
    Taken(Option<Option<Take>>),
    Beaten { tenancy: Tenancy, is_ours: Option<bool> },
    Read { spell: u64, brought: Option<(Vec<u64>, Vec<u64>)> },
    Delivered { spell: u64, entries: Option<Vec<u64>> },
    Seized { spell: u64, entries: Option<Vec<u64>>, beside: Vec<u64>, is_head: bool },
    Surveyed { spell: u64, pending: Option<BTreeSet<u64>> },
    Acknowledged { jobs: Vec<(u64, Spell)>, is_told: bool },
    Loaded { batch: BatchId, state: Option<State> },
    Committed { batch: BatchId, is_committed: Option<bool> },
}

/// What a batch finds in the database.
#[derive(Clone, Debug)]
pub struct State {
    pub values: [i64; AGGREGATES],
    pub versions: [u64; AGGREGATES],
    pub receipts: HashMap<u64, bool>,
}

/// A job in the plan.
#[derive(Clone, Debug)]
pub struct Work {
    pub number: u64,
    pub spell: Spell,
}

/// A batch in flight.
#[derive(Debug)]
pub struct Running {
    pub number: u64,
    pub jobs: Vec<Planned<Work>>,
    pub after: Vec<BatchId>,
    /// What it makes of each aggregate, with its version, once it has decided.
    pub results: BTreeMap<usize, (i64, u64)>,
}

pub struct Daemon {
    pub name: String,
    /// Answers to an earlier life are nobody's.
    pub life: u64,
    pub seat: Seat,
    pub plan: Plan<Work>,
    pub hand: Prefetch,
    pub reading: Option<(Take, Spell)>,
    pub former: Vec<Spell>,
    pub is_whole: bool,
    pub is_doubted: bool,
    /// Whether a question about the lease, and one about entries, is under way.
    pub asks: bool,
    pub asked: u64,
    pub reads: bool,
    pub surveyed: u64,
    pub is_told: bool,
    pub batches: BTreeMap<u64, (BatchId, Running)>,
    /// Whether each batch that has ended is committed.
    fates: HashMap<BatchId, bool>,
    pub frozen_until: u64,
    pub drains: bool,
    /// A mistake: turns go by the arrival alone.
    pub by_arrival: bool,
    arrivals: u64,
    names: u64,
    spells: u64,
}

impl Daemon {
    pub fn new(number: usize, life: u64, now: Instant) -> Self {
        let name = format!("{number}-{life}");
        Self {
            seat: Seat::new(TIMES, format!("{name}-0"), now),
            name,
            life,
            plan: Plan::new(TERMS),
            hand: Prefetch::new(10_000, usize::MAX >> 1),
            reading: None,
            former: Vec::new(),
            is_whole: false,
            is_doubted: false,
            asks: false,
            asked: 0,
            reads: false,
            surveyed: 0,
            is_told: true,
            batches: BTreeMap::new(),
            fates: HashMap::new(),
            frozen_until: 0,
            drains: false,
            by_arrival: false,
            arrivals: 0,
            names: 0,
            spells: 0,
        }
    }

    pub fn new_name(&mut self) -> String {
        self.names += 1;
        format!("{}-{}", self.name, self.names)
    }

    /// Begins and ends readings as the stream is held or not, and says when nothing of it is in flight.
    pub fn follow(&mut self, held: Option<Take>, now: Instant) {
        if let Some((_, spell)) = self.reading.take_if(|(take, _)| held != Some(*take)) {
            spell.end();
            self.former.push(spell);
        }
        if !self.former.is_empty() {
            for work in self.plan.take_out(|work| work.spell.is_over()) {
                self.hand.let_go(&work.spell, id(work.number));
            }
            self.former.retain(|spell| !self.hand.of_spell(spell).is_empty());
        }
        if self.seat.is_left() && self.reading.is_none() && self.former.is_empty() {
            let name = self.new_name();
            self.seat.settled(now, name);
        }
        if let (None, Some(take)) = (&self.reading, held)
            && self.former.is_empty()
        {
            self.spells += 1;
            self.reading = Some((take, Spell::new(self.spells)));
            (self.is_whole, self.is_doubted, self.reads) = (false, false, false);
        }
    }

    /// The present reading, if it is this one.
    pub fn spell(&self, number: u64) -> Option<Spell> {
        self.reading.as_ref().map(|(_, spell)| spell.clone()).filter(|spell| spell.number() == number)
    }

    /// Which of these are not in hand.
    pub fn missing(&self, spell: &Spell, entries: &[u64]) -> Vec<u64> {
        let hand = self.hand.of_spell(spell);
        entries.iter().copied().filter(|entry| !hand.contains(&id(*entry))).collect()
    }

    /// Takes entries in hand, oldest first, and into the plan.
    pub fn accept(&mut self, spell: &Spell, mut entries: Vec<u64>, jobs: &[Job]) {
        entries.sort_unstable();
        let Some(mut room) = self.hand.room(1, 10_000).now_or_never() else { return };
        for number in entries {
            let mut entry = Entry { spell: spell.clone(), ..Entry::new(Arc::from("jobs"), id(number), Vec::new()) };
            if self.hand.take(&mut entry, &mut room) {
                let aggregates = jobs[number as usize].adds.keys().map(|name| aggregate(*name)).collect();
                let work = Work { number, spell: spell.clone() };
                let job = JobId::from_text(&number.to_string());
                self.arrivals += 1;
                let turn = if self.by_arrival { Turn { rank: self.arrivals, ..entry.turn() } } else { entry.turn() };
                self.plan.push(Queued::new(turn, job, Targets::Known(aggregates), 1, work));
            }
        }
    }

    /// The next batch that may be begun.
    pub fn begin(&mut self, now: Instant, number: u64) -> Option<BatchId> {
        let batch = self.plan.next_batch(now, LIMITS, 1);
        if batch.jobs.is_empty() {
            return None;
        }
        let running = Running { number, jobs: batch.jobs, after: batch.after, results: BTreeMap::new() };
        self.batches.insert(number, (batch.id, running));
        Some(batch.id)
    }

    pub fn running(&mut self, batch: BatchId) -> Option<&mut Running> {
        self.batches.values_mut().find(|(id, _)| *id == batch).map(|(_, running)| running)
    }

    /// Decides every job of a batch on what it has found and on what the batches before it will come to. Jobs with a receipt change
    /// nothing.
    pub fn decide(&mut self, batch: BatchId, mut state: State, jobs: &[Job]) -> Option<Packet> {
        let after = self.running(batch)?.after.clone();
        let mut founded = Vec::new();
        for before in after {
            match self.fates.get(&before) {
                Some(true) => continue,
                // Its jobs are older ones, and wait again.
                Some(false) => return None,
                None => {}
            }
            let running = self.running(before)?;
            founded.push(running.number);
            for (aggregate, (value, version)) in running.results.clone() {
                if version > state.versions[aggregate] {
                    (state.values[aggregate], state.versions[aggregate]) = (value, version);
                }
            }
        }
        let running = self.running(batch)?;
        let (before, mut receipts, mut times) = (state.versions, Vec::new(), BTreeMap::new());
        let (mut looked_at, mut only_read) = (BTreeSet::new(), BTreeSet::new());
        for planned in &running.jobs {
            let number = planned.queued.job.number;
            let job = &jobs[number as usize];
            looked_at.extend(job.adds.keys().copied());
            let is_applied = !state.receipts.contains_key(&number) && job.decide(&state.values);
            if !state.receipts.contains_key(&number) {
                receipts.push((number, is_applied));
            }
            if is_applied {
                for (aggregate, add) in &job.adds {
                    state.values[*aggregate] += add;
                    state.versions[*aggregate] += 1;
                    *times.entry(*aggregate).or_insert(0) += 1;
                }
            } else {
                only_read.extend(job.adds.keys().copied());
            }
        }
        let writes = times.iter().map(|(aggregate, times)| (*aggregate, (state.values[*aggregate], *times))).collect();
        running.results = times.keys().map(|name| (*name, (state.values[*name], state.versions[*name]))).collect();
        let versions = looked_at.into_iter().map(|name| (name, before[name])).collect();
        let packet = Packet { batch: running.number, after: founded, receipts, versions, writes };
        // What is only read is in no successor's condition, so nobody succeeds it before it is committed.
        let blocked: Vec<AggregateId> = only_read.into_iter().map(aggregate).collect();
        self.plan.open(batch, &blocked);
        Some(packet)
    }

    /// A batch has ended: its jobs, if it is committed; else they wait again.
    pub fn end(&mut self, batch: BatchId, is_committed: bool, now: Instant) -> Vec<(u64, Spell)> {
        let Some(number) = self.batches.iter().find(|(_, (id, _))| *id == batch).map(|(number, _)| *number) else {
            return Vec::new();
        };
        let Some((_, running)) = self.batches.remove(&number) else { return Vec::new() };
        self.plan.close(batch);
        self.fates.insert(batch, is_committed);
        let mut ended = Vec::new();
        for planned in running.jobs {
            let work = planned.queued.job.clone();
            if is_committed {
                self.plan.finish(&planned, now);
                ended.push((work.number, work.spell));
            } else {
                self.plan.put_back(planned, now, |_| {});
            }
        }
        ended
    }
}

/// Entries have the numbers of their jobs.
pub fn id(number: u64) -> EntryId {
    EntryId { ms: number, seq: 0 }
}

fn aggregate(name: usize) -> AggregateId {
    AggregateId::new("counter", name.to_string())
}
