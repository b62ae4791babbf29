//! Which entries this process has in hand, and how many more it may take: in number, and about in bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::job::{Entry, EntryId, Spell};
use crate::stream::LARGE_ANSWER;

/// The entries in hand, from their read until their end has been told, or they are dropped. Clones share them.
#[derive(Clone, Debug)]
pub struct Prefetch {
    size: u32,
    max_bytes: usize,
    room: Arc<Semaphore>,
    held: Arc<Mutex<Contents>>,
    lighter: Arc<Notify>,
    heavy: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Contents {
    /// By the number of the spell.
    spells: BTreeMap<u64, Hand>,
    /// How many entries there are.
    count: usize,
    /// The rank of the last that came in order.
    rank: u64,
    /// Sum of their sizes.
    bytes: usize,
    /// About the size of an entry, from the last ones that came.
    typical: usize,
}

/// What came by one spell.
#[derive(Debug)]
struct Hand {
    stream: Arc<str>,
    entries: BTreeMap<EntryId, Held>,
    /// How many of them another owner may have begun.
    suspects: usize,
}

/// What is kept of an entry in hand.
#[derive(Debug)]
struct Held {
    /// Its rank.
    rank: u64,
    /// Its size.
    bytes: usize,
    /// Another owner may have begun it.
    is_suspect: bool,
    /// Its room, free again when this is dropped.
    _room: Option<OwnedSemaphorePermit>,
}

/// What an entry is taken to weigh before any has come.
const UNKNOWN_BYTES: usize = 1 << 16;

/// Room for entries that have not been read yet; what is left of it is free again when it is dropped.
pub struct Room(OwnedSemaphorePermit);

impl Room {
    /// For how many entries.
    pub fn entries(&self) -> usize {
        self.0.num_permits()
    }
}

impl Prefetch {
    /// An empty hand with room for `prefetch` entries of about `max_bytes` together.
    pub fn new(prefetch: u32, max_bytes: usize) -> Self {
        let held = Contents { typical: UNKNOWN_BYTES, ..Contents::default() };
        Self {
            size: prefetch,
            max_bytes,
            room: Arc::new(Semaphore::new(prefetch as usize)),
            held: Arc::new(Mutex::new(held)),
            lighter: Arc::default(),
            heavy: Arc::default(),
        }
    }

    /// For how many entries there is room when it is empty.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Waits until there is room for `least` entries, and takes room for up to `most`. What entries weigh is known only
    /// when they are here: it is told from those that came before, so one read may exceed the bound.
    pub async fn room(&self, least: u32, most: usize) -> Room {
        let most = loop {
            let lighter = self.lighter.notified();
            if let Some(entries) = self.allowance() {
                break most.min(entries);
            }
            lighter.await;
        };
        let mut permit = match self.room.clone().acquire_many_owned(least).await {
            Ok(permit) => permit,
            // The semaphore is never closed; were it, reading would stop, which loses nothing.
            Err(_) => std::future::pending().await,
        };
        let more = self.room.available_permits().min(most.saturating_sub(least as usize));
        if let Some(rest) =
            u32::try_from(more).ok().and_then(|more| self.room.clone().try_acquire_many_owned(more).ok())
        {
            permit.merge(rest);
        }
        Room(permit)
    }

    /// How many entries more may be taken for their weight; `None` when the bound is reached.
    fn allowance(&self) -> Option<usize> {
        let held = self.lock();
        let left = self.max_bytes.checked_sub(held.bytes).filter(|left| *left > 0)?;
        Some(left / held.typical + 1)
    }

    /// Takes `entry` in hand, and gives it its rank; false when it is there already. One that was read without room for it is taken
    /// all the same, since those after it must not overtake it.
    pub fn take(&self, entry: &mut Entry, room: &mut Room) -> bool {
        let mut held = self.lock();
        let next = held.rank + 1;
        let hand = held.spells.entry(entry.spell.number());
        let hand = hand.or_insert_with(|| Hand { stream: entry.stream.clone(), entries: BTreeMap::new(), suspects: 0 });
        if hand.entries.contains_key(&entry.id) {
            return false;
        }
        let bytes = entry.bytes();
        if bytes > LARGE_ANSWER {
            self.heavy.notify_one();
        }
        // What came late has its place before the next one, which arrived before it.
        entry.rank = hand.entries.range(entry.id..).next().map_or(next, |(_, after)| after.rank);
        hand.suspects += usize::from(entry.deliveries.is_some());
        hand.entries.insert(
            entry.id,
            Held { rank: entry.rank, bytes, is_suspect: entry.deliveries.is_some(), _room: room.0.split(1) },
        );
        held.rank = next;
        held.count += 1;
        held.bytes += bytes;
        held.typical = ((held.typical * 15 + bytes) / 16).max(1);
        true
    }

    /// Waits for a large entry that was taken since this returned before.
    pub async fn heavy(&self) {
        self.heavy.notified().await;
    }

    /// The entry is not in hand any more.
    pub fn let_go(&self, spell: &Spell, id: EntryId) {
        let mut held = self.lock();
        if let Some(hand) = held.spells.get_mut(&spell.number())
            && let Some(gone) = hand.entries.remove(&id)
        {
            hand.suspects -= usize::from(gone.is_suspect);
            if hand.entries.is_empty() {
                held.spells.remove(&spell.number());
            }
            held.bytes -= gone.bytes;
            held.count -= 1;
        }
        drop(held);
        self.lighter.notify_waiters();
    }

    /// How many entries are in hand.
    pub fn count(&self) -> usize {
        self.lock().count
    }

