//! Which entries this process has in hand, and how many more it may take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::job::{Entry, EntryId};

/// The entries in hand, from their read until they are acknowledged or handed back. Clones share them.
#[derive(Clone, Debug)]
pub struct Hand {
    size: u32,
    room: Arc<Semaphore>,
    held: Arc<Mutex<HashMap<(Arc<str>, EntryId), Held>>>,
}

/// What is kept of an entry in hand.
#[derive(Debug)]
struct Held {
    /// The delivery count that it has when nothing is done with it.
    deliveries: u64,
    /// Its room, free again when this is dropped.
    _room: Option<OwnedSemaphorePermit>,
}

/// Room for entries that have not been read yet; what is left of it is free again when it is dropped.
pub struct Room(OwnedSemaphorePermit);

impl Room {
    /// For how many entries.
    pub fn entries(&self) -> usize {
        self.0.num_permits()
    }
}

impl Hand {
    /// An empty hand with room for `prefetch` entries.
    pub fn new(prefetch: u32) -> Self {
        Self { size: prefetch, room: Arc::new(Semaphore::new(prefetch as usize)), held: Arc::default() }
    }

    /// For how many entries there is room when it is empty.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Waits until there is room for `least` entries, and takes room for up to `most`.
    pub async fn room(&self, least: u32, most: usize) -> Room {
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

    /// Takes `entry` in hand; false when it is there already. One that was read without room for it is taken all the
    /// same, since it is assigned to this process.
    pub fn take(&self, entry: &Entry, room: &mut Room) -> bool {
        let mut held = self.lock();
        let key = (entry.stream.clone(), entry.id);
        if held.contains_key(&key) {
            return false;
        }
        held.insert(key, Held { deliveries: entry.deliveries.unwrap_or(0), _room: room.0.split(1) });
        true
    }

    /// The entry is not in hand any more.
    pub fn let_go(&self, stream: &Arc<str>, id: EntryId) {
        self.lock().remove(&(stream.clone(), id));
    }

    /// Those of `ids` that are not in hand.
    pub fn missing(&self, stream: &str, ids: Vec<EntryId>) -> Vec<EntryId> {
        let stream: Arc<str> = stream.into();
        let held = self.lock();
        ids.into_iter().filter(|id| !held.contains_key(&(stream.clone(), *id))).collect()
    }

    /// The entries of `stream` in hand, oldest first, each with the delivery count that it has when it is handed back.
    pub fn entries(&self, stream: &str) -> Vec<(EntryId, u64)> {
        let held = self.lock();
        let ours = held.iter().filter(|((name, _), _)| **name == *stream);
        let mut entries: Vec<_> = ours.map(|((_, id), held)| (*id, held.deliveries)).collect();
        entries.sort_unstable();
        entries
    }

    /// A panic elsewhere cannot have left it half changed: each change is one call.
    fn lock(&self) -> MutexGuard<'_, HashMap<(Arc<str>, EntryId), Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ms: u64, deliveries: Option<u64>) -> Entry {
        Entry { stream: "jobs".into(), id: EntryId { ms, seq: 0 }, fields: vec![], deliveries }
    }

    #[tokio::test]
    async fn an_entry_is_in_hand_once_and_takes_room_until_it_is_let_go() {
        let hand = Hand::new(2);
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
}
