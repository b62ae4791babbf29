//! Jobs that wait behind a dead one: which letters hold others, and taking those in hand that may go on.
//!
//! What is held is looked at after entries were read and before they are planned: whoever has put a dead job out of the way until
//! then has told so. A letter that goes on is in hand, at its job's old place, before those behind it are let go.

use std::time::{Duration, Instant};

use super::Reading;
use super::log::{Going, KnownHeld, Owned};
use crate::job::{EntryId, HeldLetter, HeldState, going};
use crate::stream::BrokerError;
use crate::worker::Supply;

/// Time between two looks whether letters were deleted by hand.
const LOOK: Duration = Duration::from_secs(10);

impl Reading {
    /// Looks at what is held in a stream, and tells the dispatcher before it is told of entries. What may go on is left to
    /// [`Self::take_letters`].
    pub(super) async fn look_at_held(&mut self, number: usize) -> Result<(), BrokerError> {
        let Some(Owned { spell, is_untouched, .. }) = self.logs[number].owned.clone() else { return Ok(()) };
        let known = self.logs[number].held.clone().filter(|known| known.spell == spell.number());
        let Some(anew) = self.is_due(number, known.as_ref()).await? else { return Ok(()) };
        self.logs[number].is_held_news = false;
        let name = self.logs[number].name.clone();
        // What ends from here on is known to the dispatcher.
        let hand = self.intake.prefetch.of_spell(&spell);
        let found = self.intake.broker.held_letters(&name, self.intake.hold_after_dead).await?;
        let (changes, are_any) = (found.changes.unwrap_or(0), !found.letters.is_empty());
        let (dropped, mut letters): (Vec<HeldLetter>, Vec<HeldLetter>) =
            found.letters.into_iter().partition(|held| held.state == HeldState::Dropped);
        letters.retain(|held| !hand.contains(&held.source));
        self.tell(number, |stream| Supply::Held { stream, anew, letters: letters.clone() });
        if !dropped.is_empty() {
            let ids: Vec<EntryId> = dropped.iter().map(|held| held.letter).collect();
            self.intake.broker.forget_held(&name, &ids).await?;
            let entries = dropped.iter().map(|held| held.source).collect();
            self.tell(number, |stream| Supply::LetGo { stream, in_hand: Vec::new(), entries });
        }
        // The owner before may have begun what it had in hand.
        let begun = (anew && !is_untouched).then_some(1);
        let going = going(&letters).into_iter().cloned();
        let going = going.map(|held| (found.starts.get(&held.letter).copied().or(begun), held));
        self.logs[number].going = going.map(|(starts, held)| (held, starts)).collect();
        self.logs[number].held = Some(KnownHeld { spell: spell.number(), changes, are_any, since: Instant::now() });
        Ok(())
    }

    /// Whether there may be something new, and if so, whether nothing is known that still holds.
    async fn is_due(&self, number: usize, known: Option<&KnownHeld>) -> Result<Option<bool>, BrokerError> {
        let Some(known) = known else { return Ok(Some(true)) };
        if !known.are_any && !self.intake.hold_after_dead {
            return Ok(None);
        }
        let is_news = self.logs[number].is_held_news;
        Ok(match self.intake.broker.held_changes(&self.logs[number].name).await? {
            // Somebody has deleted it.
            None => Some(true),
            Some((is_ours, changes)) if !is_ours || changes != known.changes => Some(false),
            Some(_) => (is_news || known.since.elapsed() > LOOK).then_some(false),
        })
    }

    /// Takes the letters in hand that may go on, as there is room, and lets those go that were behind them.
    pub(super) async fn take_letters(&mut self, number: usize) -> Result<(), BrokerError> {
        let going: Vec<Going> = std::mem::take(&mut self.logs[number].going);
        let Some(Owned { spell, .. }) = self.logs[number].owned.clone().filter(|_| !going.is_empty()) else {
            return Ok(());
        };
        // Whatever interrupts this, it is looked at again.
        self.logs[number].is_held_news = true;
        let name = self.logs[number].name.clone();
        for going in going.chunks(self.intake.read_count) {
            let (mut entries, mut gone) = (Vec::new(), Vec::new());
            for (held, starts) in going {
                match self.intake.broker.held_job(&name, held).await? {
                    Some(mut entry) => {
                        (entry.spell, entry.deliveries) = (spell.clone(), *starts);
                        entries.push(entry);
                    }
                    None => gone.push(held.letter),
                }
            }
            if !gone.is_empty() {
                self.intake.broker.forget_held(&name, &gone).await?;
            }
            let mut room = self.intake.room(1).await;
            let fresh = self.intake.take(entries, &mut room);
            let entries = going.iter().map(|(held, _)| held.source).collect();
            self.tell(number, |stream| Supply::LetGo { stream, in_hand: fresh, entries });
        }
        Ok(())
    }

    /// The dispatcher has seen that something may go on.
    pub(super) fn hear_of_held(&mut self) {
        if self.intake.reading.is_held_news() {
            self.logs.iter_mut().for_each(|log| log.is_held_news = true);
        }
    }

    fn tell(&self, number: usize, supply: impl FnOnce(std::sync::Arc<str>) -> Supply) {
        // The receiver outlives this loop: it ends when every sender has gone.
        let _ = self.intake.entries.send(supply(self.logs[number].name.as_str().into()));
    }
}
