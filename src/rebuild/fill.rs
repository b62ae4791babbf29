//! A build is filled: page by page from the first event on, each with the checkpoint.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::problem::Problem;
use crate::domain::Domain;
use crate::page::{self, Failure, Fold, Place};
use crate::projection::Code;
use crate::store::sql::{Sql, Tables};
use crate::store::{Leave, LogPage, Repeat, Store, StoreError, subscription_of};

/// The most events of a page, and about how many bytes the statements of one have.
const PAGE: u32 = 10_000;
const BYTES: usize = 4 << 20;

/// A page that the database did not take is tried again after so long, and so often.
const PAUSE: Duration = Duration::from_millis(100);
const TRIES: u32 = 50;

/// Time between two signs of life while nothing moves.
const BEAT: Duration = Duration::from_secs(1);

/// How far a build is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// All events up to this one are in it.
    pub position: u64,
    /// Where the log ended when that was asked last.
    pub head: u64,
    /// Events for each second since it was begun or gone on with.
    pub rate: f64,
    /// States that were needed, and how many of these had to be read again.
    pub states: (u64, u64),
}

/// A build that is being filled.
pub struct Fill<'a, D: Domain> {
    pub(super) store: &'a Store,
    pub(super) code: Code<'a, D>,
    pub(super) build: u16,
    pub(super) token: Uuid,
    /// All events up to this one are in it.
    pub position: u64,
    pub(super) fold: Fold<D>,
    pub(super) max_packet: u64,
    limit: u32,
    is_gentle: bool,
    began: (Instant, u64),
    failures: u32,
}

impl<'a, D: Domain> Fill<'a, D> {
    /// Goes on with a build, whose checkpoint is ours by this token, from where it is. States of about `memory` bytes are remembered.
    /// A gentle one rests for as long as it works.
    pub fn new(
        (store, max_packet): (&'a Store, u64),
        (code, build): (Code<'a, D>, u16),
        (token, position): (Uuid, u64),
        (memory, is_gentle): (usize, bool),
    ) -> Self {
        let (fold, began) = (Fold::new(memory), (Instant::now(), position));
        Self { store, code, build, token, position, fold, max_packet, limit: PAGE, is_gentle, began, failures: 0 }
    }

    /// Fills it until no more than `rest` events are left, and tells how far it is after each page.
    pub async fn until(&mut self, rest: u64, mut told: impl FnMut(Progress)) -> Result<(), Problem> {
        let mut head = self.store.sequence().await?;
        let mut ahead = self.read(self.position).await?;
        loop {
            let Some(page) = ahead.take() else { return Ok(()) };
            let began = Instant::now();
            // The next page is read while this one is written.
            let next = self.store.clone();
            let (only, after, limit) = (self.code.only(), page.last.0, self.limit);
            let (done, read) = tokio::join!(self.page(&page), page::read(&next, only, after, limit));
            match done {
                Ok(()) => self.failures = 0,
                Err(failure) => {
                    self.failed(failure).await?;
                    ahead = self.read(self.position).await?;
                    continue;
                }
            }
            if self.position + rest >= head {
                head = self.store.sequence().await?;
            }
            told(self.progress(head));
            if self.position + rest >= head {
                return Ok(());
            }
            ahead = match read {
                Ok(read) => read,
                Err(failure) => {
                    self.failed(failure).await?;
                    self.read(self.position).await?
                }
            };
            if self.is_gentle {
                tokio::time::sleep(began.elapsed()).await;
            }
        }
    }

    fn progress(&self, head: u64) -> Progress {
        let (since, from) = self.began;
        let rate = (self.position - from) as f64 / since.elapsed().as_secs_f64().max(0.001);
        Progress { position: self.position, head, rate, states: (self.fold.needed, self.fold.loaded) }
    }

    async fn read(&self, after: u64) -> Result<Option<LogPage>, Failure> {
        page::read(self.store, self.code.only(), after, self.limit).await
    }

    async fn page(&mut self, page: &LogPage) -> Result<(), Failure> {
        let mut rows = Sql::new();
        rows.of(Tables::Build(self.build));
        let folded = page::write(self.store, self.code, &mut self.fold, page, &mut rows).await?;
        let name = subscription_of(self.code.name(), self.build);
        let place =
            Place { name: &name, token: self.token, position: self.position, tables: Tables::Build(self.build) };
        let done = page::commit(self.store, place, page, &rows, self.max_packet).await?;
        self.position = done.position;
        folded.into_iter().for_each(|folded| self.fold.keep(folded));
        // Pages of about the same weight are neither too large for a packet nor too many.
        let weight = (rows.len() / done.events.max(1)).max(1);
        self.limit = ((BYTES / weight) as u32).clamp(1, PAGE);
        Ok(())
    }

    /// What the server will take another time is tried again; everything else ends the filling, and running it again goes on from here.
    async fn failed(&mut self, failure: Failure) -> Result<(), Problem> {
        match &failure {
            Failure::Store(StoreError::Data(_)) if self.limit > 1 => {
                self.limit /= 2;
                return Ok(());
            }
            Failure::Store(StoreError::Repeat(_)) => {}
            Failure::Store(StoreError::Unavailable(..)) if self.failures < TRIES => {}
            Failure::Store(StoreError::Unknown(_)) if self.failures < TRIES => {}
            _ => return Err(failure.into()),
        }
        self.failures += 1;
        tokio::time::sleep(PAUSE).await;
        // Whether a page was committed of which nobody knows: the checkpoint does.
        let name = subscription_of(self.code.name(), self.build);
        let Ok(checkpoints) = self.store.checkpoints().await else { return Ok(()) };
        match checkpoints.into_iter().find(|checkpoint| checkpoint.name == name) {
            Some(now) if now.token == Some(self.token) => self.position = now.position,
            _ => return Err(StoreError::Fenced("somebody else goes on with the build".to_owned()).into()),
        }
        Ok(())
    }

    /// Does something that takes long, with signs of life meanwhile.
    pub(super) async fn while_beating<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let name = subscription_of(self.code.name(), self.build);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(BEAT) => {
                    if !self.store.beat_checkpoint(&name, self.token).await? {
                        return Err(StoreError::Fenced("somebody else goes on with the build".to_owned()));
                    }
                }
            }
        }
    }

    /// Leaves the build as far as it is, for whoever goes on.
    pub(super) async fn leave(&self) {
        let name = subscription_of(self.code.name(), self.build);
        // Whoever goes on waits for a while if this does not arrive.
        let _ = self.store.leave_checkpoint(&name, self.token, Leave::Free).await;
    }

    /// A moment in which nothing was right to be done is over.
    pub(super) fn is_to_be_repeated(error: &StoreError) -> bool {
        matches!(
            error,
            StoreError::Repeat(Repeat::LockWait | Repeat::Deadlock | Repeat::Snapshot | Repeat::Certification)
        )
    }
}
