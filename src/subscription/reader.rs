//! One subscription: waits for its turn, then reads page by page until it is somebody else's, stopped, or the daemon drains.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use uuid::Uuid;

use super::seat::Seat;
use super::settings::{FIRST_PAGE, FOLD, MOST_PARKED, Settings};
use crate::batch::Engine;
use crate::domain::Domain;
use crate::lifecycle::{Lifecycle, Phase};
use crate::metrics::PageOutcome;
use crate::page::{self, Done, Failure, Fold, Place, Reading};
use crate::projection::Source;
use crate::store::sql::Tables;
use crate::store::{Checkpoint, Leave, ParkedAggregates, StoreError};

/// Pauses before an event that fails is tried again.
const TRIES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)];

/// For how long a subscription that a newer program has to read is left to it.
const LEFT_TO_NEWER: Duration = Duration::from_secs(30);

/// With more events than this in a page that is not full, pages follow each other so many times more slowly.
const BUSY: usize = 100;
const SLOWER: u32 = 5;

/// How long a drain waits for a page, and for the subscription to be left.
const LEFT_WITHIN: Duration = Duration::from_millis(500);

/// What is known of all checkpoints; empty before the first look.
pub(super) type Looks = watch::Receiver<Vec<Checkpoint>>;

pub(super) struct Reader<D: Domain> {
    pub engine: Arc<Engine<D>>,
    pub source: Source<D>,
    pub name: String,
    pub tables: Tables,
    pub lifecycle: Lifecycle,
    pub settings: Settings,
    pub holder: String,
    pub is_owner: Arc<dyn Fn() -> bool + Send + Sync>,
    pub looks: Looks,
}

/// A subscription while it is ours.
struct Turn {
    token: Uuid,
    position: u64,
    /// The most events of the next page.
    limit: u32,
    /// An event fails, and has been tried so often.
    tries: usize,
    failures: u32,
    beaten: Instant,
    /// Of these aggregates events are parked, and how many.
    parked: (ParkedAggregates, u64),
}

/// What comes after a page.
enum Next {
    GoOn,
    /// It is somebody else's.
    Lost,
    /// Nobody is to read it before that moment, or never if it says so.
    Left(Option<Instant>),
}

impl<D: Domain> Reader<D> {
    /// Reads until the daemon drains.
    pub async fn run(mut self) {
        let (mut seat, mut not_before) = (Seat::default(), None);
        while self.lifecycle.is_running() {
            tokio::select! {
                changed = self.looks.changed() => if changed.is_err() { return },
                () = self.lifecycle.reached(Phase::Draining) => return,
            }
            let name = &*self.name;
            let seen = self.looks.borrow_and_update().iter().find(|checkpoint| checkpoint.name == name).cloned();
            let Some(seen) = seen else { continue };
            let is_due = seat.looked(Instant::now(), &seen, self.settings.lease, (self.is_owner)());
            if !is_due || self.lifecycle.is_quiet() || not_before.is_some_and(|moment| Instant::now() < moment) {
                continue;
            }
            let token = Uuid::new_v4();
            if !matches!(self.engine.store.take_checkpoint(&seen, token, &self.holder).await, Ok(true)) {
                continue;
            }
            self.engine.metrics.subscription_taken(name);
            tracing::info!(subscription = name, position = seen.position, "this daemon reads the subscription");
            // A page that nobody waits for any more may still be committed, with its checkpoint.
            not_before = tokio::select! {
                until = self.read(token, &seen) => until,
                () = self.is_drained() => return,
            };
            self.engine.metrics.subscription_owned(name, false);
            seat.forget();
        }
    }

    /// Reads on from `seen` for as long as the subscription is ours. Returns until when it is to be left alone.
    async fn read(&self, token: Uuid, seen: &Checkpoint) -> Option<Instant> {
        let mut fold = Fold::new(FOLD);
        let name = &*self.name;
        self.engine.metrics.subscription_owned(name, true);
        let mut turn = Turn {
            token,
            position: seen.position,
            limit: FIRST_PAGE,
            tries: 0,
            failures: 0,
            beaten: Instant::now(),
            parked: Default::default(),
        };
        if let Next::Left(until) = self.know_parked(&mut turn).await {
            return until;
        }
        if seen.is_of_another_log() {
            let reason = format!("the log has another event at position {} than the one that was done", seen.position);
            self.leave(&turn, Leave::Stopped(&reason)).await;
            return None;
        }
        loop {
            if !self.lifecycle.is_running() || self.lifecycle.is_quiet() {
                self.leave(&turn, Leave::Free).await;
                return None;
            }
            let began = Instant::now();
            let place = Place { name, token, position: turn.position, tables: self.tables };
            let reading = Reading { code: self.source.code(), fold: &mut fold, parked: &turn.parked.0 };
            let page = page::run(&self.engine.store, reading, place, (turn.limit, self.engine.max_packet)).await;
            let next = match page {
                Ok(Some(done)) => {
                    self.done(&mut turn, began, done).await;
                    Next::GoOn
                }
                Ok(None) => self.idle(&mut turn).await,
                Err(failure) => self.failed(&mut turn, failure).await,
            };
            match next {
                Next::GoOn => {}
                Next::Lost => {
                    tracing::warn!(subscription = name, "somebody else has the subscription, or it is paused");
                    return None;
                }
                Next::Left(until) => return until,
            }
        }
    }

