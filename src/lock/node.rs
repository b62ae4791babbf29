//! One lock node: a task that owns the node's connection and sends whatever waits as one pipeline after another.
//!
//! Requests enter through a channel, so they reach the node in the order in which they were made: a release never
//! overtakes the acquire it undoes. No pipeline is given up while its connection lives, because the library drops a
//! request that nobody waits for, and a dropped release would leave a late acquire standing. Instead the node counts as
//! silent: acquires are refused at once and releases wait until it answers or its connection is replaced.

use super::quorum::Vote;
use super::request::{Backlog, Claim, Request};
use super::{NodeAddress, NodeOutcome, NodeReport, Observer, Op, Settings, script};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisResult, Value};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An idle connection is asked this often whether it is alive, so that `up` is true when nobody locks.
const IDLE: Duration = Duration::from_secs(1);

/// A node that is silent for this long is reported.
const SILENCE_NOTICE: Duration = Duration::from_secs(1);

/// A connection that is silent for this long is replaced: the other end may be gone without a word.
const SILENCE_LIMIT: Duration = Duration::from_secs(5);

/// The handle of a node's task. The task ends when its handle is gone and what was queued has been sent.
pub(super) struct Node {
    pub address: NodeAddress,
    inbox: mpsc::UnboundedSender<Request>,
    up: Arc<AtomicBool>,
}

impl Node {
    pub fn start(address: NodeAddress, settings: Settings, observer: Observer) -> Node {
        let (sender, inbox) = mpsc::unbounded_channel();
        let up = Arc::new(AtomicBool::new(false));
        let task = Task {
            name: address.name.clone(),
            client: address.client.clone(),
            settings,
            observer,
            inbox,
            dismissed: false,
            backlog: Backlog::default(),
            health: Health::Unknown,
            up: up.clone(),
        };
        tokio::spawn(task.run());
        Node { address, inbox: sender, up }
    }

    /// Queues a request. It has its place in the order when this returns. A node whose task has ended, which happens
    /// when the runtime shuts down, is a node that does not answer.
    pub fn send(&self, request: Request) {
        let _ = self.inbox.send(request);
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up,
    /// Connected, but every acquire is answered with an error.
    Refusing,
    /// Connected, but a pipeline is not answered.
    Silent,
    Down,
}

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

struct Task {
    name: String,
    client: redis::Client,
    settings: Settings,
    observer: Observer,
    inbox: mpsc::UnboundedReceiver<Request>,
    dismissed: bool,
    backlog: Backlog,
    health: Health,
    up: Arc<AtomicBool>,
}

impl Task {
    async fn run(mut self) {
        while let Some(connection) = self.connect().await {
            let Some(why) = self.serve(connection).await else {
                return;
            };
            self.turn(Health::Down, &why);
            if self.dismissed || self.meanwhile(sleep(jittered(SHORTEST_PAUSE))).await.is_none() {
                return;
            }
        }
    }

