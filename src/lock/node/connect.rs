//! Connecting to a node in the background, and what it has to be to vote.

use super::super::inspect::{Identity, Refusal, dial};
use super::super::request::Request;
use super::super::{NodeHealth, NodeOutcome, Report};
use super::Task;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Which server each connected node is, so that one server behind two names has one vote.
#[derive(Default)]
pub(in super::super) struct Roster(Mutex<HashMap<String, String>>);

impl Roster {
    /// Enters a node with the run id of its server, unless another node is that server.
    fn enter(&self, node: &str, run_id: &str) -> Result<(), Refusal> {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match nodes.iter().find(|(other, id)| *other != node && *id == run_id) {
            Some((other, _)) => Err(Refusal::SameServer(other.clone())),
            None => {
                nodes.insert(node.to_owned(), run_id.to_owned());
                Ok(())
            }
        }
    }

    pub fn leave(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

impl Task {
    /// Tries until there is a connection to a server that may vote, or `None` when nobody needs one any more.
    pub(super) async fn connect(&mut self) -> Option<MultiplexedConnection> {
        let client = self.client.clone();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let found = self.meanwhile(dial(&client)).await?;
            match found.and_then(|(connection, identity)| self.admit(&identity).map(|()| connection)) {
                Ok(connection) => return Some(connection),
                Err(Refusal::Unreachable(why)) => self.turn(NodeHealth::Down, &why),
                Err(refusal) => self.turn(NodeHealth::Barred, &refusal.to_string()),
            }
            self.meanwhile(sleep(jittered(pause))).await?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lets the server vote, now or after its quarantine.
    fn admit(&mut self, identity: &Identity) -> Result<(), Refusal> {
        identity.judge()?;
        self.roster.enter(&self.name, &identity.run_id)?;
        let last = self.run_id.replace(identity.run_id.clone());
        if last.is_some_and(|last| last != identity.run_id) {
            (self.observer)(Report::Restarted { node: &self.name });
        }
        self.breaker.close();
        let quarantine = identity.quarantine(self.settings.ttl);
        self.quarantine = (!quarantine.is_zero()).then(|| Instant::now() + quarantine);
        self.recovered();
        Ok(())
    }

    /// The node answers: it is up, or waits for the end of its quarantine.
    pub(super) fn recovered(&mut self) {
        let why = "it was started less than a lock's life ago and may have forgotten locks that are held";
        match self.quarantine {
            Some(_) => self.turn(NodeHealth::Quarantined, why),
            None => self.turn(NodeHealth::Up, ""),
        }
    }

    /// Waits for `event`, there being no connection, or returns `None` when nobody will send requests any more.
    pub(super) async fn meanwhile<T>(&mut self, event: impl Future<Output = T>) -> Option<T> {
        let mut event = pin!(event);
        loop {
            tokio::select! {
                outcome = &mut event => return Some(outcome),
                request = self.inbox.recv() => match request? {
                    // There is nothing to wait for.
                    Request::Ping(_) => (),
                    request => self.set_aside(request, NodeOutcome::Skipped, false),
                },
            }
        }
    }
}

pub(super) fn shortest_pause() -> Duration {
    jittered(SHORTEST_PAUSE)
}

/// Between half of `pause` and all of it, so that the daemons of a fleet do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_vote_however_many_names_it_has() {
        let roster = Roster::default();
        assert_eq!(roster.enter("redis1", "a"), Ok(()));
        assert_eq!(roster.enter("redis2", "b"), Ok(()));
        assert_eq!(roster.enter("redis3", "a"), Err(Refusal::SameServer("redis1".into())));
        assert_eq!(roster.enter("redis1", "a"), Ok(()), "a reconnect");
        roster.leave("redis1");
        assert_eq!(roster.enter("redis3", "a"), Ok(()));
        assert_eq!(roster.enter("redis1", "c"), Ok(()), "restarted as another");
    }
}
