//! The loop of the thread: what each seat says is done, one after the other.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::known::{Fleet, Want};
use super::setup::{Hold, Order, Pulse, Setup, Since};
use crate::fail;
use crate::fleet::{Lease, Role, Seat, Step, Take, Tenancy};
use crate::metrics::{Released, TakenFrom, Taking};
use crate::stream::{BrokerError, LeaseLine, Name, Pause};

pub(super) struct Driver {
    pub setup: Setup,
    pub streams: Vec<String>,
    pub seats: Vec<Seat>,
    /// What the intake has of each stream.
    pub holds: Arc<[Hold]>,
    pub pulse: Pulse,
    pub since: Since,
    /// How many names of this process have been used.
    pub names: u64,
    pub line: Option<LeaseLine>,
    pub was_refused: bool,
    /// When the metrics were told last.
    pub shown: Instant,
    /// A daemon of an earlier version was seen.
    pub is_shared: bool,
    /// Whom else there is, and what is paused.
    pub fleet: Fleet,
    pub held: watch::Sender<Vec<Option<Take>>>,
    pub trusted_until: watch::Sender<Option<Instant>>,
    pub leases: watch::Sender<Vec<Lease>>,
    pub pauses: watch::Sender<Vec<Option<Pause>>>,
}

/// Whoever owns the first stream takes all, and a stream with a job that not everybody knows is for whoever does: it is left to that
/// one for so long.
const RESERVE: Duration = Duration::from_secs(1);

/// How long a release may take that nobody hears of otherwise.
const LAST_LIMIT: Duration = Duration::from_millis(300);

