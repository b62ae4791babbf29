//! What a decided batch writes.

use foldhash::HashMap;

use crate::batch::decide::{Decided, Verdict};
use crate::batch::engine::Engine;
use crate::batch::load::snapshot;
use crate::domain::{AggregateId, Domain};
use crate::job::{Job, Origin};
use crate::plan::Planned;
use crate::projection::Change;
use crate::store::{EventToAppend, Receipt, Transaction};

/// What the batch writes: read models from the states, receipts from the verdicts, and the events.
pub(in crate::batch) fn transaction<D: Domain>(
    engine: &Engine<D>,
    jobs: &[Planned<Job<D>>],
    decided: &Decided<D>,
) -> Transaction {
    let mut transaction = Transaction { read_only: decided.read_only.clone(), ..Transaction::default() };
    for (planned, verdict) in jobs.iter().zip(&decided.verdicts) {
        // Every other verdict leaves the job to a receipt that there is, or to a later batch.
        let Verdict::Ends(outcome) = verdict else { continue };
        let (job, fingerprint) = (planned.queued.job.id, planned.queued.job.fingerprint);
        transaction.receipts.push(Receipt { job, outcome: outcome.clone(), fingerprint });
    }
    let mut by_aggregate: HashMap<&AggregateId, Vec<D::Event>> = HashMap::default();
    for versioned in &decided.events {
        let (job, new) = (&jobs[versioned.job].queued.job, &versioned.new);
        by_aggregate.entry(&new.aggregate).or_default().push(new.event.clone());
        transaction.events.push(EventToAppend {
            aggregate: new.aggregate.clone(),
            version: versioned.version,
            job: job.id,
            index: versioned.index,
            event: D::encode(&new.event),
            metadata: metadata(job, None),
        });
    }
    if let (Some(last), Some(versioned)) = (transaction.events.last_mut(), decided.events.last()) {
        last.metadata = metadata(&jobs[versioned.job].queued.job, Some(format!("{:016x}", rand::random::<u64>())));
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
    let written = engine.written.get();
    transaction.generation = written.generation;
    for (at, tables) in &written.targets {
        let Some(projection) = engine.projections.get(*at) else { continue };
        transaction.projections.of(*tables);
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
