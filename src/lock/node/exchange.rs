//! What is sent to a node when, and what its replies and their absence mean.

use super::super::quorum::Vote;
use super::super::request::Request;
use super::super::{NodeHealth, NodeOutcome, Op, script};
use super::Task;
use super::flights::{Flight, Flights};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// A node that is silent for this long is not asked any more, and reported.
const SILENCE_NOTICE: Duration = Duration::from_secs(1);

/// A connection that is silent for this long is replaced: the other end may be gone without a word.
const SILENCE_LIMIT: Duration = Duration::from_millis(2500);

/// When something is to be done about a node that has not answered within its time limit.
const SILENCES: [Duration; 3] = [Duration::ZERO, SILENCE_NOTICE, SILENCE_LIMIT];

impl Task {
    /// Sends pipelines until the connection is lost, whose reason is returned, or nobody needs it any more. Every pipeline
    /// is waited for, however long it takes.
    pub(super) async fn serve(&mut self, connection: MultiplexedConnection) -> Option<String> {
        let mut flights = Flights::new(self.settings.node_timeout);
        // It rings at the next moment that matters or earlier, which spares setting it for every pipeline.
        let mut alarm = pin!(sleep(Duration::ZERO));
        loop {
            if flights.is_empty() {
                self.fill().await;
                if self.dismissed && self.backlog.is_empty() {
                    return None;
                }
            }
            self.send_pipelines(&connection, &mut flights);
            if flights.is_empty() {
                continue;
            }
            let moment = flights.next_moment(Instant::now(), &SILENCES).into();
            if moment < alarm.deadline() {
                alarm.as_mut().reset(moment);
            }
            tokio::select! {
                biased;
                Some((flight, replies)) = flights.answer() => match replies {
                    Ok(replies) => if let Some(why) = self.distribute(flight, replies) {
                        return Some(self.lose(None, flights, why));
                    },
                    Err(error) => return Some(self.lose(Some(flight), flights, error.to_string())),
                },
                () = &mut alarm => {
                    let now = Instant::now();
                    if let Err(why) = self.look_at_clock(&mut flights, now) {
                        return Some(self.lose(None, flights, why));
                    }
                    alarm.as_mut().reset(flights.next_moment(now, &SILENCES).into());
                }
                request = self.inbox.recv(), if !self.dismissed => self.arrive(request, flights.is_late()),
            }
        }
    }

    /// Sends what waits, as far as there is room for it.
    fn send_pipelines(&mut self, connection: &MultiplexedConnection, flights: &mut Flights) {
        while !self.backlog.is_empty() && flights.have_room(self.backlog.keys()) {
            let may_vote = self.may_vote();
            let (batch, refused) = self.backlog.next_pipeline(self.settings.node_timeout, may_vote);
            for request in refused {
                let is_late = may_vote && matches!(request, Request::Ask { .. });
                self.refuse(request, Some(if is_late { NodeOutcome::Timeout } else { NodeOutcome::Skipped }));
            }
            if !batch.is_empty() {
                flights.send(connection, batch, self.settings.ttl);
            }
        }
    }

    /// Takes in what has come while a pipeline is under way. Where that is late, it refuses what would need an answer.
    fn arrive(&mut self, request: Option<Request>, late: bool) {
        match request {
            Some(request) if late => self.set_aside(request, NodeOutcome::Timeout, false),
            Some(request) => {
                self.take_in(request);
                self.take_in_more();
            }
            None => self.dismissed = true,
        }
    }

    /// Deals with a node that does not answer in time, or not at all, which is an error.
    fn look_at_clock(&mut self, flights: &mut Flights, now: Instant) -> Result<(), String> {
        let mut late = false;
        for request in flights.overdue(now).flat_map(|flight| &flight.batch) {
            self.report(request, NodeOutcome::Timeout);
            late = true;
        }
        if late {
            let waiting = self.backlog.drain();
            waiting.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Timeout, false));
        }
        let Some(silence) = flights.silence(now) else { return Ok(()) };
        if silence >= SILENCE_LIMIT {
            return Err("the connection has been silent for too long".into());
        }
        if flights.miss() {
            self.breaker.late(now);
        }
        if silence >= SILENCE_NOTICE && !self.breaker.is_open() {
            self.breaker.trip(now);
        }
        self.note_breaker();
        Ok(())
    }

    /// Deals with all that was under way or waits when a connection is lost, in the order in which it was made.
    fn lose(&mut self, first: Option<Flight>, others: Flights, why: String) -> String {
        let waiting = self.backlog.drain();
        for Flight { batch, late, .. } in first.into_iter().chain(others.lose()) {
            batch.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Error, late));
        }
        waiting.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Skipped, false));
        why
    }

    fn note_breaker(&mut self) {
        if self.breaker.is_open() {
            let limit = self.settings.node_timeout;
            self.turn(NodeHealth::Silent, &format!("it does not answer within {limit:?}; it is probed until it does"));
        }
    }

    /// Hands every reply to the request it belongs to. A caller that has decided without this node is gone by now. Returns why
    /// the connection is of no use any more, if so.
    fn distribute(&mut self, Flight { batch, late, .. }: Flight, replies: Vec<Value>) -> Option<String> {
        let mut elsewhere = None;
        if !late {
            self.breaker.close();
            if self.health == NodeHealth::Silent {
                self.recovered();
            }
        }
        for (request, reply) in batch.into_iter().zip(replies) {
            match request {
                Request::Ask { op, claim, ballot } => {
                    let answer = script::read(reply, claim.keys.len());
                    let outcome = outcome(&answer.votes);
                    let _ = ballot.send(answer.votes);
                    match answer.error {
                        Some(error) if answer.is_replica => elsewhere = Some(error),
                        Some(error) => self.turn(NodeHealth::Refusing, &error),
                        None if self.health == NodeHealth::Refusing => self.turn(NodeHealth::Up, ""),
                        None => (),
                    }
                    if !late {
                        self.observe(op, &claim, outcome);
                    }
                }
                Request::Release { claim } if !late => {
                    let outcome = if script::is_released(&reply) { NodeOutcome::Ok } else { NodeOutcome::Error };
                    self.observe(Op::Release, &claim, outcome);
                }
                Request::Release { .. } | Request::Ping(None) => (),
                Request::Ping(Some(done)) => drop(done.send(())),
            }
        }
        elsewhere
    }
}

fn outcome(votes: &[Vote]) -> NodeOutcome {
    if votes.contains(&Vote::Failed) {
        NodeOutcome::Error
    } else if votes.contains(&Vote::Held) {
        NodeOutcome::Held
    } else {
        NodeOutcome::Ok
    }
}
