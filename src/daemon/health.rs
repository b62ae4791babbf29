//! Whether work can be done: shown about every second by the very steps that work ends with, a commit and an acknowledgement.
//!
//! Whoever asks whether the daemon is ready gets what is known already, so the answer comes at once, also when a server is
//! silent. What is too old is not believed.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::batch::{Engine, Step};
use crate::daemon::open::unread_events;
use crate::daemon::vouch;
use crate::domain::Domain;
use crate::fleet::Fitness;
use crate::metrics::Stalled;
use crate::projection::Source;
use crate::store::{Outage, SchemaState, StoreError};
use crate::worker::{IntakeStatus, Prefetch};

/// Time between two looks. Work that was done since the last one shows what the look would show.
const INTERVAL: Duration = Duration::from_millis(700);

/// Time between two probes of what the work needs beside the broker, and how long one may take: a peer goes on when this process
/// reaches less than it does.
const PROBE: Duration = Duration::from_millis(500);

/// How long a step may take that shows whether it can be done.
const LIMIT: Duration = Duration::from_millis(1500);

/// Time between two looks at the schema while it is as it should be: somebody migrates it seldom, and it takes three questions.
const SCHEMA: Duration = Duration::from_secs(5);

/// Time between two looks at the builds of read models: whoever fills one waits for this daemon's word.
const BUILDS: Duration = Duration::from_secs(1);

/// For so long a table that was refused is not tried again.
const REFUSED: Duration = Duration::from_secs(10);

/// When what changes seldom was last seen to be as it should be.
#[derive(Debug, Default)]
struct Seen {
    schema: Option<Instant>,
    builds: Option<Instant>,
    /// When a build's table was refused: each refusal costs the pool its connections.
    refused: Option<Instant>,
}

/// What is known is believed for so long.
const VALIDITY: Duration = Duration::from_millis(2900);

/// How long jobs may be in hand without any of them coming to its end, beside the time that one decision may take: longer
/// than any server is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A failure is forgotten after so long when there are no jobs to fail with.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Broker,
    Database,
    Progress,
}

/// What is known of one check.
type Known = Option<(Instant, Result<(), String>)>;

/// Whether work can be done. Clones share what is known.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<[Known; 3]>>);

impl Health {
    /// Whether entries can be acknowledged; the error says why not.
    pub fn broker(&self) -> Result<(), String> {
        self.get(Check::Broker)
    }

    /// Whether something can be committed; the error says why not.
    pub fn database(&self) -> Result<(), String> {
        self.get(Check::Database)
    }

    /// Whether the jobs in hand come to their end; the error says why not.
    pub fn progress(&self) -> Result<(), String> {
        self.get(Check::Progress)
    }

    fn get(&self, check: Check) -> Result<(), String> {
        match &self.0.lock().unwrap_or_else(PoisonError::into_inner)[check as usize] {
            None => Err("nothing is known yet".to_owned()),
            Some((_, Err(why))) => Err(why.clone()),
            Some((at, Ok(()))) if at.elapsed() > VALIDITY => Err("it does not answer".to_owned()),
            Some((_, Ok(()))) => Ok(()),
        }
    }

    fn set(&self, check: Check, result: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[check as usize] = Some((Instant::now(), result));
    }
}

/// What looks after the health.
pub(super) struct Watch<D: Domain> {
    pub engine: Arc<Engine<D>>,
    pub prefetch: Prefetch,
    pub reading: IntakeStatus,
    pub health: Health,
    /// Told of every probe.
    pub fitness: watch::Sender<Fitness>,
    /// What is read from the log.
    pub sources: Vec<Source<D>>,
    /// How long a decision may take.
    pub decide_timeout: Duration,
    /// Whether it does not matter that a newer program may have written what this one does not read.
    pub despite_schemas: bool,
}

impl<D: Domain> Watch<D> {
    /// Looks for as long as it is polled.
    pub async fn run(self) {
        let brokers = async {
            let mut busy_since = None;
            loop {
                self.progress(&mut busy_since);
                self.broker().await;
                tokio::time::sleep(INTERVAL).await;
            }
        };
        let databases = async {
            let mut seen = Seen::default();
            loop {
                let next = tokio::time::Instant::now() + PROBE;
                self.database(&mut seen).await;
                tokio::time::sleep_until(next).await;
            }
        };
        tokio::join!(brokers, databases);
    }

