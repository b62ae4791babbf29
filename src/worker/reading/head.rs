//! Finding what the group has delivered and this process has not in hand.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::Reading;
use super::log::Owned;
use crate::job::{Entry, EntryId, Spell};
use crate::stream::{BrokerError, Read};

/// Pending entries that are asked for at a time.
const PAGE: usize = 1000;

impl Reading {
    /// Takes in hand all that the group has delivered and that is not there yet, oldest first, as there is room.
    pub(super) async fn read_from_head(&mut self, number: usize) -> Result<(), BrokerError> {
        let log = &self.logs[number];
        let (Some(Owned { spell, is_untouched, .. }), name) = (log.owned.clone(), log.name.clone()) else {
            return Ok(());
        };
        // Unless this process has begun some of it meanwhile, and could not tell of their ends.
        let is_untouched = is_untouched && spell.is_told();
        let lost = self.intake.broker.exorcise(&name).await?;
        self.intake.deleted(&name, lost);
        let mut after = None;
        loop {
            // What was in hand when the broker was asked is there, or has come to its end since.
            let before = self.intake.prefetch.of_spell(&spell);
            let (ids, is_last) = self.intake.broker.delivered(&name, after).await?;
            after = ids.last().copied().or(after);
            let mut missing = self.missing(&spell, &before, ids);
            while !missing.is_empty() {
                let mut room = self.intake.room(1).await;
                let mut fits: Vec<EntryId> = missing.drain(..missing.len().min(room.entries())).collect();
                let seized = self.seize(&name, &spell, is_untouched, &mut fits).await?;
                missing.splice(..0, fits);
                self.look_at_held(number).await?;
                self.accept(seized, &mut room);
                drop(room);
                self.release_withheld().await?;
                self.take_letters(number).await?;
                if !self.withheld.is_empty() {
                    // It is begun again when the first streams are empty.
                    return Ok(());
                }
            }
            if is_last {
                break;
            }
        }
        self.look_at_held(number).await?;
        self.take_letters(number).await?;
        let log = &mut self.logs[number];
        (log.is_whole, log.is_doubted) = (true, false);
        if let Some(owned) = &mut log.owned {
            owned.is_untouched = false;
        }
        if let Err(error) = self.intake.broker.remove_consumers(&name, false).await {
            self.intake.tell(&error);
        }
        Ok(())
    }

    fn missing(&self, spell: &Spell, before: &BTreeSet<EntryId>, ids: Vec<EntryId>) -> Vec<EntryId> {
        let now = self.intake.prefetch.of_spell(spell);
        ids.into_iter().filter(|id| !before.contains(id) && !now.contains(id)).collect()
    }

    /// What was pending when a read was done, of streams that others read as well, and that this process has neither in hand nor
    /// just `read`. What both have is left where it is, and what was delivered since is left to the next look: something older may be
    /// in yet another hand. Whoever has an entry may change while this looks, so all that is pending is looked at.
    pub(super) async fn brought_away(&self, read: &Read) -> Result<Vec<Entry>, BrokerError> {
        let mut brought = Vec::new();
        for (stream, until) in &read.others {
            let log = self.logs.iter().find(|log| log.name == *stream);
            let Some(Owned { spell, .. }) = log.and_then(|log| log.owned.clone()) else { continue };
            let mut after = None;
            loop {
                let before = self.intake.prefetch.of_spell(&spell);
                let ids = self.intake.broker.pending(stream, (after, *until), PAGE).await?;
                let is_last = ids.len() < PAGE;
                after = ids.last().copied().or(after);
                let mut missing = self.missing(&spell, &before, ids);
                missing.retain(|id| !read.entries.iter().any(|entry| entry.id == *id && *entry.stream == **stream));
                while !missing.is_empty() {
                    brought.extend(self.seize(stream, &spell, false, &mut missing).await?);
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(brought)
    }

    /// Makes the first of these entries this process's, as many as are not too heavy together, and leaves the rest. With
    /// `is_untouched` no daemon has begun any of them, but for those that were counted more than once.
    async fn seize(
        &self,
        stream: &str,
        spell: &Spell,
        is_untouched: bool,
        ids: &mut Vec<EntryId>,
    ) -> Result<Vec<Entry>, BrokerError> {
        let mut seized = self.intake.broker.seize(stream, ids).await?;
        *ids = seized.left;
        self.intake.deleted(stream, seized.lost);
        self.intake.orphaned(stream, seized.orphaned);
        for entry in &mut seized.entries {
            let is_new = is_untouched && !seized.foreign.contains(&entry.id);
            entry.deliveries = entry.deliveries.filter(|starts| !is_new || *starts > 1);
            entry.spell = spell.clone();
        }
        Ok(seized.entries)
    }

    /// Finds what was delivered and is not in hand: an acknowledgement failed, somebody else moved the group or read in our name.
    /// Found twice in a row, since what ends meanwhile is in neither.
    pub(super) async fn survey(&mut self) -> Result<(), BrokerError> {
        let owned = self.logs.iter().enumerate().filter_map(|(number, log)| Some((number, log, log.owned.as_ref()?)));
        let asked = owned.map(async |(number, log, owned)| {
            let hand = self.intake.prefetch.of_spell(&owned.spell);
            (number, self.intake.broker.survey(&log.name).await.map(|survey| survey.exceeds(&hand)))
        });
        for (number, found) in join_all(asked).await {
            let found = match found {
                Err(error) if error.is_about_keys() => continue,
                found => found?,
            };
            let log = &mut self.logs[number];
            log.is_whole &= !(found && log.is_doubted);
            log.is_doubted = found;
        }
        Ok(())
    }
}
