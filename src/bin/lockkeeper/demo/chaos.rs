//! What `--chaos` breaks, and when: a lock node dies and comes back empty; the last daemon dies twice by `kill -9`.

use std::time::{Duration, Instant};

use super::fleet::Fleet;
use throwaway::servers::Servers;

/// The lock node that dies.
const NODE: usize = 1;

/// How long the lock node stays away: longer than a lock lives, since it comes back having forgotten all it granted.
const NODE_AWAY: Duration = Duration::from_millis(2500);

/// How long after a daemon's death the next one is started.
const SUCCESSOR_AFTER: Duration = Duration::from_millis(300);

/// The share of the jobs that have answered when the lock node dies, and when a daemon dies.
const NODE_DIES_AT: f64 = 0.33;
const DAEMON_DIES_AT: [f64; 2] = [0.5, 0.75];

/// How far it has got.
#[derive(Debug, Default)]
pub struct Chaos {
    node: Node,
    kills: usize,
    successor_at: Option<Instant>,
}

#[derive(Debug, Default)]
enum Node {
    #[default]
    Untouched,
    DeadSince(Instant),
    Back,
}

impl Chaos {
    /// Whether all that was to happen has happened.
    pub fn is_over(&self) -> bool {
        matches!(self.node, Node::Back) && self.kills == DAEMON_DIES_AT.len() && self.successor_at.is_none()
    }

    /// Does what is due at this share of answered jobs, and says what it did.
    pub async fn step(&mut self, share: f64, servers: &mut Servers, fleet: &mut Fleet) -> anyhow::Result<Vec<String>> {
        let mut done = Vec::new();
        match self.node {
            Node::Untouched if share >= NODE_DIES_AT => {
                servers.lock_nodes[NODE].kill();
                self.node = Node::DeadSince(Instant::now());
                done.push(format!("lock node {} of {} killed", NODE + 1, servers.lock_nodes.len()));
            }
            Node::DeadSince(moment) if moment.elapsed() >= NODE_AWAY => {
                servers.lock_nodes[NODE].restart().await?;
                self.node = Node::Back;
                done.push(format!("lock node {} is back, empty", NODE + 1));
            }
            Node::Untouched | Node::DeadSince(_) | Node::Back => {}
        }
        if let Some(moment) = self.successor_at {
            if moment <= Instant::now() {
                self.successor_at = None;
                done.push(format!("{} started", fleet.add(servers).await?));
            }
        } else if DAEMON_DIES_AT.get(self.kills).is_some_and(|at| share >= *at) {
            self.kills += 1;
            self.successor_at = Some(Instant::now() + SUCCESSOR_AFTER);
            done.extend(fleet.kill_oldest().map(|name| format!("{name} killed with SIGKILL")));
        }
        Ok(done)
    }
}
