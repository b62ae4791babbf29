//! The pipelines under way to a node, which answers them in the order in which they were sent.

use super::super::request::{KEYS_PER_PIPELINE, Request};
use super::super::{Op, script};
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::task::unconstrained;

/// So many pipelines are under way at most: while the node works at one, the replies to the other are read and the next
/// requests made. A third would find nobody at leisure.
const PIPELINES: usize = 2;

/// No time limit is longer, so that every moment can be told.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A pipeline under way.
pub(super) struct Flight {
    pub batch: Vec<Request>,
    /// Its time was over before it was answered, and this is reported.
    pub late: bool,
    keys: usize,
    due: Instant,
    call: BoxFuture<'static, RedisResult<Vec<Value>>>,
}

/// All that is under way on a connection.
pub(super) struct Flights {
    flights: VecDeque<Flight>,
    /// How long the node may take for a pipeline.
    limit: Duration,
    /// Since when the node has owed an answer: since the last one, or since it was asked when it had nothing to do.
    owed_since: Instant,
    /// That it has not come in time is known.
    missed: bool,
}

impl Flights {
    pub fn new(limit: Duration) -> Flights {
        let limit = limit.min(LONGEST);
        Flights { flights: VecDeque::with_capacity(PIPELINES), limit, owed_since: Instant::now(), missed: false }
    }

    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether a pipeline is under way whose time is over.
    pub fn is_late(&self) -> bool {
        self.flights.iter().any(|flight| flight.late)
    }

    /// Whether one more pipeline may go out, with so many keys. Behind another one it is to be as large, since small ones
    /// cost both sides more for each key; so pipelines become equal, and client and node work at the same time.
    pub fn have_room(&self, keys: usize) -> bool {
        match self.flights.back() {
            None => true,
            Some(last) => self.flights.len() < PIPELINES && !self.is_late() && keys >= last.keys.min(KEYS_PER_PIPELINE),
        }
    }

    /// Sends a pipeline. It has its place on the connection when this returns, so the next one stays behind it.
    pub fn send(&mut self, connection: &MultiplexedConnection, batch: Vec<Request>, ttl: Duration) {
        let now = Instant::now();
        if self.is_empty() {
            (self.owed_since, self.missed) = (now, false);
        }
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for request in &batch {
            pipeline.add_command(command(request, ttl));
        }
        let (mut connection, count) = (connection.clone(), batch.len());
        // The library queues a pipeline when its call is first polled. The runtime must not put that off to hand the
        // thread to another task: a later pipeline could be first then.
        let call = unconstrained(async move { connection.send_packed_commands(&pipeline, 0, count).await });
        let mut call: BoxFuture<'static, _> = Box::pin(call);
        // Nothing has been answered yet; what has failed already fails in its turn.
        if let Poll::Ready(failed) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            call = Box::pin(async move { failed });
        }
        let keys = batch.iter().map(Request::keys).sum();
        self.flights.push_back(Flight { batch, late: false, keys, due: now + self.limit, call });
    }

    /// Waits for the replies to the first pipeline, and takes it away. Nothing is lost when this is dropped.
    pub async fn answer(&mut self) -> Option<(Flight, RedisResult<Vec<Value>>)> {
        let replies = (&mut self.flights.front_mut()?.call).await;
        (self.owed_since, self.missed) = (Instant::now(), false);
        self.flights.pop_front().map(|flight| (flight, replies))
    }

    /// The pipelines whose time is over, of which each is told once.
    pub fn overdue(&mut self, now: Instant) -> impl Iterator<Item = &Flight> {
        let overdue = self.flights.iter_mut().filter(move |flight| !flight.late && flight.due <= now);
        overdue.map(|flight| {
            flight.late = true;
            &*flight
        })
    }

    /// For how long the node has owed an answer beyond its time limit.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        now.checked_duration_since(self.owed_since + self.limit)
    }

    /// Notes that an answer has not come in time; whether this is news.
    pub fn miss(&mut self) -> bool {
        !std::mem::replace(&mut self.missed, true)
    }

    /// The next moment at which a pipeline is overdue, or the node has been silent for one of these times.
    pub fn next_moment(&self, now: Instant, silences: &[Duration]) -> Instant {
        let silences = silences.iter().map(|silence| self.owed_since + self.limit + *silence);
        let all = self.flights.iter().map(|flight| flight.due).chain(silences);
        all.filter(|moment| *moment > now).min().unwrap_or(now + self.limit)
    }

    /// Everything under way, of which nothing will be answered.
    pub fn lose(self) -> impl Iterator<Item = Flight> {
        self.flights.into_iter()
    }
}

fn command(request: &Request, ttl: Duration) -> Cmd {
    match request {
        Request::Ask { op: Op::Extend, claim, .. } => script::extend(&claim.keys, &claim.token, ttl),
        Request::Ask { claim, .. } => script::acquire(&claim.keys, &claim.token, ttl, &claim.legacy),
        Request::Release { claim } => script::release(&claim.keys, &claim.token),
        Request::Ping(_) => redis::cmd("PING"),
    }
}
