//! What every batch works with.

use std::sync::Arc;

use super::clock::BrokerClock;
use super::decide::DecisionWatch;
use super::incidents::Incidents;
use super::load::{Cache, CacheGeneration, ReadPolicy};
use super::pipeline::{CommittedHead, LockTable, PositionPredictor};
use super::progress::Progress;
use super::written::WrittenBuilds;
use crate::domain::Domain;
use crate::lock::Redlock;
use crate::metrics::Metrics;
use crate::projection::{Projection, Written};
use crate::store::Store;
use crate::stream::Broker;

/// What every batch works with.
pub struct Engine<D: Domain> {
    /// Events, receipts, sequence.
    pub store: Store,
    /// Counts the starts of jobs that were taken over; the dispatcher tells it of their ends.
    pub broker: Broker,
    /// The server's limit on a packet, in bytes.
    pub max_packet: u64,
    /// One lock per aggregate.
    pub locks: Redlock,
    /// The locks of the batches in flight.
    pub lock_table: LockTable,
    /// Read models, updated in the batch's transaction.
    pub projections: Vec<Arc<dyn Projection<D>>>,
    /// Which builds of them.
    pub written: WrittenBuilds,
    /// States of recently used aggregates.
    pub cache: Cache<D>,
    /// The broker's time.
    pub clock: BrokerClock,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
    /// Keeps an outage from filling the log.
    pub incidents: Incidents,
    /// Decisions under way.
    pub deciding: DecisionWatch,
    /// The newest position that is known to be committed.
    pub head: CommittedHead,
    /// Whether states of the cache are believed.
    pub read_policy: ReadPolicy,
    /// When work last came to something.
    pub progress: Progress,
    /// Where the log will end.
    pub predictor: PositionPredictor,
    /// Whether later jobs wait behind a dead one.
    pub hold_after_dead: bool,
}

/// What an engine is made of: the servers, connected, and what the domain brings.
pub struct Parts<D: Domain> {
    /// Events, receipts, sequence.
    pub store: Store,
    /// Where jobs come from.
    pub broker: Broker,
    /// One lock per aggregate.
    pub locks: Redlock,
    /// The domain's read models.
    pub projections: Vec<Arc<dyn Projection<D>>>,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
    /// The database's limit on a packet, in bytes.
    pub max_packet: u64,
    /// About how many bytes the states may take that are remembered.
    pub cache_bytes: usize,
    /// Whether later jobs wait behind a dead one that touches the same.
    pub hold_after_dead: bool,
}

impl<D: Domain> Engine<D> {
    /// An engine that has seen nothing yet. Its clock has to be set to the broker's.
    pub fn new(parts: Parts<D>) -> Self {
        let Parts { store, broker, locks, projections, metrics, max_packet, cache_bytes, hold_after_dead } = parts;
        let written = WrittenBuilds::new(Written::plain(&projections));
        Self {
            store,
            broker,
            max_packet,
            locks,
            lock_table: LockTable::default(),
            projections,
            written,
            cache: Cache::new(cache_bytes),
            clock: BrokerClock::default(),
            metrics,
            incidents: Incidents::default(),
            deciding: DecisionWatch::default(),
            head: CommittedHead::default(),
            read_policy: ReadPolicy::default(),
            progress: Progress::default(),
            predictor: PositionPredictor::default(),
            hold_after_dead,
        }
    }

    /// Asks the database which builds are to be written, and writes these from now on. The error says why it cannot: then nothing can be
    /// committed.
    pub async fn look_at_builds(&self) -> Result<(), String> {
        let (generation, builds) = self.store.builds().await.map_err(|error| error.to_string())?;
        let written =
            Written::of(&self.projections, generation, &builds).map_err(|unwritable| unwritable.to_string())?;
        self.metrics.generation(generation);
        self.written.set(written, builds);
        Ok(())
    }

    /// Takes note of the database's newest position, which was asked for when `known` was. States that rest on commits which
    /// are gone must not be used, so all of them are loaded again.
    pub fn note_head(&self, known: u64, head: u64) {
        let generation = self.cache.generation();
        if self.head.has_gone_back(known, head) && self.cache.forget(&generation) {
            self.tell_of_lost_commits(known, head);
        }
        self.metrics.head(Some(self.head.get()));
    }

    /// An event that states in the cache rest on, those of `generation`, is not in the log, whose newest position is `head`.
    pub(crate) fn lost_commits(&self, generation: &CacheGeneration, head: u64) {
        let known = self.head.get();
        self.head.has_gone_back(known, head);
        if self.cache.forget(generation) {
            self.tell_of_lost_commits(known, head);
        }
    }

    fn tell_of_lost_commits(&self, known: u64, head: u64) {
        self.metrics.went_back();
        tracing::error!(
            known,
            head,
            "the database has lost commits that it had confirmed; jobs whose receipts it lost run again when they are sent \
             again"
        );
    }
}
