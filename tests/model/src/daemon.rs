//! One daemon: what it has in hand, and what is in flight.

use crate::domain::{AGGREGATES, Job};
use crate::servers::{Database, Packet};

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Daemon {
    /// Counts its starts.
    pub life: u8,
    /// It has read from the head, and goes on from there.
    pub is_based: bool,
    /// It has looked at all pending entries since its last read.
    pub has_looked: bool,
    /// Somebody else has the stream, as far as it knows: it begins anew when nothing is in flight any more.
    pub is_forsaken: bool,
    /// Entries that wait and came by a spell before this one: they come first.
    pub former: Vec<u8>,
    /// Entries that wait, in the order in which it would start them.
    pub hand: Vec<u8>,
    /// Batches of one job, the older one first.
    pub flights: Vec<Flight>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Flight {
    pub packet: Packet,
    /// It came by a spell before this one, so nobody is told of its end.
    pub is_former: bool,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Stage {
    Decided,
    Sent,
    /// It has its end: now, or from before.
    Ended,
    /// It was refused, or nobody knows.
    Failed,
}

impl Daemon {
    pub fn new(life: u8) -> Self {
        Self {
            life,
            is_based: false,
            has_looked: true,
            is_forsaken: false,
            former: Vec::new(),
            hand: Vec::new(),
            flights: Vec::new(),
        }
    }

    /// Whether the entry came by this spell.
    pub fn knows(&self, job: u8) -> bool {
        self.hand.contains(&job) || self.flights.iter().any(|flight| flight.packet.job == job && !flight.is_former)
    }

    /// All that waits, in the order in which it would start them.
    fn line(&self) -> Vec<u8> {
        [self.former.as_slice(), &self.hand].concat()
    }

    /// Takes the entry in hand, at its place by id.
    pub fn take(&mut self, job: u8) {
        insert(&mut self.hand, job);
    }

    /// A batch has come to nothing: its job waits again.
    pub fn put_back(&mut self, flight: &Flight) {
        let hand = if flight.is_former { &mut self.former } else { &mut self.hand };
        if !self.is_forsaken {
            insert(hand, flight.packet.job);
        }
    }

    /// The broker has become another one, or may have.
    pub fn begin_anew(&mut self) {
        // What was read is not in hand before the look.
        if !self.has_looked {
            self.hand.pop();
        }
        (self.is_based, self.has_looked) = (false, true);
        self.former.append(&mut self.hand);
        self.flights.iter_mut().for_each(|flight| flight.is_former = true);
    }

    /// Where in the hand the jobs are that may be started (L2).
    pub fn startable(&self, jobs: &[Job]) -> Vec<usize> {
        let line = self.line();
        let shares = |one: u8, other: u8| one == other || jobs[one as usize].shares(&jobs[other as usize]);
        let may = |place: &usize| {
            let job = line[*place];
            let waits = line[..*place].iter().any(|older| shares(*older, job));
            let mut met = self.flights.iter().filter(|flight| shares(flight.packet.job, job));
            let fits = met.all(|flight| match flight.stage {
                // One batch may be decided on what one other is going to come to.
                Stage::Decided | Stage::Sent => {
                    let is_older = flight.packet.job < job || (flight.is_former && *place >= self.former.len());
                    is_older && flight.packet.job != job && self.flights.len() == 1
                }
                Stage::Ended => true,
                Stage::Failed => false,
            });
            !waits && fits
        };
        (0..line.len()).filter(may).collect()
    }

    /// Decides the job at this place of the hand, on the database as it is now and on what the batch before is going to come to.
    pub fn decide(&mut self, place: usize, daemon: u8, jobs: &[Job], database: &Database) {
        let is_former = place < self.former.len();
        let id = if is_former { self.former.remove(place) } else { self.hand.remove(place - self.former.len()) };
        let job = &jobs[id as usize];
        let (mut versions, mut values, mut after) = (database.versions, database.values, None);
        for Flight { packet, stage, .. } in &self.flights {
            if jobs[packet.job as usize].shares(job) && matches!(stage, Stage::Decided | Stage::Sent) {
                after = Some(packet.job);
                for aggregate in 0..AGGREGATES {
                    if let (Some(version), Some(left)) = (packet.versions[aggregate], packet.leaves[aggregate]) {
                        versions[aggregate] = version + u8::from(packet.applied);
                        values[aggregate] = left;
                    }
                }
            }
        }
        let applied = job.decide(&values);
        let leaves =
            |aggregate: usize| job.adds[aggregate].map(|add| values[aggregate] + if applied { add } else { 0 });
        let touched = |aggregate: usize| job.adds[aggregate].map(|_| versions[aggregate]);
        let packet = Packet {
            daemon,
            life: self.life,
            job: id,
            applied,
            versions: std::array::from_fn(touched),
            leaves: std::array::from_fn(leaves),
            after,
        };
        let stage = if database.outcomes[id as usize].is_some() { Stage::Ended } else { Stage::Decided };
        self.flights.push(Flight { packet, is_former, stage });
    }
}

fn insert(hand: &mut Vec<u8>, job: u8) {
    let place = hand.partition_point(|other| *other < job);
    hand.insert(place, job);
}
