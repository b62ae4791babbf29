//! What settled jobs are told, and what happens with their entries.

use super::Back;
use super::decide::{ID_REUSED, Verdict};
use crate::domain::Domain;
use crate::job::Job;
use crate::metrics::OutcomeLabel;
use crate::plan::Planned;
use crate::store::{Committed, StoredReceipt};

/// A job with its end, to be told to the broker.
pub struct Settled<D: Domain> {
    /// The job.
    pub planned: Planned<Job<D>>,
    /// As metrics count it.
    pub label: OutcomeLabel,
    /// What the reply says; the first outcome, when this delivery is a duplicate.
    pub told: Told,
    /// What happens with the entry.
    pub fate: Fate,
}

/// An outcome in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// `applied`, `rejected`, `expired` or `dead`.
    pub outcome: String,
    /// Why, unless it was applied.
    pub reason: Option<String>,
    /// Positions of its first and last event.
    pub positions: Option<(u64, u64)>,
}

/// What happens with a settled job's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Reply, acknowledge, delete.
    Acknowledge,
    /// Reply, and move to the dead letters.
    Bury {
        /// All that is known of the failure.
        error: String,
    },
    /// Move to the schedule; there is no outcome yet.
    Postpone {
        /// When it is due, Unix milliseconds.
        at: u64,
    },
}

/// A job's end as this attempt found it; the error sends it back to the plan.
pub(super) type End = Result<(OutcomeLabel, Told, Fate), Back>;

/// The end of each job, now that its batch is durable.
pub(super) fn ends<D: Domain>(jobs: &[Planned<Job<D>>], verdicts: &[Verdict], committed: Committed) -> Vec<End> {
    let mut ends: Vec<End> = Vec::with_capacity(jobs.len());
    for (planned, verdict) in jobs.iter().zip(verdicts) {
        let end = match verdict {
            Verdict::Applied { count: 0, .. } => Ok(told(OutcomeLabel::Applied, None, None)),
            Verdict::Applied { first, count } => {
                let first = committed.base + 1 + *first as u64;
                Ok(told(OutcomeLabel::Applied, None, Some((first, first + *count as u64 - 1))))
            }
            Verdict::Rejected(reason) => Ok(told(OutcomeLabel::Rejected, Some((*reason).to_owned()), None)),
            Verdict::Expired => Ok(told(OutcomeLabel::Expired, None, None)),
            Verdict::Dead(dead) => {
                let (label, told, _) = told(OutcomeLabel::Dead, Some(dead.reason()), None);
                Ok((label, told, Fate::Bury { error: dead.detail.clone() }))
            }
            Verdict::IdReused => {
                let (label, told, fate) = told(OutcomeLabel::Duplicate, Some(ID_REUSED.to_owned()), None);
                Ok((label, Told { outcome: OutcomeLabel::Rejected.as_str().to_owned(), ..told }, fate))
            }
            Verdict::Duplicate(receipt) => Ok(repeated(receipt, &planned.job)),
            Verdict::Repeats(earlier) => match ends.get(*earlier) {
                Some(Ok((_, told, _))) => Ok((OutcomeLabel::Duplicate, told.clone(), Fate::Acknowledge)),
                Some(Err(why)) => Err(*why),
                None => Err(Back::Targets),
            },
            Verdict::NotDue(at) => {
                let (label, told, _) = told(OutcomeLabel::Applied, None, None);
                Ok((label, told, Fate::Postpone { at: *at }))
            }
            Verdict::Unreadable => Err(Back::Unreadable),
            Verdict::Again => Err(Back::Targets),
        };
        ends.push(end);
    }
    ends
}

fn told(label: OutcomeLabel, reason: Option<String>, positions: Option<(u64, u64)>) -> (OutcomeLabel, Told, Fate) {
    (label, Told { outcome: label.as_str().to_owned(), reason, positions }, Fate::Acknowledge)
}

/// The end of a job that has a receipt: the first outcome again. A dead one's letter is written again if this entry has been
/// delivered before, since the process may have ended before it was written; what the producer sent again gets none.
fn repeated<D: Domain>(receipt: &StoredReceipt, job: &Job<D>) -> (OutcomeLabel, Told, Fate) {
    let told = Told { outcome: receipt.outcome.clone(), reason: receipt.reason.clone(), positions: receipt.positions };
    let is_letter = receipt.outcome == OutcomeLabel::Dead.as_str() && job.deliveries.is_some();
    let error = || receipt.reason.clone().unwrap_or_default();
    let fate = if is_letter { Fate::Bury { error: error() } } else { Fate::Acknowledge };
    (OutcomeLabel::Duplicate, told, fate)
}

/// Parts jobs that have an end from those that have not.
pub(super) fn settle<D: Domain>(
    jobs: Vec<Planned<Job<D>>>,
    ends: Vec<End>,
    settled: &mut Vec<Settled<D>>,
    back: &mut Vec<(Planned<Job<D>>, Back)>,
) {
    for (planned, end) in jobs.into_iter().zip(ends) {
        match end {
            Ok((label, told, fate)) => settled.push(Settled { planned, label, told, fate }),
            Err(why) => back.push((planned, why)),
        }
    }
}
