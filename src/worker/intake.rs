//! Taking jobs in: new ones, and those of consumers that have gone quiet.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::Hand;
use crate::job::Entry;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Metrics, Source};
use crate::stream::{Broker, BrokerError, Reader};

/// What the intake loops share.
#[derive(Clone)]
pub struct Intake {
    /// The streams.
    pub broker: Broker,
    /// What is in hand already.
    pub hand: Hand,
    /// Where entries go.
    pub entries: mpsc::UnboundedSender<Vec<Entry>>,
    /// Says when to stop.
    pub lifecycle: Lifecycle,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The most entries of one read.
    pub read_count: usize,
}

/// Time between two looks for the entries of quiet consumers. Entries that a draining daemon hands back run within it.
const CLAIM_INTERVAL: Duration = Duration::from_millis(300);
/// Time between two looks at the schedule.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(100);
/// Due jobs per step, bounded because a script stops the broker while it runs.
const PROMOTE_COUNT: usize = 100;

impl Intake {
    /// Takes in what quiet consumers left behind, since it is older than everything new; then runs the three loops until
    /// the daemon drains.
    pub async fn run(self) {
        if let Err(error) = self.claim_once().await {
            tracing::warn!(%error, "the entries of quiet consumers cannot be claimed yet");
        }
        tokio::join!(self.clone().read(), self.clone().claim(), self.promote());
    }

    /// Reads new entries until the daemon drains. What a read brings after that is handed back.
    async fn read(self) {
        let mut reader: Option<Reader> = None;
        let mut failures = Failures::default();
        while self.lifecycle.is_running() {
            let mut open = match reader.take() {
                Some(reader) => reader,
                None => match self.broker.reader().await {
                    Ok(reader) => reader,
                    Err(error) => {
                        self.recover(&error, &mut failures).await;
                        continue;
                    }
                },
            };
            let mut room = tokio::select! {
                room = self.hand.room(self.streams(), self.read_count) => room,
                () = self.lifecycle.reached(Phase::Draining) => break,
            };
            // Never inside select!: a read that was sent may have entries assigned to us already.
            // COUNT is meant for each stream.
            match open.read((room.entries() / self.streams() as usize).max(1)).await {
                Ok(read) => {
                    failures = Failures::default();
                    self.metrics.polled(unix_seconds());
                    reader = Some(open);
                    if self.lifecycle.is_running() {
                        self.accept(read, &mut room, Source::New);
                    } else {
                        self.hand_back(read).await;
                    }
                }
                Err(error) => self.recover(&error, &mut failures).await,
            }
        }
    }

    /// Claims entries that nobody has touched for the configured time, until the daemon drains.
    async fn claim(self) {
        let mut failures = Failures::default();
        while self.lifecycle.is_running() {
            match self.claim_once().await {
                Ok(()) => {
                    failures = Failures::default();
                    self.sleep(CLAIM_INTERVAL).await;
                }
                Err(error) => self.recover(&error, &mut failures).await,
            }
        }
    }

    /// One look through all streams, from their oldest pending entry to their newest.
    async fn claim_once(&self) -> Result<(), BrokerError> {
        for stream in &self.broker.settings().names {
            let mut cursor = Some("0-0".to_owned());
            while let Some(from) = cursor.take().filter(|_| self.lifecycle.is_running()) {
                let mut room = tokio::select! {
                    room = self.hand.room(1, self.read_count) => room,
                    () = self.lifecycle.reached(Phase::Draining) => return Ok(()),
                };
                let claimed = self.broker.claim(stream, &from, room.entries()).await?;
                if claimed.lost > 0 {
                    tracing::error!(queue = %stream, lost = claimed.lost, "pending entries were deleted by somebody else");
                }
                self.accept(claimed.entries, &mut room, Source::Claimed);
                cursor = claimed.next;
            }
        }
        Ok(())
    }

    /// Moves due jobs from the schedule to their stream, until the daemon drains.
    async fn promote(self) {
        let mut failures = Failures::default();
        while self.lifecycle.is_running() {
            let mut most = 0;
            for stream in &self.broker.settings().names {
                match self.broker.promote(stream, PROMOTE_COUNT).await {
                    Ok(count) => most = most.max(count),
                    Err(error) => self.recover(&error, &mut failures).await,
                }
            }
            if most < PROMOTE_COUNT {
                self.sleep(PROMOTE_INTERVAL).await;
            }
        }
    }

    fn accept(&self, read: Vec<Entry>, room: &mut super::Room, source: Source) {
        let fresh: Vec<Entry> = read.into_iter().filter(|entry| self.hand.take(entry, room)).collect();
        fresh.iter().for_each(|entry| self.metrics.fetched(&entry.stream, source, 1));
        if !fresh.is_empty() {
            // The receiver outlives this loop: it ends when every sender has gone.
            let _ = self.entries.send(fresh);
        }
    }

    /// How many streams there are, or as many as there can be room for.
    fn streams(&self) -> u32 {
        u32::try_from(self.broker.settings().names.len()).unwrap_or(u32::MAX).min(self.hand.size())
    }

    async fn hand_back(&self, read: Vec<Entry>) {
        for stream in &self.broker.settings().names {
            let ids: Vec<_> = read.iter().filter(|entry| &*entry.stream == stream).map(|entry| entry.id).collect();
            if let Err(error) = self.broker.hand_back(stream, &ids).await {
                tracing::warn!(%error, jobs = ids.len(), "jobs could not be handed back; they are claimed later");
            }
        }
    }

    /// Waits after a failure, longer after each, and mends what can be mended from here.
    async fn recover(&self, error: &BrokerError, failures: &mut Failures) {
        if error.is_group_gone() {
            match self.broker.ensure_groups().await {
                Ok(created) => {
                    for queue in &created {
                        self.metrics.group_recreated(queue);
                        tracing::warn!(%queue, "the stream or its group was gone and has been created again");
                    }
                    if !created.is_empty() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, "the consumer group cannot be created"),
            }
        }
        tracing::warn!(%error, "the broker cannot be read; trying again");
        self.sleep(failures.next_delay()).await;
    }

    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.lifecycle.reached(Phase::Draining) => {}
        }
    }
}

/// Counts failures in a row.
#[derive(Default)]
struct Failures(u32);

impl Failures {
    /// From 100 ms to 3.2 s, with jitter, so that a fleet does not come back at one moment.
    fn next_delay(&mut self) -> Duration {
        let delay = Duration::from_millis(100 << self.0.min(5));
        self.0 += 1;
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