    /// A page is committed: the next one follows at once if this one was full.
    async fn done(&self, turn: &mut Turn, began: Instant, done: Done) {
        let name = &*self.name;
        self.engine.metrics.page(name, PageOutcome::Ok, Some((done.events, began.elapsed())));
        let was_full = done.events >= turn.limit as usize;
        let weight = (done.bytes / done.events.max(1)).max(1);
        let by_weight = (self.settings.page_bytes as usize / weight).max(1) as u32;
        turn.limit = turn.limit.saturating_mul(2).min(self.settings.page_events).min(by_weight);
        (turn.position, turn.tries, turn.failures, turn.beaten) = (done.position, 0, 0, Instant::now());
        if !was_full {
            // Under load a commit for each few events would cost those who write them.
            let pace = if done.events > BUSY { self.settings.pace * SLOWER } else { self.settings.pace };
            self.sleep(pace.saturating_sub(began.elapsed())).await;
        }
    }

    /// There is nothing to read: waits for an event of this process, or for as long as one of another may go unseen.
    async fn idle(&self, turn: &mut Turn) -> Next {
        let name = &*self.name;
        if turn.beaten.elapsed() >= self.settings.lease / 4 {
            match self.engine.store.beat_checkpoint(name, turn.token).await {
                Ok(true) => turn.beaten = Instant::now(),
                Ok(false) => return Next::Lost,
                Err(error) => return self.refused(turn, &error).await,
            }
        }
        tokio::select! {
            () = self.engine.head.is_beyond(turn.position) => {}
            () = self.sleep(self.settings.poll) => {}
        }
        Next::GoOn
    }

    async fn failed(&self, turn: &mut Turn, failure: Failure) -> Next {
        let (name, metrics) = (&*self.name, &self.engine.metrics);
        let text = failure.to_string();
        match failure {
            Failure::Store(StoreError::Fenced(_)) => {
                metrics.page(name, PageOutcome::Fenced, None);
                Next::Lost
            }
            Failure::Store(StoreError::Unknown(_)) => self.look_up(turn).await,
            Failure::Store(StoreError::Data(_) | StoreError::Undecodable(_)) => self.narrow(turn, None, &text).await,
            Failure::Store(error) => self.refused(turn, &error).await,
            Failure::Poison { position, .. } => self.narrow(turn, Some(position), &text).await,
            Failure::Newer(position, ..) if position > turn.position + 1 => {
                turn.limit = u32::try_from(position - turn.position - 1).unwrap_or(1);
                Next::GoOn
            }
            Failure::Newer(_, event_type, version) => {
                self.leave(turn, Leave::Waits(&format!("waits for a program that reads {event_type} v{version}")))
                    .await;
                Next::Left(Some(Instant::now() + LEFT_TO_NEWER))
            }
            Failure::Gap(_) => {
                metrics.log_gap();
                self.leave(turn, Leave::Stopped(&text)).await;
                Next::Left(None)
            }
        }
    }

    /// Something of a page is refused: smaller ones show what. An event that stands alone is tried again, and then it stops the
    /// subscription.
    async fn narrow(&self, turn: &mut Turn, position: Option<u64>, why: &str) -> Next {
        self.engine.metrics.page(&self.name, PageOutcome::Refused, None);
        if turn.limit > 1 {
            // What comes before an event that cannot be read is done first.
            let before = position.map_or(0, |position| position.saturating_sub(turn.position + 1));
            turn.limit = if before > 0 { u32::try_from(before).unwrap_or(1) } else { turn.limit / 2 };
            return Next::GoOn;
        }
        let Some(pause) = TRIES.get(turn.tries) else {
            if matches!(self.source, Source::States(_)) && turn.parked.1 < MOST_PARKED {
                return self.park(turn, why).await;
            }
            let position = turn.position + 1;
            let reason =
                if why.starts_with("position") { why.to_owned() } else { format!("position {position}: {why}") };
            self.leave(turn, Leave::Stopped(&reason)).await;
            return Next::Left(None);
        };
        turn.tries += 1;
        self.sleep(*pause).await;
        Next::GoOn
    }

