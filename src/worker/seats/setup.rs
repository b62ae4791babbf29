//! What the thread of seats is started with, and what it is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::fleet::{Fitness, Times};
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::stream::{Broker, Skills};

/// What the driver is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Nothing of a stream is in flight any more, as its [`Hold`] says.
    Settled,
    /// A job of the stream with this number needs this of a daemon, and waits for one until then.
    Unknown(usize, String, Instant),
    /// Whatever is in flight, every stream is left to others now.
    Leave,
}

/// What the intake has of a stream.
#[derive(Debug, Default)]
pub(super) struct Hold {
    is_busy: AtomicBool,
    is_untold: AtomicBool,
}

impl Hold {
    /// The intake begins to read it.
    pub fn begin(&self) {
        self.is_busy.store(true, Ordering::SeqCst);
    }

    /// Nothing of it is in flight any more; whether the broker knows of every end.
    pub fn settled(&self, is_told: bool) {
        self.is_untold.fetch_or(!is_told, Ordering::SeqCst);
        self.is_busy.store(false, Ordering::SeqCst);
    }

    /// Something of it may be in flight.
    pub fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::SeqCst)
    }

    /// Whether the broker knows of every end since the stream was taken.
    pub fn is_told(&self) -> bool {
        !self.is_untold.load(Ordering::SeqCst)
    }

    /// The stream has been taken.
    pub fn begin_anew(&self) {
        self.is_untold.store(false, Ordering::SeqCst);
    }
}

/// When the dispatcher last turned.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<(Instant, AtomicU64)>);

impl Default for Pulse {
    fn default() -> Self {
        Self(Arc::new((Instant::now(), AtomicU64::new(0))))
    }
}

impl Pulse {
    /// The dispatcher turns now.
    pub fn beat(&self) {
        let (start, last) = &*self.0;
        last.store(start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago it did.
    pub fn age(&self) -> Duration {
        let (start, last) = &*self.0;
        start.elapsed().saturating_sub(Duration::from_millis(last.load(Ordering::Relaxed)))
    }
}

/// When a stream was taken of which nothing has been committed yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Since(Arc<Mutex<Option<Instant>>>);

impl Since {
    /// A stream has been taken; this was sent for it.
    pub fn taken(&self, sent: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }

    /// Something has been committed: how long that took, if it is the first since.
    pub fn committed(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|sent| sent.elapsed())
    }
}

/// How a thread of seats is started.
pub struct Setup {
    /// The streams' broker.
    pub broker: Broker,
    /// How long things take.
    pub times: Times,
    /// Says whether this process may own anything.
    pub lifecycle: Lifecycle,
    /// The name of this process, which no other has or had.
    pub id: String,
    /// Machine and process, for people.
    pub host: String,
    /// Whether the streams are shared out among the fleet.
    pub spread: bool,
    /// What jobs it knows.
    pub skills: Skills,
    /// Is told of an owner that is gone: its locks need not be waited for.
    pub succeed: Box<dyn Fn(&str) + Send>,
    /// Is told whether others own streams too, and write to the same log.
    pub share: Box<dyn Fn(bool) + Send>,
    /// Is told who owns the streams.
    pub metrics: Arc<Metrics>,
    /// Whether this process reaches what the work needs; changes with every probe.
    pub fitness: watch::Receiver<Fitness>,
    /// Whether the domain's code is at work, and the dispatcher may wait for it.
    pub decides: Box<dyn Fn() -> bool + Send>,
}