    /// The entries in hand that came by `spell`.
    pub fn of_spell(&self, spell: &Spell) -> BTreeSet<EntryId> {
        let held = self.lock();
        held.spells.get(&spell.number()).map(|hand| hand.entries.keys().copied().collect()).unwrap_or_default()
    }

    /// Waits until nothing is in hand that came by `spell`.
    pub async fn emptied_of(&self, spell: &Spell) {
        loop {
            let lighter = self.lighter.notified();
            if !self.lock().spells.contains_key(&spell.number()) {
                return;
            }
            lighter.await;
        }
    }

    /// The entries in hand, by stream and oldest first.
    pub fn entries(&self) -> BTreeMap<Arc<str>, Vec<EntryId>> {
        let held = self.lock();
        let mut by_stream: BTreeMap<Arc<str>, Vec<EntryId>> = BTreeMap::new();
        for hand in held.spells.values() {
            by_stream.entry(hand.stream.clone()).or_default().extend(hand.entries.keys());
        }
        by_stream
    }

    /// How many of the entries in hand of this stream another owner may have begun.
    pub fn suspects(&self, stream: &str) -> usize {
        let held = self.lock();
        held.spells.values().filter(|hand| *hand.stream == *stream).map(|hand| hand.suspects).sum()
    }

    /// Nothing that is done under this lock panics, so nothing is left half changed.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn entry(spell: &Spell, ms: u64) -> Entry {
        Entry { spell: spell.clone(), ..Entry::new("jobs".into(), id(ms), vec![]) }
    }

    #[tokio::test]
    async fn an_entry_is_in_hand_once_and_takes_room_until_it_is_let_go() {
        let (prefetch, spell) = (Prefetch::new(2, 1 << 20), Spell::new(1));
        let mut room = prefetch.room(1, 10).await;
        assert_eq!(room.entries(), 2);
        assert!(prefetch.take(&mut entry(&spell, 1), &mut room));
        assert!(!prefetch.take(&mut entry(&spell, 1), &mut room), "it is there already");
        assert!(prefetch.take(&mut entry(&spell, 2), &mut room));
        assert!(prefetch.take(&mut entry(&spell, 3), &mut room), "it is ours, room or not");
        assert_eq!(prefetch.entries()["jobs"], [id(1), id(2), id(3)]);
        assert!(prefetch.take(&mut entry(&Spell::new(2), 1), &mut room), "another stream may have the same id");
        prefetch.let_go(&spell, id(1));
        assert_eq!(prefetch.of_spell(&spell), BTreeSet::from([id(2), id(3)]));
        assert_eq!(prefetch.room(1, 10).await.entries(), 1);
    }

    #[tokio::test]
    async fn suspects_are_counted_as_long_as_they_are_in_hand() {
        let (prefetch, spell) = (Prefetch::new(9, 1 << 20), Spell::new(1));
        let mut room = prefetch.room(1, 10).await;
        for (ms, deliveries) in [(1, None), (2, Some(1)), (3, Some(2))] {
            prefetch.take(&mut Entry { deliveries, ..entry(&spell, ms) }, &mut room);
        }
        assert_eq!((prefetch.suspects("jobs"), prefetch.suspects("more")), (2, 0));
        prefetch.let_go(&spell, id(2));
        prefetch.let_go(&spell, id(1));
        assert_eq!(prefetch.suspects("jobs"), 1);
    }

    #[tokio::test]
    async fn turns_follow_the_ids_of_a_spell_and_the_arrival_between_spells() {
        let (prefetch, one, other) = (Prefetch::new(100, 1 << 20), Spell::new(1), Spell::new(2));
        let mut room = prefetch.room(1, 100).await;
        let mut taken = Vec::new();
        for (spell, ms) in [(&one, 500), (&one, 510), (&other, 7), (&one, 520), (&other, 9), (&one, 505), (&one, 502)] {
            let mut entry = entry(spell, ms);
            assert!(prefetch.take(&mut entry, &mut room));
            taken.push(entry.turn());
        }
        taken.sort_unstable();
        let order: Vec<u64> = taken.iter().map(|turn| turn.entry.ms).collect();
        assert_eq!(order, [500, 502, 505, 510, 7, 520, 9]);
    }

    #[tokio::test]
    async fn a_spell_is_empty_when_the_last_of_it_is_let_go() {
        let (prefetch, spell) = (Prefetch::new(2, 1 << 20), Spell::new(1));
        let mut room = prefetch.room(1, 10).await;
        prefetch.take(&mut entry(&spell, 1), &mut room);
        let (waiter, of) = (prefetch.clone(), spell.clone());
        let waits = tokio::spawn(async move { waiter.emptied_of(&of).await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        prefetch.let_go(&spell, id(1));
        waits.await.expect("it is empty");
    }

    #[tokio::test]
    async fn a_heavy_hand_takes_less_and_then_nothing_until_it_is_lighter() {
        let (prefetch, spell) = (Prefetch::new(100, 4 * UNKNOWN_BYTES), Spell::new(1));
        let mut room = prefetch.room(1, 100).await;
        assert_eq!(room.entries(), 5, "what has come before says nothing yet");
        let mut heavy = Entry { fields: vec![(vec![], vec![0; 5 * UNKNOWN_BYTES])], ..entry(&spell, 1) };
        assert!(prefetch.take(&mut heavy, &mut room));
        drop(room);
        let waiter = prefetch.clone();
        let waits = tokio::spawn(async move { waiter.room(1, 100).await.entries() });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "it is as heavy as it may be");
        prefetch.let_go(&spell, id(1));
        assert_eq!(waits.await.expect("room"), 4, "entries weigh a little more than was thought");
    }
}