    /// Goes past the next event, and from then on past all of its aggregate: everything else goes on.
    async fn park(&self, turn: &mut Turn, why: &str) -> Next {
        let reason: String = why.chars().take(500).collect();
        let place = Place { name: &self.name, token: turn.token, position: turn.position, tables: self.tables };
        match page::run_past(&self.engine.store, self.source.code(), place, &reason).await {
            Ok(Some(done)) => {
                tracing::error!(subscription = &*self.name, position = done.position, why, "an event is parked");
                (turn.position, turn.tries, turn.failures) = (done.position, 0, 0);
                self.know_parked(turn).await
            }
            Ok(None) => Next::GoOn,
            Err(Failure::Store(StoreError::Fenced(_))) => Next::Lost,
            Err(Failure::Store(StoreError::Unknown(_))) => self.look_up(turn).await,
            Err(Failure::Store(error)) => self.refused(turn, &error).await,
            Err(failure) => {
                self.leave(turn, Leave::Stopped(&failure.to_string())).await;
                Next::Left(None)
            }
        }
    }

    /// Asks what is parked. What does not know it is not read.
    async fn know_parked(&self, turn: &mut Turn) -> Next {
        if matches!(self.source, Source::Log(_)) {
            return Next::GoOn;
        }
        match self.engine.store.parked_aggregates(&self.name).await {
            Ok(parked) => {
                turn.parked = parked;
                Next::GoOn
            }
            Err(error) => {
                if self.engine.incidents.is_news("subscription") {
                    tracing::warn!(subscription = &*self.name, %error, "nobody knows what is parked; trying again");
                }
                self.leave(turn, Leave::Free).await;
                Next::Left(None)
            }
        }
    }

    /// Nothing is wrong with the page: it is tried again, for ever.
    async fn refused(&self, turn: &mut Turn, error: &StoreError) -> Next {
        let outcome = if matches!(error, StoreError::Repeat(_)) { PageOutcome::Repeat } else { PageOutcome::Error };
        self.engine.metrics.page(&self.name, outcome, None);
        if outcome == PageOutcome::Error && self.engine.incidents.is_news("subscription") {
            tracing::warn!(subscription = &self.name, %error, "the subscription cannot be read; trying again");
        }
        let pause = Duration::from_millis(50 << turn.failures.min(5));
        turn.failures += 1;
        self.sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
        Next::GoOn
    }

    /// Nobody knows whether a page was committed: the checkpoint does.
    async fn look_up(&self, turn: &mut Turn) -> Next {
        let name = &*self.name;
        match self.engine.store.checkpoints().await {
            Ok(checkpoints) => match checkpoints.into_iter().find(|checkpoint| checkpoint.name == name) {
                Some(now) if now.token == Some(turn.token) => {
                    (turn.position, turn.tries) = (now.position, 0);
                    self.know_parked(turn).await
                }
                _ => Next::Lost,
            },
            Err(error) => self.refused(turn, &error).await,
        }
    }

    async fn leave(&self, turn: &Turn, why: Leave<'_>) {
        let name = &*self.name;
        let shortened: String;
        let why = match why {
            Leave::Free => Leave::Free,
            Leave::Waits(reason) | Leave::Stopped(reason) => {
                shortened = reason.chars().take(500).collect();
                if matches!(why, Leave::Stopped(_)) {
                    tracing::error!(subscription = name, reason, "the subscription is stopped");
                    Leave::Stopped(&shortened)
                } else {
                    tracing::warn!(subscription = name, reason, "the subscription is left to a newer program");
                    Leave::Waits(&shortened)
                }
            }
        };
        // Whoever waits finds out by its silence if this does not arrive.
        let left = self.engine.store.leave_checkpoint(name, turn.token, why);
        if !matches!(tokio::time::timeout(LEFT_WITHIN, left).await, Ok(Ok(()))) {
            tracing::warn!(subscription = name, "the subscription could not be left: others wait for its lease");
        }
    }

    /// Waits for the drain, and then for as long as it may wait for a page and for the subscription to be left.
    async fn is_drained(&self) {
        self.lifecycle.reached(Phase::Draining).await;
        tokio::time::sleep(LEFT_WITHIN * 2).await;
    }

    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.lifecycle.reached(Phase::Draining) => {}
        }
    }
}