    async fn broker(&self) {
        // Always shown, since jobs of one stream say nothing of the others.
        let broker = &self.engine.broker;
        let proof = match tokio::time::timeout(LIMIT, broker.prove()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                if error.is_about_keys() {
                    broker.doubt();
                }
                Err(error.to_string())
            }
            Err(_) => Err(format!("the broker does not answer within {LIMIT:?}")),
        };
        // What names all that is refused comes first.
        let result = broker.permits().and(proof).and(self.real(Step::Acknowledge));
        self.engine.metrics.ready("broker", result.is_ok());
        self.health.set(Check::Broker, result);
    }

    async fn database(&self, seen: &mut Seen) {
        let commits = || self.engine.progress.age(Step::Commit) < PROBE;
        let mut asked = pin!(tokio::time::timeout(LIMIT, self.ask_database(seen)));
        let answer = loop {
            tokio::select! {
                answer = &mut asked => break answer,
                () = tokio::time::sleep(PROBE) => self.probed(commits()),
            }
        };
        self.probed(matches!(answer, Ok(Ok(()))) || commits());
        let result = match answer {
            Ok(result) => result,
            // A pool in full use by batches that commit is no reason to worry.
            Err(_) if self.engine.progress.age(Step::Commit) < INTERVAL => Ok(()),
            Err(_) => Err(format!("the database does not answer within {LIMIT:?}")),
        };
        if result.is_ok() {
            self.reading.store_is_away(false);
        }
        let result = result.and(self.real(Step::Settle));
        self.engine.metrics.ready("database", result.is_ok());
        self.health.set(Check::Database, result);
    }

    /// A probe has ended, or would have if the database had answered in time.
    fn probed(&self, has_reached: bool) {
        let locks = &self.engine.locks;
        let has_quorum = locks.nodes().iter().filter(|node| node.is_up()).count() >= locks.quorum();
        self.fitness.send_modify(|fitness| fitness.probed(Instant::now(), has_reached && has_quorum));
    }

    /// Whether the step succeeds with real jobs: it may need more than the proof does. Without jobs in hand a failure is
    /// forgotten after a while, since nobody tries again, and by whoever stands by at once.
    fn real(&self, step: Step) -> Result<(), String> {
        match self.engine.progress.failure(step) {
            Some((age, why)) if self.prefetch.count() > 0 || (age < FORGOTTEN && !self.reading.stands_by()) => Err(why),
            _ => Ok(()),
        }
    }

    /// Commits something, unless batches just did, and looks at the schema and at the builds of read models, unless they were `seen` lately
    /// to be as they should be.
    async fn ask_database(&self, seen: &mut Seen) -> Result<(), String> {
        let store = &self.engine.store;
        let told = |error: StoreError| match error {
            StoreError::Unavailable(Outage::ReadOnly, _) => "the database is read-only".to_owned(),
            error => error.to_string(),
        };
        let is_proven = self.engine.progress.age(Step::Commit) >= INTERVAL;
        if is_proven {
            store.prove().await.map_err(told)?;
        }
        if seen.builds.is_none_or(|seen| seen.elapsed() >= BUILDS) {
            seen.builds = None;
            // A build that this program cannot write keeps it from committing anything.
            match self.engine.look_at_builds().await {
                Ok(()) => {
                    self.vouch(seen).await;
                    seen.builds = Some(Instant::now());
                }
                // The schema may say more of it.
                Err(_) => seen.schema = None,
            }
        }
        // Batches that commit until now say nothing of now: something has to be asked.
        if is_proven && seen.schema.is_some_and(|seen| seen.elapsed() < SCHEMA) {
            return Ok(());
        }
        let asked = Instant::now();
        seen.schema = None;
        match store.schema().await.map_err(told)? {
            SchemaState::Current => {
                let unread = if self.despite_schemas { None } else { unread_events::<D>(store).await.map_err(told)? };
                if let Some(unread) = unread {
                    return Err(unread);
                }
                if seen.builds.is_none() {
                    return self.engine.look_at_builds().await;
                }
                seen.schema = Some(asked);
                Ok(())
            }
            SchemaState::Behind(missing) => Err(format!("{missing} migrations are pending")),
            SchemaState::Ahead => Err("the schema is newer than this program".to_owned()),
        }
    }

    /// Gives this daemon's word for builds that are filled. It says nothing of whether jobs can be committed now.
    async fn vouch(&self, seen: &mut Seen) {
        if seen.refused.is_some_and(|at| at.elapsed() < REFUSED) {
            return;
        }
        match vouch::vouch(&self.engine, &self.sources).await {
            Ok(is_allowed) => seen.refused = (!is_allowed).then(Instant::now),
            Err(error) if self.engine.incidents.is_news("builds") => {
                tracing::warn!(%error, "this daemon cannot say that it can write a build");
            }
            Err(_) => {}
        }
    }

    /// Looks whether the jobs in hand, which there have been since `busy_since`, come to their end.
    fn progress(&self, busy_since: &mut Option<Instant>) {
        let engine = &self.engine;
        let jobs = self.prefetch.count();
        if jobs == 0 {
            *busy_since = None;
        }
        let busy = if jobs == 0 { Duration::ZERO } else { busy_since.get_or_insert_with(Instant::now).elapsed() };
        let stalled = |step| busy.min(engine.progress.age(step));
        let (commit, acknowledge) = (stalled(Step::Settle), stalled(Step::Acknowledge));
        engine.metrics.stalled(Stalled::Commit, commit);
        engine.metrics.stalled(Stalled::Acknowledge, acknowledge);
        let patience = PATIENCE + self.decide_timeout;
        let result = if commit > patience {
            Err(format!("{jobs} jobs are in hand, and none was committed for {} s", commit.as_secs()))
        } else if acknowledge > patience {
            Err(format!("{jobs} jobs are in hand, and none was acknowledged for {} s", acknowledge.as_secs()))
        } else {
            Ok(())
        };
        engine.metrics.ready("progress", result.is_ok());
        self.health.set(Check::Progress, result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_or_too_old_is_not_believed() {
        let health = Health::default();
        assert!(health.broker().is_err());
        health.set(Check::Broker, Ok(()));
        assert!(health.broker().is_ok() && health.database().is_err());
        let old = Instant::now() - VALIDITY - Duration::from_secs(1);
        health.0.lock().expect("the lock")[Check::Broker as usize] = Some((old, Ok(())));
        assert_eq!(health.broker(), Err("it does not answer".to_owned()));
    }
}
