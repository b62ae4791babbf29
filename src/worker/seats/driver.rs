//! The loop of the thread: what each seat says is done, one after the other.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::setup::{Order, Pulse, Setup};
use crate::fail;
use crate::fleet::{Lease, Seat, Step, Take, Tenancy};
use crate::metrics::TakenFrom;
use crate::stream::{BrokerError, LeaseLine, Name};

pub(super) struct Driver {
    pub setup: Setup,
    pub streams: Vec<String>,
    pub seats: Vec<Seat>,
    /// Whether each stream was settled with the broker knowing of every end.
    pub is_clean: Vec<bool>,
    pub pulse: Pulse,
    /// How many names of this process have been used.
    pub names: u64,
    pub line: Option<LeaseLine>,
    pub was_refused: bool,
    /// A daemon of an earlier version was seen.
    pub is_shared: bool,
    pub held: watch::Sender<Vec<Option<Take>>>,
    pub trusted_until: watch::Sender<Option<Instant>>,
    pub leases: watch::Sender<Vec<Lease>>,
}

/// Whoever owns the first stream takes all: the others are left to it for so long.
const RESERVE: Duration = Duration::from_secs(1);

/// How long a release may take that nobody hears of otherwise.
const LAST_LIMIT: Duration = Duration::from_millis(300);

impl Driver {
    pub async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let next = self.turn().await;
            self.publish();
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Settled(stream, is_told)) => self.settled(stream, is_told),
                    Some(Order::Leave) | None => return self.leave().await,
                },
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Does all that is to be done now, and returns when the next thing is.
    async fn turn(&mut self) -> Instant {
        if fail::owns_all() {
            return Instant::now() + self.setup.times.look;
        }
        let (is_fit, owns_first) = (self.is_fit(), self.seats.first().is_some_and(|seat| seat.held().is_some()));
        for (number, seat) in self.seats.iter_mut().enumerate() {
            seat.wish(is_fit, if number == 0 || owns_first { Duration::ZERO } else { RESERVE });
        }
        self.look().await;
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

    fn is_fit(&self) -> bool {
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
            self.is_clean[number] = true;
            let is_free = seen.tenancy == Tenancy::Free;
            if !is_free {
                (self.setup.succeed)(&seen.id);
            }
            self.setup.metrics.taken(&stream, if is_free { TakenFrom::Free } else { TakenFrom::Silent });
            tracing::info!(
                queue = %stream, epoch = take.epoch, from = if is_free { "nobody" } else { seen.host.as_str() },
                "this daemon owns the stream and runs its jobs"
            );
        }
    }

    async fn beat(&mut self, number: usize, tenancy: Tenancy) {
        let sent = Instant::now();
        if self.pulse.age() > self.setup.times.lease && !(self.setup.decides)() {
            return self.seats[number].held_back(sent);
        }
        let is_ours = self.say(number, (tenancy, false)).await;
        self.seats[number].beaten(sent, is_ours);
        if is_ours == Some(false) {
            self.setup.metrics.lost_to_another(&self.streams[number]);
            tracing::warn!(queue = %self.streams[number], "another daemon has taken the stream; what waits is left to it");
        }
    }

    async fn release(&mut self, number: usize) {
        let is_clean = self.is_clean[number];
        if self.say(number, (Tenancy::Free, is_clean)).await == Some(true) {
            self.setup.metrics.left_to_others(&self.streams[number]);
            tracing::info!(queue = %self.streams[number], "the stream is left to others");
        }
        let name = self.new_name();
        self.seats[number].released(Instant::now(), name);
    }

    async fn say(&mut self, number: usize, what: (Tenancy, bool)) -> Option<bool> {
        let (stream, id, host) =
            (self.streams[number].clone(), self.seats[number].id().to_owned(), self.setup.host.clone());
        let epoch = self.seats[number].epoch();
        let name = Name { id: &id, host: &host };
        self.ask(async |line| line.beat(&stream, name, epoch, what).await).await
    }

    /// Asks the broker, on a new line if the last one failed; `None` when there is no answer in time.
    async fn ask<T>(&mut self, question: impl AsyncFnOnce(&mut LeaseLine) -> Result<T, BrokerError>) -> Option<T> {
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

    /// What this process is called when it takes a stream the next time.
    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("{}-{}", self.setup.id, self.names)
    }

    fn settled(&mut self, number: usize, is_told: bool) {
        self.is_clean[number] = is_told;
        let name = self.new_name();
        self.seats[number].settled(Instant::now(), name);
    }

    async fn leave(&mut self) {
        for number in 0..self.seats.len() {
            // Unless it was settled, it may have left something behind.
            let was_settled = matches!(self.seats[number].step(Instant::now()), Step::Release);
            self.is_clean[number] &= was_settled;
            self.seats[number].leave();
            if matches!(self.seats[number].step(Instant::now()), Step::Release) {
                let _ = tokio::time::timeout(LAST_LIMIT, self.release(number)).await;
            }
        }
        self.publish();
    }

    /// Tells what is held, and until when.
    fn publish(&self) {
        let mut held: Vec<Option<Take>> = self.seats.iter().map(Seat::held).collect();
        let mut until = self.seats.iter().filter_map(Seat::trusted_until).min();
        if fail::owns_all() {
            held.fill(self.is_fit().then_some(Take { epoch: 1, is_clean: false }));
            until = Some(Instant::now() + self.setup.times.lease);
        }
        self.trusted_until.send_replace(until);
        let now = Instant::now();
        for ((stream, seat), held) in self.streams.iter().zip(&self.seats).zip(&held) {
            let silent = seat.silent_for(now).map(|time| time.as_secs_f64());
            self.setup.metrics.owner(stream, held.is_some(), seat.epoch(), silent);
        }
        self.held.send_if_modified(|current| {
            let is_news = *current != held;
            *current = held;
            is_news
        });
    }
}

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_millis(3000);
