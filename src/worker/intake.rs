//! Taking jobs in: new ones, and those of consumers that have gone quiet.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::appetite::Appetite;
use super::ebb::ebb;
use super::reading::State;
use super::{Hand, Reading, Room};
use crate::batch::Incidents;
use crate::job::Entry;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Metrics, Source};
use crate::stream::{Broker, BrokerError, LARGE_ANSWER, Reader};

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
    /// Told of what it does; says when to wait for the database.
    pub reading: Reading,
    /// Keeps an outage from filling the log.
    pub incidents: Arc<Incidents>,
    /// The most entries of one read.
    pub read_count: usize,
}

/// Time between two looks at the schedule.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(100);
/// Due jobs per step, bounded because a script stops the broker while it runs.
const PROMOTE_COUNT: usize = 100;

impl Intake {
    /// Takes in what quiet consumers left behind, since it is older than everything new; then runs the three loops until
    /// the daemon drains. Returns how many entries a last read brought, which were handed back.
    pub async fn run(self) -> usize {
        for error in self.scan(true).await {
            self.tell(&error);
        }
        let hand = self.hand.clone();
        let loops = async { tokio::join!(self.clone().read(), self.clone().claim(), self.promote()) };
        tokio::select! {
            (handed_back, (), ()) = loops => handed_back,
            () = ebb(&hand) => 0,
        }
    }

    /// Reads new entries until the daemon drains. What a read brings after that is handed back.
    async fn read(self) -> usize {
        let mut handed_back = 0;
        let (mut reader, mut has_read): (Option<Reader>, bool) = (None, false);
        let mut failures = Failures::default();
        let mut appetite = Appetite::default();
        while self.lifecycle.is_running() {
            if self.lifecycle.is_quiet() {
                self.reading.set(State::Quiet);
                self.lifecycle.awake().await;
            }
            if self.reading.is_store_away() {
                self.reading.set(State::StoreAway);
                self.reading.with_store(&self.lifecycle).await;
            }
            let mut open = match reader.take().filter(Reader::is_current) {
                Some(reader) => reader,
                None => match self.open(std::mem::replace(&mut has_read, true)).await {
                    Ok(reader) => reader,
                    Err(error) => {
                        self.reading.failed(&error);
                        self.recover(&error, &mut failures).await;
                        continue;
                    }
                },
            };
            let mut room = tokio::select! {
                room = self.room() => room,
                () = self.lifecycle.reached(Phase::Draining) => break,
            };
            // Never inside select!: a read that was sent may have entries assigned to us already.
            // COUNT is meant for each stream.
            match open.read(appetite.count(room.entries() / self.streams() as usize)).await {
                Ok(read) => {
                    match open.refusal() {
                        // Mended at once if it can be; else the streams that can be read wait for nothing.
                        Some(error) if error.is_group_gone() => self.recover(&error, &mut failures).await,
                        Some(error) => self.tell(&error),
                        None => failures = Failures::default(),
                    }
                    self.reading.set(State::Reads);
                    self.metrics.polled(unix_seconds());
                    appetite.fed(read.iter().map(Entry::bytes));
                    // A connection keeps room for the largest answer that it ever had.
                    let is_swollen = read.iter().map(Entry::bytes).sum::<usize>() > LARGE_ANSWER;
                    reader = (!is_swollen).then_some(open);
                    if self.lifecycle.is_running() {
                        self.accept(read, &mut room, Source::New);
                    } else {
                        handed_back += read.len();
                        self.hand_back(read).await;
                    }
                }
                Err(error) => {
                    appetite.choked();
                    self.reading.failed(&error);
                    self.recover(&error, &mut failures).await;
                }
            }
        }
        handed_back
    }

    /// Opens a reader. What the last one was sent and has not brought is older than all that this one will read, so it is
    /// taken in first: once the last read cannot be served any more.
    async fn open(&self, after_another: bool) -> Result<Reader, BrokerError> {
        let reader = self.broker.reader().await?;
        if !after_another {
            return Ok(reader);
        }
        self.sleep(self.broker.settings().block).await;
        for stream in &self.broker.settings().names {
            match self.take_assigned(stream).await {
                // The read will say the same, and stops none of the others either.
                Err(error) if error.is_about_keys() || error.is_group_gone() => self.tell(&error),
                taken => taken?,
            }
        }
        Ok(reader)
    }

