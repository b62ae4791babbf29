//! Streams that have to be empty before the jobs of others are begun: then there may be another number of streams tomorrow, and what a
//! producer pushed to an old one first still comes first.
//!
//! That one is empty says nothing of an entry that is read later: its producer may have pushed to the first stream in between. So the
//! look comes after the read, and what has to wait until then is withheld.

use std::time::Duration;

use super::Reading;
use crate::job::Entry;
use crate::stream::BrokerError;
use crate::worker::Room;

/// Time between two looks when there is nothing else to do.
const LOOK: Duration = Duration::from_millis(50);

impl Reading {
    /// Whether the jobs of this stream are begun only when the first streams are empty.
    pub(super) fn has_to_wait(&self, stream: &str) -> bool {
        let first = &self.intake.first;
        !first.is_empty() && !first.iter().any(|name| name == stream)
    }

    /// Whether streams may be read that have to wait for others.
    pub(super) async fn others_go_on(&self) -> Result<bool, BrokerError> {
        Ok(self.intake.first.is_empty() || self.intake.broker.are_empty(&self.intake.first).await?)
    }

    /// How many entries a read may bring for which there is room: with what is withheld there must be some left for the first streams.
    pub(super) fn bounded(&self, room: usize) -> usize {
        let half = (self.intake.prefetch.size() / 2) as usize;
        if self.intake.first.is_empty() { room } else { room.min(half.max(1)) }
    }

    /// Takes in hand what is not there yet, and passes on what may be begun.
    pub(super) fn accept(&mut self, read: Vec<Entry>, room: &mut Room) {
        let mut fresh = self.intake.take(read, room);
        fresh.iter_mut().for_each(|entry| self.note_place(entry));
        let (waiting, ready): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|entry| self.has_to_wait(&entry.stream));
        self.withheld.extend(waiting);
        self.intake.pass_on(ready);
    }

    /// Notes of an entry in hand whether it came after younger ones.
    fn note_place(&mut self, entry: &mut Entry) {
        let Some(log) = self.logs.iter_mut().find(|log| *log.name == *entry.stream) else { return };
        let spell = entry.spell.number();
        let youngest = log.youngest.filter(|(of, _)| *of == spell).map(|(_, id)| id);
        entry.is_late = youngest.is_some_and(|youngest| entry.id < youngest);
        log.youngest = Some((spell, youngest.map_or(entry.id, |youngest| youngest.max(entry.id))));
    }

    /// Passes on what was withheld, if every first stream is empty by now.
    pub(super) async fn release_withheld(&mut self) -> Result<(), BrokerError> {
        if !self.withheld.is_empty() && self.others_go_on().await? {
            self.intake.pass_on(std::mem::take(&mut self.withheld));
        }
        Ok(())
    }

    /// Drops what is withheld of readings that are over. It stays in its stream for the next owner.
    pub(super) fn drop_withheld(&mut self) {
        for entry in self.withheld.extract_if(.., |entry| entry.spell.is_over()) {
            self.intake.prefetch.let_go(&entry.spell, entry.id);
        }
    }

    /// There is nothing to read until the first streams, which another daemon runs, are empty.
    pub(super) async fn wait_for_the_first(&mut self) {
        self.intake.sleep(LOOK).await;
    }
}