impl Driver {
    /// Between two turns the thread sleeps in the channel: a timer of the runtime would wake it up several times for each.
    pub fn run(mut self, runtime: &Runtime, orders: &mpsc::Receiver<Order>) {
        loop {
            let next = runtime.block_on(self.turn());
            self.publish();
            if self.settle() {
                continue;
            }
            match orders.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Order::Settled) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Unknown(number, want, until)) => {
                    let since = self.fleet.wants[number].take().map_or_else(Instant::now, |want| want.since);
                    self.fleet.wants[number] = Some(Want { skill: want, since, until });
                }
                Ok(Order::Leave) | Err(RecvTimeoutError::Disconnected) => return runtime.block_on(self.leave()),
            }
        }
    }

    /// Does all that is to be done now, and returns when the next thing is.
    async fn turn(&mut self) -> Instant {
        if fail::owns_all() {
            return Instant::now() + self.setup.times.look;
        }
        if self.setup.fitness.has_changed().unwrap_or(false) {
            self.ask_fleet().await;
        }
        self.look().await;
        self.wish();
        for number in 0..self.seats.len() {
            match self.seats[number].step(Instant::now()) {
                Step::Take(seen) => self.take(number, &seen).await,
                Step::Beat(tenancy) => self.beat(number, tenancy).await,
                Step::Release => self.release(number).await,
                Step::Look | Step::Wait(_) => {}
            }
        }
        let now = Instant::now();
        let next = self.seats.iter().map(|seat| match seat.step(now) {
            Step::Wait(until) => until,
            _ => now,
        });
        // A signal may come at any time.
        next.min().unwrap_or(now).min(now + self.setup.times.look)
    }

    /// Tells each seat what this process wants of its stream, as far as is known by now.
    fn wish(&mut self) {
        let (now, runs, is_fit) = (Instant::now(), self.runs(), self.setup.fitness.borrow().is_fit());
        let owns_first = self.seats.first().is_some_and(|seat| seat.held().is_some());
        let share = self.setup.spread.then(|| self.share(now));
        for (number, seat) in self.seats.iter_mut().enumerate() {
            let is_owned = seat.held().is_some();
            // An owner that is unfit keeps what it has, unless a peer can do the work; and what a peer knows, it leaves to that one.
            let leaves = self.fleet.known_to_peer(number, now).is_some()
                || share.is_some_and(|share| share.leaves == Some(number));
            let wishes = runs && (is_fit || is_owned) && !(is_owned && leaves);
            let wanted = &self.leases.borrow()[number].wants;
            let is_skilled = wanted.is_empty() || self.setup.skills.have(wanted);
            let is_first = share.map_or(number == 0 || owns_first, |share| share.takes) && is_skilled;
            seat.wish(wishes, if is_first { Duration::ZERO } else { RESERVE });
        }
    }

    /// Whether this process is to do any work.
    pub(super) fn runs(&self) -> bool {
        self.setup.lifecycle.is_running() && !self.setup.lifecycle.is_quiet()
    }

    /// Looks at all leases that want it in one exchange.
    async fn look(&mut self) {
        let asked = Instant::now();
        let due = |seat: &Seat| matches!(seat.step(asked), Step::Look);
        let numbers: Vec<usize> = (0..self.seats.len()).filter(|number| due(&self.seats[*number])).collect();
        if numbers.is_empty() {
            return;
        }
        let names: Vec<String> = numbers.iter().map(|number| self.streams[*number].clone()).collect();
        let found = self.ask(async |line| line.look(&names).await).await;
        let now = Instant::now();
        match found {
            Some(leases) => {
                for (number, lease) in numbers.into_iter().zip(leases) {
                    self.leases.send_modify(|leases| leases[number] = lease.clone());
                    self.seats[number].looked(asked, now, lease);
                }
            }
            None => numbers.into_iter().for_each(|number| self.seats[number].unanswered(now)),
        }
    }

    async fn take(&mut self, number: usize, seen: &Lease) {
        let (stream, id, host) =
            (self.streams[number].clone(), self.seats[number].id().to_owned(), self.setup.host.clone());
        if self.ask(async |line| line.is_shared(&stream).await).await != Some(false) {
            if !std::mem::replace(&mut self.is_shared, true) {
                tracing::info!(queue = %stream, "a daemon of an earlier version reads the stream; this one stands by");
            }
            return self.seats[number].unanswered(Instant::now());
        }
        self.is_shared = false;
        let sent = Instant::now();
        let name = Name { id: &id, host: &host };
        let taken = self.ask(async |line| line.take(&stream, seen, name).await).await;
        let now = Instant::now();
        let Some(taken) = taken else { return self.seats[number].unanswered(now) };
        self.seats[number].took(sent, now, taken);
        if let Some(take) = taken {
            self.holds[number].begin_anew();
            self.setup.metrics.took(Taking::Take, now.duration_since(sent));
            self.since.taken(sent);
            let is_free = seen.tenancy == Tenancy::Free;
            // What it may have begun, it may have locked.
            if !take.is_clean && !seen.id.is_empty() && !self.lives_on(number, &seen.id, now) {
                (self.setup.succeed)(&seen.id);
            }
            self.setup.metrics.taken(&stream, if is_free { TakenFrom::Free } else { TakenFrom::Silent });
            tracing::info!(
                queue = %stream, epoch = take.epoch, from = if is_free { "nobody" } else { seen.host.as_str() },
                "this daemon owns the stream and runs its jobs"
            );
        }
    }

    /// Whether whoever was silent here is not where it owns another stream: then its locks are in use.
    fn lives_on(&self, number: usize, id: &str, now: Instant) -> bool {
        let of = |id: &str| id.rsplit_once('-').map(|(process, _)| process.to_owned());
        let leases = self.leases.borrow();
        let others = self.seats.iter().zip(&*leases).enumerate().filter(|(other, _)| *other != number);
        let mut its = others.filter(|(_, (_, lease))| lease.tenancy != Tenancy::Free && of(&lease.id) == of(id));
        its.any(|(_, (seat, _))| seat.silent_for(now).is_some_and(|silent| silent < self.setup.times.lease))
    }

    async fn beat(&mut self, number: usize, tenancy: Tenancy) {
        let sent = Instant::now();
        if self.pulse.age() > self.setup.times.lease && !(self.setup.decides)() {
            return self.seats[number].held_back(sent);
        }
        let until = self.seats[number].trusted_until();
        let is_ours = self.say(number, (tenancy, false), "").await;
        if let (Some(true), Some(until)) = (is_ours, until) {
            self.setup.metrics.beaten_before(until.saturating_duration_since(Instant::now()));
        }
        self.seats[number].beaten(sent, is_ours);
        if is_ours == Some(false) {
            self.setup.metrics.lost_to_another(&self.streams[number]);
            tracing::warn!(queue = %self.streams[number], "another daemon has taken the stream; what waits is left to it");
        }
    }

    async fn release(&mut self, number: usize) {
        // Unless it is settled, it may leave something behind.
        let is_clean = self.seats[number].is_settled() && self.holds[number].is_told();
        let wants = self.fleet.known_to_peer(number, Instant::now()).map(str::to_owned);
        self.fleet.wants[number] = None;
        if self.say(number, (Tenancy::Free, is_clean), wants.as_deref().unwrap_or_default()).await == Some(true) {
            let why = if wants.is_some() { Released::Unknown } else { self.why_released() };
            self.setup.metrics.left_to_others(&self.streams[number], why);
            tracing::info!(queue = %self.streams[number], why = why.as_str(), "the stream is left to others");
        }
        let name = self.new_name();
        self.seats[number].released(Instant::now(), name);
    }

    async fn say(&mut self, number: usize, what: (Tenancy, bool), wants: &str) -> Option<bool> {
        let (stream, id, host) =
            (self.streams[number].clone(), self.seats[number].id().to_owned(), self.setup.host.clone());
        let epoch = self.seats[number].epoch();
        let name = Name { id: &id, host: &host };
        self.ask(async |line| line.beat(&stream, name, epoch, what, wants).await).await
    }

    /// Asks the broker, on a new line if the last one failed; `None` when there is no answer in time.
    pub(super) async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut LeaseLine) -> Result<T, BrokerError>,
    ) -> Option<T> {
        // What takes longer than the lease is of no use any more.
        let limit = self.setup.times.lease;
        let answer = async {
            let mut line = match self.line.take().filter(LeaseLine::is_current) {
                Some(line) => line,
                None => self.setup.broker.lease_line(limit).await?,
            };
            let answer = question(&mut line).await?;
            Ok::<_, BrokerError>((line, answer))
        };
        let answer = tokio::time::timeout(CONNECT_LIMIT + limit, answer).await.ok()?;
        match answer {
            Ok((line, answer)) => {
                (self.line, self.was_refused) = (Some(line), false);
                Some(answer)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.was_refused, true) {
                    tracing::warn!(%error, "who owns the streams cannot be looked at or said; trying again");
                }
                None
            }
        }
    }

    fn why_released(&self) -> Released {
        if !self.setup.lifecycle.is_running() {
            Released::Drain
        } else if self.setup.lifecycle.is_quiet() {
            Released::Quiet
        } else if self.setup.spread && self.setup.fitness.borrow().is_fit() {
            Released::Balance
        } else {
            Released::Unfit
        }
    }

    /// What this process is called when it takes a stream the next time.
    pub(super) fn new_name(&mut self) -> String {
        self.names += 1;
        format!("{}-{}", self.setup.id, self.names)
    }

    /// Streams that are not held any more, and of which nothing is in flight, may be left. Returns whether there was one.
    fn settle(&mut self) -> bool {
        let (mut is_news, now) = (false, Instant::now());
        for number in 0..self.seats.len() {
            if self.seats[number].is_left() && !self.holds[number].is_busy() {
                let name = self.new_name();
                self.seats[number].settled(now, name);
                is_news = true;
            }
        }
        is_news
    }

    async fn leave(&mut self) {
        for number in 0..self.seats.len() {
            self.seats[number].leave();
            if matches!(self.seats[number].step(Instant::now()), Step::Release) {
                let _ = tokio::time::timeout(LAST_LIMIT, self.release(number)).await;
            }
        }
        let _ = tokio::time::timeout(LAST_LIMIT, self.dismiss()).await;
        self.publish();
    }

    /// Tells what is held, and until when.
    fn publish(&mut self) {
        let seats = self.seats.iter().enumerate();
        let mut held: Vec<Option<Take>> = seats
            .map(|(number, seat)| seat.held().and_then(|take| self.fleet.open(number, take, &self.holds[number])))
            .collect();
        let mut until = self.seats.iter().filter_map(Seat::trusted_until).min();
        if fail::owns_all() {
            held.fill(self.runs().then_some(Take { epoch: 1, is_clean: false }));
            until = Some(Instant::now() + self.setup.times.lease);
        }
        let leases = self.leases.borrow();
        let is_shared = self
            .seats
            .iter()
            .zip(&*leases)
            .any(|(seat, lease)| seat.role(Instant::now()) == Role::StandingBy && lease.tenancy != Tenancy::Free);
        drop(leases);
        (self.setup.share)(is_shared);
        self.trusted_until.send_replace(until);
        self.pauses.send_if_modified(|current| {
            let is_news = *current != self.fleet.pauses;
            if is_news {
                current.clone_from(&self.fleet.pauses);
            }
            is_news
        });
        let is_news = self.held.send_if_modified(|current| {
            let is_news = *current != held;
            *current = held;
            is_news
        });
        // Of many streams it costs more than to look at them.
        if is_news || self.shown.elapsed() >= SHOW {
            self.shown = Instant::now();
            self.show();
        }
    }

    /// What the metrics say.
    fn show(&self) {
        let now = Instant::now();
        let role = self.seats.iter().map(|seat| seat.role(now)).max().unwrap_or(Role::StandingBy);
        self.setup.metrics.role(&Role::ALL.map(Role::as_str), role.as_str());
        for (stream, seat) in self.streams.iter().zip(&self.seats) {
            let silent = seat.silent_for(now).map(|time| time.as_secs_f64());
            self.setup.metrics.owner(stream, seat.held().is_some(), seat.epoch(), silent);
        }
    }
}

/// The longest time between two updates of the metrics.
const SHOW: Duration = Duration::from_millis(500);

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_millis(3000);
