//! What is asked of one lock node, and the line in which it waits for the node's connection.

use super::Op;
use super::quorum::Vote;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// More keys than this are not put into one pipeline: those at its head would wait for the answers to those at its end.
pub(super) const KEYS_PER_PIPELINE: usize = 2_000;

/// More tokens than this are not remembered: a release that was not needed does no harm.
const TOKENS_KEPT: usize = 100_000;

/// More keys than this are not kept for a node that is away: their ttl has to free them.
const KEYS_KEPT: usize = 100_000;

/// Keys under one token.
#[derive(Clone)]
pub(super) struct Claim {
    pub keys: Arc<[String]>,
    pub token: Arc<str>,
    pub since: Instant,
    /// Holders that are gone: a key that is held under a token of theirs is free.
    pub legacy: Arc<[Arc<str>]>,
}

/// One request to one node. Each is one command, so that replies and requests pair up.
pub(super) enum Request {
    /// Acquires or extends the keys, and casts the node's votes.
    Ask { op: Op, claim: Claim, ballot: mpsc::UnboundedSender<Vec<Vote>> },
    /// Deletes the keys that still carry the token.
    Release { claim: Claim },
    /// Says when everything before it has been answered.
    Ping(Option<oneshot::Sender<()>>),
}

impl Request {
    pub fn keys(&self) -> usize {
        match self {
            Request::Ask { claim, .. } | Request::Release { claim } => claim.keys.len(),
            Request::Ping(_) => 0,
        }
    }
}

