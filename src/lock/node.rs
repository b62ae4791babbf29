//! One lock node: a task that owns the node's connection and sends whatever waits as one pipeline after another.
//!
//! Requests enter through a channel, so a release never overtakes the acquire it undoes. No pipeline is given up while its
//! connection lives, because the library drops a request that nobody waits for, and a dropped release would leave a late
//! acquire standing. Instead the node is not asked for votes, which then count as missing at once, and releases wait until
//! it answers or its connection is replaced.
//!
//! - `connect`: connecting in the background, and who may vote after every connect.
//! - `exchange`: what is sent when, and what replies and their absence mean.
//! - `flights`: the pipelines under way, their order and their time.

mod connect;
mod exchange;
mod flights;

pub(super) use connect::Roster;

use super::breaker::{Breaker, PROBE};
use super::quorum::Vote;
use super::request::{Backlog, Claim, Request};
use super::{NodeAddress, NodeHealth, NodeOutcome, NodeStatus, Observer, Op, Report, Settings};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// An idle connection is asked this often whether it is alive, so that its state is true when nobody locks.
const IDLE: Duration = Duration::from_secs(1);

/// The handle of a node's task. The task ends when its handle is gone and what was queued has been sent.
pub(super) struct Node {
    pub address: NodeAddress,
    inbox: mpsc::UnboundedSender<Request>,
    status: Arc<Mutex<NodeStatus>>,
}

impl Node {
    pub fn start(address: NodeAddress, settings: Settings, observer: Observer, roster: Arc<Roster>) -> Node {
        let (sender, inbox) = mpsc::unbounded_channel();
        let status = NodeStatus {
            name: address.name.clone(),
            health: NodeHealth::Unknown,
            why: "it is not connected yet".to_owned(),
        };
        let status = Arc::new(Mutex::new(status));
        let task = Task {
            name: address.name.clone(),
            client: address.client.clone(),
            settings,
            observer,
            roster,
            inbox,
            dismissed: false,
            backlog: Backlog::default(),
            breaker: Breaker::default(),
            quarantine: None,
            run_id: None,
            health: NodeHealth::Unknown,
            status: status.clone(),
        };
        tokio::spawn(task.run());
        Node { address, inbox: sender, status }
    }

    /// Queues a request. It has its place in the order when this returns. A node whose task has ended, which happens
    /// when the runtime shuts down, is a node that does not answer.
    pub fn send(&self, request: Request) {
        let _ = self.inbox.send(request);
    }

    pub fn status(&self) -> NodeStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Task {
    name: String,
    client: redis::Client,
    settings: Settings,
    observer: Observer,
    roster: Arc<Roster>,
    inbox: mpsc::UnboundedReceiver<Request>,
    dismissed: bool,
    backlog: Backlog,
    breaker: Breaker,
    /// The node was started so recently that it must not vote before this moment.
    quarantine: Option<Instant>,
    /// Which server this was when it was last connected.
    run_id: Option<String>,
    health: NodeHealth,
    status: Arc<Mutex<NodeStatus>>,
}

impl Task {
    async fn run(mut self) {
        while let Some(connection) = self.connect().await {
            let ended = self.serve(connection).await;
            self.roster.leave(&self.name);
            let Some(why) = ended else { return };
            self.turn(NodeHealth::Down, &why);
            if self.dismissed || self.meanwhile(sleep(connect::shortest_pause())).await.is_none() {
                return;
            }
        }
    }

    /// Waits until there is something to send, and takes all that is there.
    async fn fill(&mut self) {
        if self.backlog.is_empty() && !self.dismissed {
            match timeout(self.idle(), self.inbox.recv()).await {
                Ok(Some(request)) => self.take_in(request),
                Ok(None) => self.dismissed = true,
                Err(_) => self.backlog.push(Request::Ping(None)),
            }
        }
        self.take_in_more();
        if self.breaker.is_probe_due(Instant::now()) {
            self.backlog.push(Request::Ping(None));
        }
    }

    /// Takes in all that is there.
    fn take_in_more(&mut self) {
        while let Ok(request) = self.inbox.try_recv() {
            self.take_in(request);
        }
    }

    /// How long nothing may happen before something is to be looked at.
    fn idle(&self) -> Duration {
        let idle = if self.breaker.is_open() { PROBE } else { IDLE };
        self.quarantine.map_or(idle, |end| idle.min(end.saturating_duration_since(Instant::now())))
    }

    /// Takes a request into the line, unless the line is so long that its caller would wait in vain.
    fn take_in(&mut self, request: Request) {
        match request {
            Request::Ask { .. } if self.backlog.is_full() => self.set_aside(request, NodeOutcome::Skipped, false),
            request => self.backlog.push(request),
        }
    }

    /// Whether the node's votes count at the moment.
    fn may_vote(&mut self) -> bool {
        if self.quarantine.is_some_and(|end| end <= Instant::now()) {
            self.quarantine = None;
            self.turn(NodeHealth::Up, "");
        }
        self.quarantine.is_none() && !self.breaker.is_open()
    }

    /// Deals with a request that cannot be sent now, for the reason `outcome`: what asks for votes fails, a release waits
    /// if the node may hold its keys. `reported` says that the observer knows already.
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
            // What was sent is told apart by the error of its connection.
            Request::Ask { op, ref claim, .. } if outcome != NodeOutcome::Error => self.backlog.note_unsent(op, claim),
            _ => (),
        }
        self.refuse(request, (!reported).then_some(outcome));
    }

    /// Ends a request that is not sent, or not answered any more: its votes are missing. An outcome is reported.
    fn refuse(&self, request: Request, outcome: Option<NodeOutcome>) {
        if let Some(outcome) = outcome {
            self.report(&request, outcome);
        }
        if let Request::Ask { claim, ballot, .. } = request {
            let _ = ballot.send(vec![Vote::Failed; claim.keys.len()]);
        }
    }

    fn report(&self, request: &Request, outcome: NodeOutcome) {
        match request {
            Request::Ask { op, claim, .. } => self.observe(*op, claim, outcome),
            Request::Release { claim } => self.observe(Op::Release, claim, outcome),
            Request::Ping(_) => (),
        }
    }

    fn observe(&self, op: Op, claim: &Claim, outcome: NodeOutcome) {
        let duration = claim.since.elapsed();
        (self.observer)(Report::Request { node: &self.name, op, outcome, duration });
    }

    /// Notes the node's state, and logs it where it is another than before.
    fn turn(&mut self, health: NodeHealth, why: &str) {
        if self.health == health {
            return;
        }
        self.health = health;
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        (status.health, status.why) = (health, why.to_owned());
        let node = self.name.as_str();
        match health {
            NodeHealth::Unknown => (),
            NodeHealth::Up => info!(node, "lock node is up"),
            NodeHealth::Quarantined => info!(node, why, "lock node does not vote yet"),
            NodeHealth::Refusing => warn!(node, why, "lock node refuses to lock"),
            NodeHealth::Silent => warn!(node, why, "lock node is silent"),
            NodeHealth::Barred => warn!(node, why, "lock node may not vote"),
            NodeHealth::Down => warn!(node, why, "lock node is down"),
        }
    }
}
