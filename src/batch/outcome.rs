//! What settled jobs came to, and what happens with their entries.

use super::decide::{ID_REUSED, Verdict};
use super::failure::PutBackReason;
use crate::domain::Domain;
use crate::job::{Job, Outcome, OutcomeKind, Reason};
use crate::metrics::OutcomeLabel;
use crate::plan::Planned;
use crate::store::{Committed, StoredReceipt};

/// A job with its end, to be told to the broker.
pub struct Settled<D: Domain> {
    /// The job.
    pub planned: Planned<Job<D>>,
    /// What it came to, and what happens with its entry.
    pub end: End,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// What the reply says; the first outcome, when this delivery is a duplicate.
    pub outcome: Outcome,
    /// Whether another delivery, or another job of this id, has the receipt.
    pub is_duplicate: bool,
    /// What happens with the entry.
    pub action: EntryAction,
}

impl End {
    /// The job goes behind a dead letter, and has come to nothing.
    pub fn held() -> Self {
        Self { action: EntryAction::Hold, ..first(Outcome::applied(None)) }
    }

    /// Whether the job has come to something: whatever that is, it has its receipt.
    pub fn is_final(&self) -> bool {
        !matches!(self.action, EntryAction::Hold | EntryAction::Postpone { .. })
    }

    /// As metrics count it.
    pub fn label(&self) -> OutcomeLabel {
        match self.outcome.kind {
            _ if self.is_duplicate => OutcomeLabel::Duplicate,
            OutcomeKind::Applied | OutcomeKind::Recorded(_) => OutcomeLabel::Applied,
            OutcomeKind::Rejected => OutcomeLabel::Rejected,
            OutcomeKind::Expired => OutcomeLabel::Expired,
            OutcomeKind::Dead => OutcomeLabel::Dead,
        }
    }
}

/// What happens with a settled job's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryAction {
    /// Reply, acknowledge, delete.
    Acknowledge,
    /// Reply, and move to the dead letters.
    DeadLetter {
        /// All that is known of the failure.
        error: String,
    },
    /// Move behind the dead letter that holds it; there is no outcome yet.
    Hold,
    /// Move to the schedule; there is no outcome yet.
    Postpone {
        /// When it is due, Unix milliseconds.
        at: u64,
    },
}

/// A job's end as this attempt found it; the error sends it back to the plan.
pub(in crate::batch) type Attempt = Result<End, PutBackReason>;

/// The end of each job, now that its batch is durable.
pub(in crate::batch) fn ends<D: Domain>(
    jobs: &[Planned<Job<D>>],
    verdicts: &[Verdict],
    committed: Committed,
) -> Vec<Attempt> {
    let mut ends: Vec<Attempt> = Vec::with_capacity(jobs.len());
    for (planned, verdict) in jobs.iter().zip(verdicts) {
        let end = match verdict {
            Verdict::Ends(outcome) => Ok(first(outcome.clone().shifted_to(committed.base + 1))),
            Verdict::Duplicate(receipt) => Ok(repeated(receipt, &planned.queued.job)),
            Verdict::Repeats(earlier) => match ends.get(*earlier) {
                Some(Ok(End { outcome, .. })) => Ok(duplicate(outcome.clone())),
                Some(Err(why)) => Err(*why),
                None => Err(PutBackReason::Targets),
            },
            Verdict::IdReused => Ok(duplicate(Outcome::rejected(ID_REUSED))),
            Verdict::NotDue(at) => {
                Ok(End { action: EntryAction::Postpone { at: *at }, ..first(Outcome::applied(None)) })
            }
            Verdict::Unreadable => Err(PutBackReason::Unreadable),
            Verdict::Again => Err(PutBackReason::Targets),
        };
        ends.push(end);
    }
    ends
}

/// The end of a job that has its receipt with this batch.
fn first(outcome: Outcome) -> End {
    let action = match &outcome.reason {
        Some(Reason::Dead(dead)) => EntryAction::DeadLetter { error: dead.detail.clone() },
        Some(Reason::Rejection(_)) | None => EntryAction::Acknowledge,
    };
    End { outcome, is_duplicate: false, action }
}

fn duplicate(outcome: Outcome) -> End {
    End { outcome, is_duplicate: true, action: EntryAction::Acknowledge }
}

/// The end of a job that has a receipt: the first outcome again. A dead one's letter is written again if this entry has been
/// delivered before, since the process may have ended before it was written; what the producer sent again gets none.
fn repeated<D: Domain>(receipt: &StoredReceipt, job: &Job<D>) -> End {
    let outcome = Outcome::recorded(&receipt.outcome, receipt.reason.as_deref(), receipt.positions);
    let is_letter = outcome.kind == OutcomeKind::Dead && (job.deliveries.is_some() || job.letter.is_some());
    let error = receipt.reason.clone().unwrap_or_default();
    let action = if is_letter { EntryAction::DeadLetter { error } } else { EntryAction::Acknowledge };
    End { action, ..duplicate(outcome) }
}

/// Parts jobs that have an end from those that have not.
pub(in crate::batch) fn settle<D: Domain>(
    jobs: Vec<Planned<Job<D>>>,
    ends: Vec<Attempt>,
    settled: &mut Vec<Settled<D>>,
    back: &mut Vec<(Planned<Job<D>>, PutBackReason)>,
) {
    for (planned, end) in jobs.into_iter().zip(ends) {
        match end {
            Ok(end) => settled.push(Settled { planned, end }),
            Err(why) => back.push((planned, why)),
        }
    }
}