    /// Tries until there is a connection, or `None` when nobody needs one any more.
    async fn connect(&mut self) -> Option<MultiplexedConnection> {
        let client = self.client.clone();
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_LIMIT)).set_response_timeout(None);
        let mut pause = SHORTEST_PAUSE;
        loop {
            match self.meanwhile(client.get_multiplexed_async_connection_with_config(&config)).await? {
                Ok(connection) => {
                    self.turn(Health::Up, "");
                    return Some(connection);
                }
                Err(error) => self.turn(Health::Down, &error.to_string()),
            }
            self.meanwhile(sleep(jittered(pause))).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for `event`, there being no connection, or returns `None` when nobody will send requests any more.
    async fn meanwhile<T>(&mut self, event: impl Future<Output = T>) -> Option<T> {
        let mut event = pin!(event);
        loop {
            tokio::select! {
                outcome = &mut event => return Some(outcome),
                request = self.inbox.recv() => self.set_aside(request?, NodeOutcome::Error, false),
            }
        }
    }

    /// Sends pipelines until the connection is lost, whose reason is returned, or nobody needs it any more.
    async fn serve(&mut self, mut connection: MultiplexedConnection) -> Option<String> {
        loop {
            self.fill().await;
            if self.dismissed && self.backlog.is_empty() {
                return None;
            }
            let (batch, overdue) = self.backlog.next_pipeline(self.settings.node_timeout);
            for request in overdue {
                self.set_aside(request, NodeOutcome::Timeout, false);
            }
            if batch.is_empty() {
                continue;
            }
            match self.exchange(&mut connection, &batch).await {
                Ok(replies) => self.distribute(batch, replies),
                Err(loss) => {
                    let waiting = self.backlog.drain();
                    batch.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Error, loss.late));
                    waiting.into_iter().for_each(|request| self.set_aside(request, NodeOutcome::Error, false));
                    return Some(loss.why);
                }
            }
        }
    }

    /// Waits until there is something to send, and takes all that is there.
    async fn fill(&mut self) {
        if self.backlog.is_empty() && !self.dismissed {
            match timeout(IDLE, self.inbox.recv()).await {
                Ok(Some(request)) => self.backlog.push(request),
                Ok(None) => self.dismissed = true,
                Err(_) => self.backlog.push(Request::Ping(None)),
            }
        }
        while let Ok(request) = self.inbox.try_recv() {
            self.backlog.push(request);
        }
    }

    /// Sends one pipeline and waits for its replies, however long they take.
    async fn exchange(&mut self, connection: &mut MultiplexedConnection, batch: &[Request]) -> Result<Replies, Loss> {
        let mut pipeline = redis::Pipeline::with_capacity(batch.len());
        for request in batch {
            pipeline.add_command(match request {
                Request::Acquire { claim, .. } => script::acquire(&claim.keys, &claim.token, self.settings.ttl),
                Request::Release { claim } => script::release(&claim.keys, &claim.token),
                Request::Ping(_) => redis::cmd("PING"),
            });
        }
        let mut call = pin!(connection.send_packed_commands(&pipeline, 0, batch.len()));
        if let Ok(replies) = timeout(self.settings.node_timeout, &mut call).await {
            let loss = |error: redis::RedisError| Loss { why: error.to_string(), late: false };
            return replies.map(|values| Replies { values, late: false }).map_err(loss);
        }
        for request in batch {
            self.report(request, NodeOutcome::Timeout);
        }
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
                () = &mut notice, if self.health != Health::Silent => self.turn(Health::Silent, "it does not answer"),
                request = self.inbox.recv(), if !self.dismissed => match request {
                    Some(request) => self.set_aside(request, NodeOutcome::Timeout, false),
                    None => self.dismissed = true,
                },
            }
        }
    }

    /// Deals with a request that cannot be sent now, for the reason `outcome`: an acquire fails, a release waits if the
    /// node may hold its keys. `reported` says that the observer knows already.
    fn set_aside(&mut self, request: Request, outcome: NodeOutcome, reported: bool) {
        match request {
            Request::Release { claim } if self.backlog.should_keep(&claim, self.settings.ttl) => {
                self.backlog.push(Request::Release { claim });
                return;
            }
            Request::Ping(done) if outcome == NodeOutcome::Timeout => {
                self.backlog.push(Request::Ping(done));
                return;
            }
            _ => (),
        }
        if !reported {
            self.report(&request, outcome);
        }
        if let Request::Acquire { claim, ballot } = request {
            let _ = ballot.send(vec![Vote::Failed; claim.keys.len()]);
        }
    }

    /// Hands every reply to the request it belongs to. A caller that has decided without this node is gone by now.
    fn distribute(&mut self, batch: Vec<Request>, replies: Replies) {
        if self.health == Health::Silent {
            self.turn(Health::Up, "");
        }
        for (request, reply) in batch.into_iter().zip(replies.values) {
            let (op, claim, ballot) = match request {
                Request::Acquire { claim, ballot } => (Op::Acquire, claim, Some(ballot)),
                Request::Release { claim } => (Op::Release, claim, None),
                Request::Ping(done) => {
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                    continue;
                }
            };
            let answer = script::read(reply, claim.keys.len());
            let outcome = outcome(op, &answer.votes);
            if let Some(ballot) = ballot {
                let _ = ballot.send(answer.votes);
                match answer.error {
                    Some(error) => self.turn(Health::Refusing, &error),
                    None => self.turn(Health::Up, ""),
                }
            }
            if !replies.late {
                self.observe(op, &claim, outcome);
            }
        }
    }

    fn report(&self, request: &Request, outcome: NodeOutcome) {
        match request {
            Request::Acquire { claim, .. } => self.observe(Op::Acquire, claim, outcome),
            Request::Release { claim } => self.observe(Op::Release, claim, outcome),
            Request::Ping(_) => (),
        }
    }

    fn observe(&self, op: Op, claim: &Claim, outcome: NodeOutcome) {
        (self.observer)(NodeReport { node: &self.name, op, outcome, duration: claim.since.elapsed() });
    }

    /// Notes the node's state, and logs it where it is another than before.
    fn turn(&mut self, health: Health, why: &str) {
        if self.health == health {
            return;
        }
        self.health = health;
        self.up.store(health == Health::Up, Ordering::Relaxed);
        match health {
            Health::Unknown => (),
            Health::Up => info!(node = self.name, "lock node is up"),
            Health::Refusing => warn!(node = self.name, why, "lock node refuses to lock"),
            Health::Silent => warn!(node = self.name, why, "lock node is silent"),
            Health::Down => warn!(node = self.name, why, "lock node is down"),
        }
    }
}

fn outcome(op: Op, votes: &[Vote]) -> NodeOutcome {
    if votes.contains(&Vote::Failed) {
        NodeOutcome::Error
    } else if op == Op::Acquire && votes.contains(&Vote::Held) {
        NodeOutcome::Held
    } else {
        NodeOutcome::Ok
    }
}

/// Between half of `pause` and all of it, so that the daemons of a fleet do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}
