//! What a decided batch writes.

use foldhash::HashMap;

use super::decide::{Decided, Verdict};
use super::{Engine, snapshot};
use crate::domain::{AggregateId, Domain};
use crate::job::{Job, Origin};
use crate::metrics::OutcomeLabel;
use crate::plan::Planned;
use crate::projection::Change;
use crate::store::{Append, Left, Receipt, Transaction};

/// What the batch writes: read models from the states, receipts from the verdicts, and the events.
pub(super) fn transaction<D: Domain>(
    engine: &Engine<D>,
    jobs: &[Planned<Job<D>>],
    decided: &Decided<D>,
) -> Transaction {
    let mut transaction = Transaction { read_only: decided.read_only.clone(), ..Transaction::default() };
    for (planned, verdict) in jobs.iter().zip(&decided.verdicts) {
        let (outcome, left) = match verdict {
            Verdict::Applied { count: 0, .. } => (OutcomeLabel::Applied, Left::Nothing { reason: None }),
            Verdict::Applied { first, count } => {
                (OutcomeLabel::Applied, Left::Events { first: *first as u64, count: *count as u64 })
            }
            Verdict::Rejected(reason) => (OutcomeLabel::Rejected, Left::Nothing { reason: Some((*reason).to_owned()) }),
            Verdict::Expired => (OutcomeLabel::Expired, Left::Nothing { reason: None }),
            Verdict::Dead(dead) => (OutcomeLabel::Dead, Left::Nothing { reason: Some(dead.reason()) }),
            Verdict::Duplicate(_)
            | Verdict::Repeats(_)
            | Verdict::IdReused
            | Verdict::NotDue(_)
            | Verdict::Unreadable
            | Verdict::Again => {
                continue;
            }
        };
        let (job, fingerprint) = (planned.job.id, planned.job.fingerprint);
        transaction.receipts.push(Receipt { job, outcome: outcome.as_str(), left, fingerprint });
    }
    let mut by_aggregate: HashMap<&AggregateId, Vec<D::Event>> = HashMap::default();
    for versioned in &decided.events {
        let (job, new) = (&jobs[versioned.job].job, &versioned.new);
        by_aggregate.entry(&new.aggregate).or_default().push(new.event.clone());
        transaction.events.push(Append {
            aggregate: new.aggregate.clone(),
            version: versioned.version,
            job: job.id,
            index: versioned.index,
            event: D::encode(&new.event),
            metadata: metadata(job, None),
        });
    }
    if let (Some(last), Some(versioned)) = (transaction.events.last_mut(), decided.events.last()) {
        last.metadata = metadata(&jobs[versioned.job].job, Some(format!("{:016x}", rand::random::<u64>())));
    }
    let mut changes: Vec<Change<'_, D>> = by_aggregate
        .iter()
        .filter_map(|(aggregate, events)| {
            let (state, version) = (decided.states.get(aggregate)?, *decided.versions.get(aggregate)?);
            Some(Change { aggregate, version, state, events })
        })
        .collect();
    changes.sort_by(|a, b| a.aggregate.cmp(b.aggregate));
    for change in changes.iter().filter(|change| snapshot::is_due(before(change), change.version)) {
        let last = transaction.events.iter().rfind(|append| append.aggregate == *change.aggregate);
        let after = last.map(|append| (change.version, append.event_id()));
        let taken =
            after.and_then(|after| snapshot::take::<D>(change.aggregate, after, change.state, &engine.incidents));
        transaction.snapshots.extend(taken);
    }
    for projection in &engine.projections {
        let before = transaction.projections.len();
        projection.write(&changes, &mut transaction.projections);
        let bytes = transaction.projections.len() - before;
        if bytes > 0 {
            engine.metrics.projected(projection.name(), bytes);
        }
    }
    transaction
}

/// The aggregate's version when the batch began.
fn before<D: Domain>(change: &Change<'_, D>) -> u64 {
    change.version - change.events.len() as u64
}

/// What an event says of where it comes from. The last one of a transaction names the try, by which successors know whether it
/// was this one that was committed.
fn metadata<D: Domain>(job: &Job<D>, attempt: Option<String>) -> String {
    #[derive(serde::Serialize)]
    struct Metadata<'a> {
        job: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<String>,
        #[serde(flatten)]
        origin: &'a Origin,
    }
    let metadata = Metadata { job: job.id.to_string(), attempt, origin: &job.origin };
    // Text and optional text cannot fail to be written as JSON.
    serde_json::to_string(&metadata).unwrap_or_default()
}
