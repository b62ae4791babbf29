//! What settled jobs are told, and what happens with their entries.

use super::Back;
use super::decide::{Decided, ID_REUSED, Verdict};
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

/// A job's end as this attempt found it; `None` sends it back to the plan.
pub(super) type End = Option<(OutcomeLabel, Told, Fate)>;

/// The end of each job, now that its batch is durable.
pub(super) fn ends<D: Domain>(jobs: &[Planned<Job<D>>], decided: &Decided<D>, committed: Committed) -> Vec<End> {
    let mut ends: Vec<End> = Vec::with_capacity(jobs.len());
    for verdict in &decided.verdicts {
        let end = match verdict {
            Verdict::Applied { count: 0, .. } => Some(told(OutcomeLabel::Applied, None, None)),
            Verdict::Applied { first, count } => {
                let first = committed.base + 1 + *first as u64;
                Some(told(OutcomeLabel::Applied, None, Some((first, first + *count as u64 - 1))))
            }
            Verdict::Rejected(reason) => Some(told(OutcomeLabel::Rejected, Some((*reason).to_owned()), None)),
            Verdict::Expired => Some(told(OutcomeLabel::Expired, None, None)),
            Verdict::Dead(dead) => {
                let (label, told, _) = told(OutcomeLabel::Dead, Some(dead.reason()), None);
                Some((label, told, Fate::Bury { error: dead.detail.clone() }))
            }
            Verdict::IdReused => {
                Some(told(OutcomeLabel::Duplicate, Some(ID_REUSED.to_owned()), None)).map(|(label, told, fate)| {
                    (label, Told { outcome: OutcomeLabel::Rejected.as_str().to_owned(), ..told }, fate)
                })
            }
            Verdict::Duplicate(receipt) => Some(repeated(receipt)),
            Verdict::Repeats(earlier) => ends.get(*earlier).cloned().flatten().map(|(_, told, fate)| {
                // The entry of a dead job's repetition is a letter of its own, since it is an entry of its own.
                (OutcomeLabel::Duplicate, told, fate)
            }),
            Verdict::NotDue(at) => {
                let (label, told, _) = told(OutcomeLabel::Applied, None, None);
                Some((label, told, Fate::Postpone { at: *at }))
            }
            Verdict::Again => None,
        };
        ends.push(end);
    }
    ends
}

fn told(label: OutcomeLabel, reason: Option<String>, positions: Option<(u64, u64)>) -> (OutcomeLabel, Told, Fate) {
    (label, Told { outcome: label.as_str().to_owned(), reason, positions }, Fate::Acknowledge)
}

/// The end of a job that has a receipt: the first outcome again. A dead one's letter is written again if it was not.
fn repeated(receipt: &StoredReceipt) -> (OutcomeLabel, Told, Fate) {
    let told = Told { outcome: receipt.outcome.clone(), reason: receipt.reason.clone(), positions: receipt.positions };
    let dead = receipt.outcome == OutcomeLabel::Dead.as_str();
    let fate = if dead { Fate::Bury { error: receipt.reason.clone().unwrap_or_default() } } else { Fate::Acknowledge };
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
            Some((label, told, fate)) => settled.push(Settled { planned, label, told, fate }),
            None => back.push((planned, Back::Targets)),
        }
    }
}
