//! What is known of a stream that is read.

use std::time::Instant;

use crate::fleet::Take;
use crate::job::{EntryId, HeldLetter, Spell};

/// One stream, as this process reads it.
pub(in crate::worker) struct Log {
    /// Its number in the configuration.
    pub number: usize,
    pub name: String,
    pub owned: Option<Owned>,
    /// Whether all that was delivered is in hand.
    pub is_whole: bool,
    /// Whether the last survey found more than is in hand.
    pub is_doubted: bool,
    /// What is known of the letters that later jobs wait behind.
    pub held: Option<KnownHeld>,
    /// The youngest entry of this spell that was taken in hand, and the number of the spell.
    pub youngest: Option<(u64, EntryId)>,
    /// Whether one of them may go on.
    pub is_held_news: bool,
    /// Those that are to be taken in hand.
    pub going: Vec<Going>,
}

impl Log {
    pub fn new(number: usize, name: String) -> Self {
        let (owned, held, youngest, going) = (None, None, None, Vec::new());
        Self { number, name, owned, is_whole: false, is_doubted: false, held, youngest, is_held_news: false, going }
    }
}

/// A stream that this process owns.
#[derive(Clone)]
pub(in crate::worker) struct Owned {
    pub take: Take,
    /// The present reading of it.
    pub spell: Spell,
    /// Those before, of streams of that name that are gone.
    pub former: Vec<Spell>,
    /// Nobody has begun what was delivered: the owner before has left nothing behind, and this one has not read to the end yet.
    pub is_untouched: bool,
}

/// What was last known of the letters that hold others.
#[derive(Clone, Debug)]
pub(in crate::worker) struct KnownHeld {
    /// The spell in which it was.
    pub spell: u64,
    /// What others had changed until then.
    pub changes: u64,
    /// Whether there were any.
    pub are_any: bool,
    pub since: Instant,
}

/// A letter that goes on, and how often work on its job may have been started.
pub(in crate::worker) type Going = (HeldLetter, Option<u64>);
