//! Taking jobs in: from the streams that this process owns, and from their schedules.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::intake_status::State;
use super::{IntakeStatus, Prefetch, Room, Seats};
use crate::batch::Incidents;
use crate::job::{Entry, EntryId, HeldLetter};
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::{Metrics, Source};
use crate::stream::{Broker, BrokerError};

/// What the dispatcher is told.
#[derive(Debug)]
pub enum Supply {
    /// These entries are in hand.
    Read(Vec<Entry>),
    /// A reading has come to its end: what waits of it is to be dropped.
    Over,
    /// These letters hold later jobs of the stream; with `anew`, and no others.
    Held {
        /// The stream.
        stream: Arc<str>,
        /// Whether there are no others.
        anew: bool,
        /// The letters, none of which is in hand.
        letters: Vec<HeldLetter>,
    },
    /// The letters that were made of these entries hold nobody any more: their jobs are in hand, or they are dropped.
    LetGo {
        /// The stream.
        stream: Arc<str>,
        /// Those that are in hand now, and must have their places in the plan before anything behind them is let go.
        in_hand: Vec<Entry>,
        /// The entries.
        entries: Vec<EntryId>,
    },
}

/// What the intake loops share.
#[derive(Clone)]
pub struct Intake {
    /// The streams.
    pub broker: Broker,
    /// What is in hand already.
    pub prefetch: Prefetch,
    /// Where entries go.
    pub entries: mpsc::UnboundedSender<Supply>,
    /// What this process owns.
    pub seats: Seats,
    /// Says when to stop.
    pub lifecycle: Lifecycle,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Told of what it does; says when to wait for the database.
    pub reading: IntakeStatus,
    /// Keeps an outage from filling the log.
    pub incidents: Arc<Incidents>,
    /// The most entries of one read.
    pub read_count: usize,
    /// Whether later jobs wait behind a dead one.
    pub hold_after_dead: bool,
    /// The streams that have to be empty before others go on.
    pub first: Vec<String>,
}

/// Time between two looks at the schedule.
const PROMOTE_INTERVAL: Duration = Duration::from_millis(100);
/// Due jobs per step, bounded because a script stops the broker while it runs.
const PROMOTE_COUNT: usize = 100;

impl Intake {
    /// Waits for room for `least` entries, and says so when there is none.
    pub(super) async fn room(&self, least: u32) -> Room {
        let room = self.prefetch.room(least, self.read_count);
        tokio::pin!(room);
        tokio::select! {
            biased;
            room = &mut room => return room,
            () = std::future::ready(()) => self.reading.set(State::Full),
        }
        room.await
    }

    /// Moves due jobs from the schedule to their stream, for those streams that this process owns, until the daemon drains.
    pub(super) async fn promote(self) {
        let mut failures = Failures::default();
        while self.lifecycle.is_running() {
            let (mut most, mut refused) = (0, Vec::new());
            let held = self.seats.held();
            if held.iter().all(Option::is_none) {
                tokio::select! {
                    () = self.seats.changed(&held) => {}
                    () = self.lifecycle.reached(Phase::Draining) => {}
                }
                continue;
            }
            let owned = self.broker.settings().names.iter().zip(&held).filter(|(_, held)| held.is_some());
            // All at once, so that many streams cost one way there and back.
            let asked = owned.map(async |(stream, _)| (stream, self.broker.promote(stream, PROMOTE_COUNT).await));
            for (stream, promoted) in join_all(asked).await {
                match promoted {
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

    /// Takes in hand what is not there yet, and returns it.
    pub(super) fn take(&self, read: Vec<Entry>, room: &mut Room) -> Vec<Entry> {
        let fresh: Vec<Entry> =
            read.into_iter().filter_map(|mut entry| self.prefetch.take(&mut entry, room).then_some(entry)).collect();
        let kind = |entry: &Entry| if entry.deliveries.is_some() { Source::Claimed } else { Source::New };
        let alike = |one: &Entry, next: &Entry| one.stream == next.stream && kind(one) == kind(next);
        for entries in fresh.chunk_by(alike) {
            self.metrics.fetched(&entries[0].stream, kind(&entries[0]), entries.len() as u64);
        }
        if !fresh.is_empty() {
            self.metrics.read(fresh.len());
        }
        fresh
    }

    /// Passes entries in hand on.
    pub(super) fn pass_on(&self, fresh: Vec<Entry>) {
        if !fresh.is_empty() {
            // The receiver outlives this loop: it ends when every sender has gone.
            let _ = self.entries.send(Supply::Read(fresh));
        }
    }

    /// Pending entries were found deleted.
    pub(super) fn deleted(&self, stream: &str, lost: u64) {
        if lost > 0 {
            self.metrics.claim_deleted(stream, lost);
            tracing::error!(queue = %stream, lost, "pending entries were deleted by somebody else");
        }
    }

    /// Entries were found that no list had.
    pub(super) fn orphaned(&self, stream: &str, entries: u64) {
        if entries > 0 {
            self.metrics.entries_orphaned(stream, entries);
            tracing::warn!(
                queue = %stream,
                entries,
                "entries were neither unread nor pending: somebody else acknowledged them or moved the group; they are run"
            );
        }
    }

    /// Makes the groups that are gone, and returns their streams.
    pub(super) async fn make_groups(&self) -> Vec<String> {
        match self.broker.ensure_groups().await {
            Ok(made) => {
                for queue in &made {
                    self.metrics.group_recreated(queue);
                    tracing::warn!(%queue, "the stream or its group was gone and has been created again");
                }
                made
            }
            Err(error) => {
                self.tell(&error);
                Vec::new()
            }
        }
    }

    /// Waits for the next round over all streams, of which some had an error: after `pause`, so that one stream does not hold
    /// up the others, but after ever longer when none of them could be looked at.
    async fn go_on(&self, errors: &[BrokerError], failures: &mut Failures, pause: Duration) {
        errors.iter().for_each(|error| self.tell(error));
        if !errors.is_empty() && errors.len() == self.broker.settings().names.len() {
            return self.sleep(failures.next_delay()).await;
        }
        *failures = Failures::default();
        self.sleep(pause).await;
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

    pub(super) async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.lifecycle.reached(Phase::Draining) => {}
        }
    }
}

/// Counts failures in a row.
#[derive(Default)]
pub(super) struct Failures(u32);

impl Failures {
    /// From 100 ms to 1.6 s, with jitter, so that a fleet does not come back at one moment.
    pub(super) fn next_delay(&mut self) -> Duration {
        let delay = Duration::from_millis(100 << self.0.min(4));
        self.0 += 1;
        delay.mul_f64(rand::random_range(0.5..=1.0))
    }
}

pub(super) fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
