//! Which entries this process has in hand, and how many more it may take: in number, and about in bytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::job::{Entry, EntryId};
use crate::stream::LARGE_ANSWER;

/// The entries in hand, from their read until they are acknowledged or handed back. Clones share them.
#[derive(Clone, Debug)]
pub struct Hand {
    size: u32,
    max_bytes: usize,
    room: Arc<Semaphore>,
    held: Arc<Mutex<Contents>>,
    lighter: Arc<Notify>,
    heavy: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Contents {
    entries: Entries,
    /// Sum of their sizes.
    bytes: usize,
    /// About the size of an entry, from the last ones that came.
    typical: usize,
}

/// Entries by their stream and id.
type Entries = HashMap<(Arc<str>, EntryId), Held>;

/// What is kept of an entry in hand.
#[derive(Debug)]
struct Held {
    /// The delivery count that it has when nothing is done with it.
    deliveries: u64,
    /// Its size.
    bytes: usize,
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

impl Hand {
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

    /// Takes `entry` in hand; false when it is there already. One that was read without room for it is taken all the
    /// same, since it is assigned to this process.
    pub fn take(&self, entry: &Entry, room: &mut Room) -> bool {
        let mut held = self.lock();
        let key = (entry.stream.clone(), entry.id);
        if held.entries.contains_key(&key) {
            return false;
        }
        let bytes = entry.bytes();
        if bytes > LARGE_ANSWER {
            self.heavy.notify_one();
        }
        held.bytes += bytes;
        held.typical = ((held.typical * 15 + bytes) / 16).max(1);
        held.entries.insert(key, Held { deliveries: entry.deliveries.unwrap_or(0), bytes, _room: room.0.split(1) });
        true
    }

    /// Waits for a large entry that was taken since this returned before.
    pub async fn heavy(&self) {
        self.heavy.notified().await;
    }

    /// The entry is not in hand any more.
    pub fn let_go(&self, stream: &Arc<str>, id: EntryId) {
        let mut held = self.lock();
        if let Some(gone) = held.entries.remove(&(stream.clone(), id)) {
            held.bytes -= gone.bytes;
        }
        drop(held);
        self.lighter.notify_waiters();
    }

    /// How many entries are in hand.
    pub fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// Those of `ids` that are not in hand.
    pub fn missing(&self, stream: &str, ids: Vec<EntryId>) -> Vec<EntryId> {
        let stream: Arc<str> = stream.into();
        let held = self.lock();
        ids.into_iter().filter(|id| !held.entries.contains_key(&(stream.clone(), *id))).collect()
    }

    /// The entries of `stream` in hand, oldest first, each with the delivery count that it has when it is handed back.
    pub fn entries(&self, stream: &str) -> Vec<(EntryId, u64)> {
        let held = self.lock();
        let ours = held.entries.iter().filter(|((name, _), _)| **name == *stream);
        let mut entries: Vec<_> = ours.map(|((_, id), held)| (*id, held.deliveries)).collect();
        entries.sort_unstable();
        entries
    }

    /// Nothing that is done under this lock panics, so nothing is left half changed.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Lineage;

    fn entry(ms: u64, deliveries: Option<u64>) -> Entry {
        Entry {
            stream: "jobs".into(),
            id: EntryId { ms, seq: 0 },
            fields: vec![],
            deliveries,
            lineage: Lineage::default(),
        }
    }

    #[tokio::test]
    async fn an_entry_is_in_hand_once_and_takes_room_until_it_is_let_go() {
        let hand = Hand::new(2, 1 << 20);
        let mut room = hand.room(1, 10).await;
        assert_eq!(room.entries(), 2);
        assert!(hand.take(&entry(2, Some(3)), &mut room));
        assert!(!hand.take(&entry(2, None), &mut room), "it is there already");
        assert!(hand.take(&entry(1, None), &mut room));
        assert!(hand.take(&entry(3, None), &mut room), "it is ours, room or not");
        let id = |ms| EntryId { ms, seq: 0 };
        assert_eq!(hand.entries("jobs"), [(id(1), 0), (id(2), 3), (id(3), 0)]);
        assert_eq!(hand.missing("jobs", vec![id(3), id(4)]), [id(4)]);
        hand.let_go(&"jobs".into(), id(1));
        assert_eq!(hand.room(1, 10).await.entries(), 1);
    }

    #[tokio::test]
    async fn a_heavy_hand_takes_less_and_then_nothing_until_it_is_lighter() {
        let hand = Hand::new(100, 4 * UNKNOWN_BYTES);
        let mut room = hand.room(1, 100).await;
        assert_eq!(room.entries(), 5, "what has come before says nothing yet");
        let heavy = |ms| Entry { fields: vec![(vec![], vec![0; 5 * UNKNOWN_BYTES])], ..entry(ms, None) };
        assert!(hand.take(&heavy(1), &mut room));
        drop(room);
        let waiter = hand.clone();
        let waits = tokio::spawn(async move { waiter.room(1, 100).await.entries() });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "it is as heavy as it may be");
        hand.let_go(&"jobs".into(), EntryId { ms: 1, seq: 0 });
        assert_eq!(waits.await.expect("room"), 4, "entries weigh a little more than was thought");
    }
}
