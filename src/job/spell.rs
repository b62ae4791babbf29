//! Which reading of a stream an entry came by, and its place in the order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::EntryId;

/// The broker from which a stream is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The connection, of which each has a number of its own.
    pub connection: u64,
    /// Another one for every start of every server; `None` where an ACL hides it, and then each connection leads to another server.
    pub run_id: Option<Arc<str>>,
}

impl Server {
    /// Whether a connection leads to the same server.
    pub fn is(&self, other: &Self) -> bool {
        self.connection == other.connection || (self.run_id.is_some() && self.run_id == other.run_id)
    }
}

/// A reading of a stream, from its head on: it begins when this process takes the stream, and anew when the broker has become
/// another one. Clones are the same spell.
#[derive(Clone, Debug, Default)]
pub struct Spell(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    number: u64,
    server: OnceLock<Server>,
    is_over: AtomicBool,
    is_gone: AtomicBool,
    is_untold: AtomicBool,
}

impl Spell {
    /// The spell with this number, which no other of the process has.
    pub fn new(number: u64) -> Self {
        Self(Arc::new(Flags { number, ..Flags::default() }))
    }

    /// The same, of a stream that is read from this server as far as is known.
    pub fn of(number: u64, server: Option<&Server>) -> Self {
        let spell = Self::new(number);
        server.cloned().into_iter().for_each(|server| spell.read_from(server));
        spell
    }

    /// Later spells have greater ones.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// It is read from this server, and from no other.
    pub fn read_from(&self, server: Server) {
        // It was said before, when this is another connection to the same one.
        let _ = self.0.server.set(server);
    }

    /// The server that it is read from, and that alone may be told of its ends: elsewhere its ids may be those of other entries.
    pub fn server(&self) -> Option<&Server> {
        self.0.server.get()
    }

    /// The stream is not this process's any more: what has not been started is dropped, and the next owner runs it.
    pub fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether it was [ended](Self::end).
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// The broker has another stream of that name by now, or is another broker: what is in hand runs, and the broker is told nothing
    /// of it, since an id may be another entry's. What it still has of these entries comes again, and is recognised.
    pub fn lose_stream(&self) {
        self.0.is_gone.store(true, Ordering::Relaxed);
    }

    /// Whether its [stream is gone](Self::lose_stream).
    pub fn is_gone(&self) -> bool {
        self.0.is_gone.load(Ordering::Relaxed)
    }

    /// The broker could not be told of a job's end: whoever reads the stream next has to reckon with what was run.
    pub fn leave_untold(&self) {
        self.0.is_untold.store(true, Ordering::Relaxed);
    }

    /// Whether the broker knows of every end.
    pub fn is_told(&self) -> bool {
        !self.0.is_untold.load(Ordering::Relaxed)
    }
}

/// The place of an entry among all that are in hand. Within a spell turns follow the entries' ids, however late an entry came;
/// between streams they follow the arrival, so that none waits for what came to another after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// When it arrived; that of the next entry in hand for one that came later than this.
    pub rank: u64,
    /// Its spell.
    pub spell: u64,
    /// Its id.
    pub entry: EntryId,
}
