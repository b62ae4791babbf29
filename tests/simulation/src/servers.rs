//! A broker and a database, as far as the order of jobs goes by them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lockkeeper::fleet::{Lease, Take, Tenancy};

/// How many aggregates there are.
pub const AGGREGATES: usize = 5;

/// What a job adds to the aggregates that it touches. One that would leave less than nothing anywhere is rejected.
#[derive(Clone, Debug)]
pub struct Job {
    pub adds: BTreeMap<usize, i64>,
}

impl Job {
    /// Whether it is applied on these values.
    pub fn decide(&self, values: &[i64; AGGREGATES]) -> bool {
        self.adds.iter().all(|(aggregate, add)| values[*aggregate] + add >= 0)
    }
}

/// A stream, its group and its lease. Entries have the numbers of their jobs.
#[derive(Debug, Default)]
pub struct Broker {
    pub entries: BTreeSet<u64>,
    /// The last entry that was given to anybody.
    pub delivered: Option<u64>,
    /// Whose each entry is that was delivered and not acknowledged.
    pub pending: BTreeMap<u64, String>,
    pub lease: Lease,
}

impl Broker {
    /// Takes the stream, if its lease is still as it was seen.
    pub fn take(&mut self, seen: &Lease, id: &str) -> Option<Take> {
        if (&seen.id, seen.beats) != (&self.lease.id, self.lease.beats) {
            return None;
        }
        let is_clean = seen.tenancy == Tenancy::Free && seen.is_clean && !seen.id.is_empty();
        self.lease = Lease {
            id: id.to_owned(),
            tenancy: Tenancy::Owned,
            epoch: self.lease.epoch + 1,
            beats: self.lease.beats + 1,
            ..Lease::default()
        };
        Some(Take { epoch: self.lease.epoch, is_clean })
    }

    /// A sign of life; false when somebody else has taken the stream.
    pub fn beat(&mut self, id: &str, epoch: u64, tenancy: Tenancy, is_clean: bool) -> bool {
        if self.lease.id.is_empty() {
            self.lease = Lease { id: id.to_owned(), epoch, ..Lease::default() };
        }
        if self.lease.id != id {
            return false;
        }
        (self.lease.tenancy, self.lease.is_clean) = (tenancy, is_clean);
        self.lease.beats += 1;
        true
    }

    /// Gives new entries to a reader, and says what is pending besides.
    pub fn read(&mut self, reader: &str, count: usize) -> (Vec<u64>, Vec<u64>) {
        let after = self.delivered.map_or(0, |last| last + 1);
        let new: Vec<u64> = self.entries.range(after..).take(count).copied().collect();
        self.delivered = new.last().copied().or(self.delivered);
        new.iter().for_each(|entry| drop(self.pending.insert(*entry, reader.to_owned())));
        let others = self.pending.keys().copied().filter(|entry| !new.contains(entry)).collect();
        (new, others)
    }

    /// Entries that were delivered and are not finished.
    pub fn delivered(&self) -> Vec<u64> {
        self.delivered.map(|last| self.entries.range(..=last).copied().collect()).unwrap_or_default()
    }

    /// Makes entries that are there a reader's.
    pub fn seize(&mut self, reader: &str, wanted: &[u64]) -> Vec<u64> {
        let there: Vec<u64> = wanted.iter().copied().filter(|entry| self.entries.contains(entry)).collect();
        there.iter().for_each(|entry| drop(self.pending.insert(*entry, reader.to_owned())));
        there
    }

    /// Deletes finished entries.
    pub fn acknowledge(&mut self, finished: &[u64]) {
        for entry in finished {
            self.entries.remove(entry);
            self.pending.remove(entry);
        }
    }
}

/// A batch as it is sent: what it rests on, and what it changes.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its own number, which no other has.
    pub batch: u64,
    /// Batches that must be in the log.
    pub after: Vec<u64>,
    /// Its jobs, with whether they are applied.
    pub receipts: Vec<(u64, bool)>,
    /// The versions that it went by, of all that it looked at.
    pub versions: BTreeMap<usize, u64>,
    /// What it makes of the aggregates that it changes, and how often it changes each.
    pub writes: BTreeMap<usize, (i64, u64)>,
}

/// The log, receipts and states.
#[derive(Debug, Default)]
pub struct Database {
    pub values: [i64; AGGREGATES],
    pub versions: [u64; AGGREGATES],
    pub receipts: HashMap<u64, bool>,
    /// Every job that has a receipt, in the order in which they got them.
    pub order: Vec<u64>,
    committed: BTreeSet<u64>,
}

impl Database {
    /// Commits the packet whole, or refuses it.
    pub fn execute(&mut self, packet: &Packet) -> bool {
        let is_new = packet.receipts.iter().all(|(job, _)| !self.receipts.contains_key(job));
        let is_current = packet.versions.iter().all(|(aggregate, version)| self.versions[*aggregate] == *version);
        let is_founded = packet.after.iter().all(|batch| self.committed.contains(batch));
        if !(is_new && is_current && is_founded) {
            return false;
        }
        for (aggregate, (value, times)) in &packet.writes {
            self.values[*aggregate] = *value;
            self.versions[*aggregate] += times;
        }
        for (job, is_applied) in &packet.receipts {
            self.receipts.insert(*job, *is_applied);
            self.order.push(*job);
        }
        self.committed.insert(packet.batch);
        true
    }
}