    /// Waits for room for a read, and says so when there is none.
    async fn room(&self) -> Room {
        let room = self.hand.room(self.streams(), self.read_count);
        tokio::pin!(room);
        tokio::select! {
            biased;
            room = &mut room => return room,
            () = std::future::ready(()) => self.reading.set(State::Full),
        }
        room.await
    }

    /// Moves due jobs from the schedule to their stream, until the daemon drains.
    async fn promote(self) {
        let mut failures = Failures::default();
        while self.lifecycle.is_running() {
            let (mut most, mut refused) = (0, Vec::new());
            for stream in &self.broker.settings().names {
                match self.broker.promote(stream, PROMOTE_COUNT).await {
                    Ok(count) => {
                        self.metrics.promoted(stream, count);
                        most = most.max(count);
                    }
                    Err(error) => refused.push(error),
                }
            }
            let pause = if most < PROMOTE_COUNT { PROMOTE_INTERVAL } else { Duration::ZERO };
            self.go_on(&refused, &mut failures, pause).await;
        }
    }

    pub(super) fn accept(&self, read: Vec<Entry>, room: &mut super::Room, source: Source) {
        let fresh: Vec<Entry> = read.into_iter().filter(|entry| self.hand.take(entry, room)).collect();
        for of_stream in fresh.chunk_by(|one, next| one.stream == next.stream) {
            self.metrics.fetched(&of_stream[0].stream, source, of_stream.len() as u64);
        }
        if !fresh.is_empty() {
            self.metrics.read(fresh.len());
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
            let ours = read.iter().filter(|entry| &*entry.stream == stream);
            let entries: Vec<_> = ours.map(|entry| (entry.id, 0)).collect();
            if let Err(error) = self.broker.hand_back(stream, &entries).await {
                tracing::warn!(%error, jobs = entries.len(), "jobs could not be handed back; they are claimed later");
            }
        }
    }

    /// Waits for the next round over all streams, of which some had an error: after `pause`, so that one stream does not hold
    /// up the others, but after ever longer when none of them could be looked at.
    pub(super) async fn go_on(&self, errors: &[BrokerError], failures: &mut Failures, pause: Duration) {
        let all = errors.len() == self.broker.settings().names.len();
        let mendable = errors.iter().find(|error| error.is_group_gone());
        match mendable.or_else(|| errors.first().filter(|_| all)) {
            Some(error) => self.recover(error, failures).await,
            None => {
                errors.iter().for_each(|error| self.tell(error));
                *failures = Failures::default();
                self.sleep(pause).await;
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
                Err(error) => self.tell(&error),
            }
        }
        self.tell(error);
        self.sleep(failures.next_delay()).await;
    }

    /// Logs a failure, once a second for each cause, whichever of the loops meets it.
    pub(super) fn tell(&self, error: &BrokerError) {
        if error.is_about_keys() {
            self.broker.doubt();
        }
        if self.incidents.is_news(error.cause()) {
            tracing::warn!(%error, cause = error.cause(), "the broker cannot be used; trying again");
        }
    }

    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.lifecycle.reached(Phase::Draining) => {}
        }
    }
}

/// Keeps the entries in hand alive, as long as it is polled: also while the daemon drains.
pub async fn keep_alive(broker: Broker, hand: Hand, heartbeat: Duration, incidents: Arc<Incidents>) {
    let mut ticks = tokio::time::interval(heartbeat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for stream in &broker.settings().names {
            let ids: Vec<_> = hand.entries(stream).into_iter().map(|(id, _)| id).collect();
            // Fewer may be ours than were in hand a moment ago, since some have been acknowledged meanwhile.
            if let Err(error) = broker.keep_alive(stream, &ids).await
                && incidents.is_news("keep_alive")
            {
                tracing::warn!(queue = %stream, %error, "the jobs in hand cannot be kept alive");
            }
        }
    }
}

/// Counts failures in a row.
#[derive(Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// From 100 ms to 1.6 s, with jitter, so that a fleet does not come back at one moment.
    fn next_delay(&mut self) -> Duration {
        let delay = Duration::from_millis(100 << self.0.min(4));
        self.0 += 1;
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
