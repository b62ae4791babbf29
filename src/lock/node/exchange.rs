//! Pipelines to a node, and what their replies and their absence mean.

use super::super::quorum::Vote;
use super::super::request::Request;
use super::super::{NodeHealth, NodeOutcome, Op, script};
use super::Task;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// A node that is silent for this long is not asked any more, and reported.
const SILENCE_NOTICE: Duration = Duration::from_secs(1);

/// A connection that is silent for this long is replaced: the other end may be gone without a word.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// The replies to a pipeline, and whether they came after the node's time limit, when all was reported already.
struct Replies {
    values: Vec<Value>,
    late: bool,
}

/// A pipeline that will not be answered any more.
struct Loss {
    why: String,
    late: bool,
}

impl Task {
    /// Sends pipelines until the connection is lost, whose reason is returned, or nobody needs it any more.
    pub(super) async fn serve(&mut self, mut connection: MultiplexedConnection) -> Option<String> {
        loop {
            self.fill().await;
            if self.dismissed && self.backlog.is_empty() {
                return None;
            }
            let may_vote = self.may_vote();
            let (batch, refused) = self.backlog.next_pipeline(self.settings.node_timeout, may_vote);
            for request in refused {
                match request {
                    Request::Release { .. } => self.report(&request, NodeOutcome::Skipped),
                    _ if may_vote => self.set_aside(request, NodeOutcome::Timeout, false),
                    _ => self.set_aside(request, NodeOutcome::Skipped, false),
                }
            }
            if batch.is_empty() {
                continue;
            }
            match self.exchange(&mut connection, &batch).await {
                Ok(replies) => self.distribute(batch, replies),
                Err(loss) => {
                    let waiting = self.backlog.drain();
                    batch.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Error, loss.late));
                    waiting.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Skipped, false));
                    return Some(loss.why);
                }
            }
        }
    }

    /// Sends one pipeline and waits for its replies, however long they take.
    async fn exchange(&mut self, connection: &mut MultiplexedConnection, batch: &[Request]) -> Result<Replies, Loss> {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for request in batch {
            pipeline.add_command(command(request, self.settings.ttl));
        }
        let mut call = pin!(connection.send_packed_commands(&pipeline, 0, batch.len()));
        if let Ok(replies) = timeout(self.settings.node_timeout, &mut call).await {
            let loss = |error: RedisError| Loss { why: error.to_string(), late: false };
            return replies.map(|values| Replies { values, late: false }).map_err(loss);
        }
        for request in batch {
            self.report(request, NodeOutcome::Timeout);
        }
        self.breaker.late(Instant::now());
        self.note_breaker();
        let replies = self.await_late(call).await;
        replies.map(|values| Replies { values, late: true }).map_err(|why| Loss { why, late: true })
    }

    /// Waits for a node that has exceeded its time, refusing what would need its answer.
    async fn await_late<F>(&mut self, mut call: Pin<&mut F>) -> Result<Vec<Value>, String>
    where
        F: Future<Output = RedisResult<Vec<Value>>>,
    {
        let mut notice = pin!(sleep(SILENCE_NOTICE));
        let mut limit = pin!(sleep(SILENCE_LIMIT));
        loop {
            tokio::select! {
                replies = &mut call => return replies.map_err(|error| error.to_string()),
                () = &mut limit => return Err("the connection has been silent for too long".into()),
                () = &mut notice, if !self.breaker.is_open() => {
                    self.breaker.trip(Instant::now());
                    self.note_breaker();
                }
                request = self.inbox.recv(), if !self.dismissed => match request {
                    Some(request) => self.set_aside(request, NodeOutcome::Timeout, false),
                    None => self.dismissed = true,
                },
            }
        }
    }

    fn note_breaker(&mut self) {
        if self.breaker.is_open() {
            let limit = self.settings.node_timeout;
            self.turn(NodeHealth::Silent, &format!("it does not answer within {limit:?}; it is probed until it does"));
        }
    }

    /// Hands every reply to the request it belongs to. A caller that has decided without this node is gone by now.
    fn distribute(&mut self, batch: Vec<Request>, replies: Replies) {
        if !replies.late {
            self.breaker.close();
            if self.health == NodeHealth::Silent {
                self.recovered();
            }
        }
        for (request, reply) in batch.into_iter().zip(replies.values) {
            match request {
                Request::Ask { op, claim, ballot } => {
                    let answer = script::read(reply, claim.keys.len());
                    let outcome = outcome(&answer.votes);
                    let _ = ballot.send(answer.votes);
                    match answer.error {
                        Some(error) => self.turn(NodeHealth::Refusing, &error),
                        None if self.health == NodeHealth::Refusing => self.turn(NodeHealth::Up, ""),
                        None => (),
                    }
                    if !replies.late {
                        self.observe(op, &claim, outcome);
                    }
                }
                Request::Release { claim } if !replies.late => {
                    let outcome = if script::is_released(&reply) { NodeOutcome::Ok } else { NodeOutcome::Error };
                    self.observe(Op::Release, &claim, outcome);
                }
                Request::Release { .. } | Request::Ping(None) => (),
                Request::Ping(Some(done)) => drop(done.send(())),
            }
        }
    }
}

fn command(request: &Request, ttl: Duration) -> Cmd {
    match request {
        Request::Ask { op: Op::Extend, claim, .. } => script::extend(&claim.keys, &claim.token, ttl),
        Request::Ask { claim, .. } => script::acquire(&claim.keys, &claim.token, ttl),
        Request::Release { claim } => script::release(&claim.keys, &claim.token),
        Request::Ping(_) => redis::cmd("PING"),
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