/// The requests that wait for a node.
///
/// A release goes before all that asks for votes, so keys are free as soon as they can be, and still in the node's caches
/// when they are deleted (256 keys per call on three nodes: 5 to 17 % less of the nodes' time). It stays behind what
/// asks under its own token; any other acquire that it overtakes finds a key free that it would have found held.
#[derive(Default)]
pub(super) struct Backlog {
    /// The releases of what has been sent already, in the order in which they were made.
    releases: VecDeque<Request>,
    /// All else, in the order in which it was made.
    requests: VecDeque<Request>,
    keys: usize,
    last_asked: Option<Instant>,
    /// The tokens of what waits to be asked.
    waiting: HashSet<Arc<str>>,
    /// The tokens of acquires that were refused without being sent: their releases need not be sent either, which keeps
    /// an overload from feeding on itself.
    unsent: HashSet<Arc<str>>,
}

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.releases.is_empty()
    }

    /// How many keys wait.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Whether so much waits that nothing more should be asked.
    pub fn is_full(&self) -> bool {
        self.keys >= KEYS_KEPT
    }

    pub fn push(&mut self, request: Request) {
        self.keys += request.keys();
        match &request {
            Request::Release { claim } if !self.waiting.contains(&claim.token) => {
                self.releases.push_back(request);
                return;
            }
            Request::Ask { claim, .. } => drop(self.waiting.insert(claim.token.clone())),
            _ => (),
        }
        self.requests.push_back(request);
    }

    fn pop(&mut self) -> Option<Request> {
        let request = self.releases.pop_front().or_else(|| self.requests.pop_front())?;
        self.keys -= request.keys();
        if let Request::Ask { claim, .. } = &request {
            self.waiting.remove(&claim.token);
        }
        Some(request)
    }

    /// Removes what fits into the next pipeline. What comes back apart is not to be sent: all that asks for a vote when the
    /// node `may_vote` not; what has waited longer than `patience`, since its caller counts this node as silent by now and has
    /// a release on the way; and the release of what was never sent.
    pub fn next_pipeline(&mut self, patience: Duration, may_vote: bool) -> (Vec<Request>, Vec<Request>) {
        let now = Instant::now();
        let (mut batch, mut refused, mut keys) = (Vec::new(), Vec::new(), 0);
        while keys < KEYS_PER_PIPELINE
            && let Some(request) = self.pop()
        {
            match &request {
                Request::Ask { op, claim, .. } if !may_vote || now.duration_since(claim.since) >= patience => {
                    self.note_unsent(*op, claim);
                    refused.push(request);
                    continue;
                }
                Request::Ask { .. } => self.last_asked = Some(now),
                Request::Release { claim } if self.unsent.remove(&claim.token) => {
                    refused.push(request);
                    continue;
                }
                Request::Release { .. } | Request::Ping(_) => (),
            }
            keys += request.keys();
            batch.push(request);
        }
        (batch, refused)
    }

    /// A request for votes is refused without having been sent.
    pub fn note_unsent(&mut self, op: Op, claim: &Claim) {
        if op == Op::Acquire && self.unsent.len() < TOKENS_KEPT {
            self.unsent.insert(claim.token.clone());
        }
    }

    /// Removes everything. What comes is in the order in which it would have been sent.
    pub fn drain(&mut self) -> Vec<Request> {
        self.keys = 0;
        self.waiting.clear();
        self.releases.drain(..).chain(self.requests.drain(..)).collect()
    }

    /// Whether a release has to reach this node later if it cannot now. A node that was asked for nothing for a whole ttl
    /// has no key of an unexpired lease, so a node that stays away does not collect releases without end.
    pub fn should_keep(&mut self, claim: &Claim, ttl: Duration) -> bool {
        if self.unsent.remove(&claim.token) {
            return false;
        }
        let may_hold = |asked: Instant| claim.since.saturating_duration_since(asked) <= ttl;
        self.keys + claim.keys.len() <= KEYS_KEPT && self.last_asked.is_some_and(may_hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(2);
    const PATIENCE: Duration = Duration::from_millis(50);

    fn claim(keys: usize, since: Instant) -> Claim {
        let keys = (0..keys).map(|key| key.to_string()).collect();
        Claim { keys, token: "token".into(), since, legacy: Arc::default() }
    }

    fn acquire(keys: usize, since: Instant) -> Request {
        Request::Ask { op: Op::Acquire, claim: claim(keys, since), ballot: mpsc::unbounded_channel().0 }
    }

    #[test]
    fn a_pipeline_takes_what_waits_in_order_up_to_its_limit_of_keys() {
        let mut backlog = Backlog::default();
        backlog.push(acquire(KEYS_PER_PIPELINE - 1, Instant::now()));
        backlog.push(Request::Release { claim: claim(1, Instant::now()) });
        backlog.push(Request::Ping(None));
        let (batch, refused) = backlog.next_pipeline(PATIENCE, true);
        assert!(matches!(batch[..], [Request::Ask { .. }, Request::Release { .. }]) && refused.is_empty());
        assert!(matches!(backlog.next_pipeline(PATIENCE, true).0[..], [Request::Ping(None)]));
        assert!(backlog.is_empty() && backlog.keys == 0);
    }

    #[test]
    fn an_acquire_whose_caller_has_given_up_is_not_sent_and_neither_is_its_release() {
        let mut backlog = Backlog::default();
        backlog.push(acquire(1, Instant::now() - PATIENCE));
        backlog.push(Request::Release { claim: claim(1, Instant::now()) });
        let (batch, refused) = backlog.next_pipeline(PATIENCE, true);
        assert!(batch.is_empty() && matches!(refused[..], [Request::Ask { .. }, Request::Release { .. }]));
        assert!(backlog.last_asked.is_none() && backlog.unsent.is_empty());
    }

    #[test]
    fn the_release_of_an_acquire_that_was_never_sent_is_not_sent_and_forgotten() {
        let mut backlog = Backlog::default();
        let unsent = Claim { token: "unsent".into(), ..claim(1, Instant::now()) };
        backlog.note_unsent(Op::Acquire, &unsent);
        backlog.push(Request::Release { claim: unsent.clone() });
        backlog.push(Request::Release { claim: claim(1, Instant::now()) });
        let (batch, refused) = backlog.next_pipeline(PATIENCE, true);
        assert!(matches!((&batch[..], &refused[..]), ([Request::Release { .. }], [Request::Release { .. }])));
        assert!(batch.iter().all(|request| matches!(request, Request::Release { claim } if &*claim.token == "token")));
        assert!(backlog.unsent.is_empty());
    }

    #[test]
    fn a_release_goes_before_what_waits_and_behind_its_own_acquire() {
        let mut backlog = Backlog::default();
        let sent = Claim { token: "sent".into(), ..claim(1, Instant::now()) };
        backlog.push(acquire(1, Instant::now()));
        backlog.push(Request::Release { claim: claim(1, Instant::now()) });
        backlog.push(Request::Release { claim: sent });
        let (batch, refused) = backlog.next_pipeline(PATIENCE, true);
        let [Request::Release { claim: first }, Request::Ask { .. }, Request::Release { claim: last }] = &batch[..]
        else {
            panic!("three requests, of which the first was made last");
        };
        assert_eq!((&*first.token, &*last.token), ("sent", "token"));
        assert!(refused.is_empty() && backlog.waiting.is_empty());
    }

    #[test]
    fn a_node_that_may_not_vote_gets_releases_only() {
        let mut backlog = Backlog::default();
        backlog.push(Request::Release { claim: claim(1, Instant::now()) });
        backlog.push(acquire(1, Instant::now()));
        let (batch, refused) = backlog.next_pipeline(PATIENCE, false);
        assert!(matches!((&batch[..], &refused[..]), ([Request::Release { .. }], [Request::Ask { .. }])));
    }

    #[test]
    fn a_release_is_kept_only_for_a_node_that_may_hold_the_key() {
        let (mut backlog, now) = (Backlog::default(), Instant::now());
        assert!(!backlog.should_keep(&claim(1, now), TTL));
        backlog.push(acquire(1, now));
        backlog.next_pipeline(PATIENCE, true);
        assert!(backlog.should_keep(&claim(1, now + TTL), TTL));
        assert!(!backlog.should_keep(&claim(1, now + TTL * 2), TTL));
        assert!(!backlog.should_keep(&claim(KEYS_KEPT + 1, now), TTL));
    }
}
