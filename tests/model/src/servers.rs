//! The broker and the database.

use crate::domain::{AGGREGATES, Job, Values};

/// A set of entries; the entry of job `n` is bit `n`.
pub type Entries = u8;

pub fn has(entries: Entries, job: u8) -> bool {
    entries & (1 << job) != 0
}

/// A stream and its group.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Broker {
    pub stream: Entries,
    /// How many entries the group has delivered, the youngest last.
    pub delivered: u8,
    /// Those that are pending, with whomever.
    pub pending: Entries,
    /// Pending with each daemon.
    pub with: [Entries; 3],
}

impl Broker {
    /// The entry is this daemon's.
    pub fn give(&mut self, job: u8, daemon: usize) {
        self.pending |= 1 << job;
        self.with.iter_mut().for_each(|entries| *entries &= !(1 << job));
        self.with[daemon] |= 1 << job;
    }

    /// Acknowledged and deleted.
    pub fn remove(&mut self, job: u8) {
        self.stream &= !(1 << job);
        self.pending &= !(1 << job);
        self.with.iter_mut().for_each(|entries| *entries &= !(1 << job));
    }

    /// The oldest entry that the group has not delivered.
    pub fn next(&self, produced: u8) -> Option<u8> {
        (self.delivered..produced).find(|job| has(self.stream, *job))
    }
}

/// A transaction on its way.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub daemon: u8,
    pub life: u8,
    pub job: u8,
    /// The outcome that was decided.
    pub applied: bool,
    /// The version of each aggregate that was gone by.
    pub versions: [Option<u8>; AGGREGATES],
    /// What it leaves of each aggregate, for a batch that goes by it.
    pub leaves: [Option<i8>; AGGREGATES],
    /// The job of the packet, of the same life, that has to be in the log.
    pub after: Option<u8>,
}

/// The log.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Database {
    /// Whose packet committed each job, in the order of the commits: job, daemon, life.
    pub log: Vec<(u8, u8, u8)>,
    /// What each job came to.
    pub outcomes: [Option<bool>; 4],
    pub versions: [u8; AGGREGATES],
    pub values: Values,
}

/// Which of its checks a packet has.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    pub receipts: bool,
    pub heads: bool,
    pub expected: bool,
}

impl Database {
    /// Runs the whole packet or nothing of it.
    pub fn execute(&mut self, packet: &Packet, job: &Job, checks: Checks) -> bool {
        if checks.receipts && self.outcomes[packet.job as usize].is_some() {
            return false;
        }
        // Versions that are written are guarded by a unique key; those that are only read, by the check of heads.
        let is_checked = packet.applied || checks.heads;
        let stale =
            |(aggregate, version): (usize, &Option<u8>)| version.is_some_and(|it| it != self.versions[aggregate]);
        if is_checked && packet.versions.iter().enumerate().any(stale) {
            return false;
        }
        let is_there = |after| self.log.contains(&(after, packet.daemon, packet.life));
        if checks.expected && !packet.after.is_none_or(is_there) {
            return false;
        }
        if packet.applied {
            for (aggregate, add) in
                job.adds.iter().enumerate().filter_map(|(aggregate, add)| Some((aggregate, (*add)?)))
            {
                self.versions[aggregate] += 1;
                self.values[aggregate] += add;
            }
        }
        self.log.push((packet.job, packet.daemon, packet.life));
        self.outcomes[packet.job as usize] = Some(packet.applied);
        true
    }
}
