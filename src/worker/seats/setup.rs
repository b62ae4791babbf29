//! What the thread of seats is started with, and what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fleet::Times;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::stream::Broker;

/// What the driver is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Nothing of the stream with this number is in flight any more; whether the broker knows of every end.
    Settled(usize, bool),
    /// Whatever is in flight, every stream is left to others now.
    Leave,
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
    /// Is told of an owner that is gone: its locks need not be waited for.
    pub succeed: Box<dyn Fn(&str) + Send>,
    /// Is told who owns the streams.
    pub metrics: Arc<Metrics>,
    /// Whether the domain's code is at work, and the dispatcher may wait for it.
    pub decides: Box<dyn Fn() -> bool + Send>,
}
