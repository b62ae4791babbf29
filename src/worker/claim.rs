//! Taking over entries that nobody works on: those of consumers that have gone quiet, those of reads whose answers were lost, and
//! those that no list has.

use std::time::{Duration, Instant};

use super::Intake;
use super::intake::Failures;
use crate::job::EntryId;
use crate::lifecycle::Phase;
use crate::metrics::Source;
use crate::stream::{BrokerError, Sought};

/// Time between two looks for the entries of quiet consumers. Entries that a draining daemon hands back run within it.
const CLAIM_INTERVAL: Duration = Duration::from_millis(300);
/// Time between two looks for entries that no list has.
const SEEK_INTERVAL: Duration = Duration::from_secs(1);
/// Entries per page of a look through the pending ones.
const PAGE: usize = 1000;
/// The longest time between two looks for consumers of dead processes.
const CLEAN_UP_INTERVAL: Duration = Duration::from_secs(60);

/// Which pending entries.
#[derive(Clone, Copy)]
enum Listed {
    /// This consumer's that cannot be on their way to it any more.
    Ours,
    /// Those that nobody has touched for the configured time.
    Quiet,
    /// All of this consumer's.
    Assigned,
}

impl Intake {
    /// Looks for entries that somebody has to take over, until the daemon drains.
    pub(super) async fn claim(self) {
        let mut failures = Failures::default();
        let clean_up_interval = self.broker.settings().claim_after.min(CLEAN_UP_INTERVAL);
        let (mut clean_up, mut sought) = (Instant::now(), Instant::now());
        while self.lifecycle.is_running() {
            self.lifecycle.awake().await;
            self.reading.with_store(&self.lifecycle).await;
            let seeks = sought.elapsed() >= SEEK_INTERVAL;
            if seeks {
                sought = Instant::now();
            }
            let refused = self.scan(seeks).await;
            self.go_on(&refused, &mut failures, CLAIM_INTERVAL).await;
            if clean_up.elapsed() >= clean_up_interval {
                clean_up = Instant::now();
                self.clean_up().await;
            }
        }
    }

    /// One look through the pending entries of all streams: our own that are not in hand, since a reply or an
    /// acknowledgement was lost, and those that nobody has touched for the configured time; with `seeks` also those that no list
    /// has. Returns the error of each stream that has one, which stops none of the others.
    pub(super) async fn scan(&self, seeks: bool) -> Vec<BrokerError> {
        let mut errors = Vec::new();
        for stream in &self.broker.settings().names {
            errors.extend(self.scan_stream(stream, seeks).await.err());
        }
        errors
    }

    async fn scan_stream(&self, stream: &str, seeks: bool) -> Result<(), BrokerError> {
        let mut sought = Sought::default();
        while seeks && !sought.is_done && self.lifecycle.is_running() {
            let orphaned = self.broker.adopt(stream, &mut sought, PAGE as u64).await?;
            if orphaned > 0 {
                self.metrics.entries_orphaned(stream, orphaned);
                tracing::warn!(
                    queue = %stream,
                    entries = orphaned,
                    "entries were neither unread nor pending: somebody else acknowledged them or moved the group; they are run"
                );
            }
            if !sought.is_done {
                self.claim_pending(stream).await?;
            }
        }
        self.claim_pending(stream).await
    }

    async fn claim_pending(&self, stream: &str) -> Result<(), BrokerError> {
        self.take_all(stream, Listed::Ours).await?;
        self.take_all(stream, Listed::Quiet).await
    }

    /// Takes over what is assigned to this consumer and not in hand.
    pub(super) async fn take_assigned(&self, stream: &str) -> Result<(), BrokerError> {
        self.take_all(stream, Listed::Assigned).await
    }

    /// Takes over what is listed and not in hand, page by page.
    async fn take_all(&self, stream: &str, listed: Listed) -> Result<(), BrokerError> {
        let mut after = None;
        while self.lifecycle.is_running() {
            let page = match listed {
                Listed::Ours => self.broker.pending(stream, true, after, PAGE).await?,
                Listed::Quiet => self.broker.pending(stream, false, after, PAGE).await?,
                Listed::Assigned => self.broker.assigned(stream, after, PAGE).await?,
            };
            after = page.last().copied();
            let last = page.len() < PAGE;
            self.take_over(stream, self.hand.missing(stream, page)).await?;
            if last {
                break;
            }
        }
        Ok(())
    }

    /// Claims these entries, as there is room for them.
    async fn take_over(&self, stream: &str, mut ids: Vec<EntryId>) -> Result<(), BrokerError> {
        while !ids.is_empty() {
            let mut room = tokio::select! {
                room = self.hand.room(1, self.read_count) => room,
                () = self.lifecycle.reached(Phase::Draining) => return Ok(()),
            };
            let rest = ids.split_off(ids.len().min(room.entries()));
            let claimed = self.broker.claim(stream, &ids).await?;
            let rest = [claimed.left, rest].concat();
            if claimed.lost > 0 {
                self.metrics.claim_deleted(stream, claimed.lost);
                tracing::error!(queue = %stream, lost = claimed.lost, "pending entries were deleted by somebody else");
            }
            self.accept(claimed.entries, &mut room, Source::Claimed);
            ids = rest;
        }
        Ok(())
    }

    /// Removes the consumers of processes that are gone.
    async fn clean_up(&self) {
        for stream in &self.broker.settings().names {
            match self.broker.remove_consumers(stream, false).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(queue = %stream, removed, "consumers of dead processes were removed"),
                Err(error) => self.tell(&error),
            }
        }
    }
}
