//! Telling the broker what jobs have ended as, after their commit and off the path of the next batch.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Prefetch;
use crate::batch::{End, Engine, EntryAction, ID_REUSED, Settled, Step};
use crate::domain::Domain;
use crate::job::{DeadCode, EntryId, Outcome, Reason, Spell, age_ms};
use crate::metrics::EndedJob;
use crate::spans::{JobSpan, Spans};
use crate::stream::{BrokerError, DeadLetter, Postponed, Reply};

/// How often each step is tried. What fails for longer stays pending, and is recognised by its receipt when it is read again.
const TRIES: u32 = 5;

/// The batch in which jobs came to their end.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    /// How many jobs it had.
    pub jobs: usize,
    /// When it began, by a clock that nobody sets.
    pub since: Instant,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
}

/// Replies, then acknowledges, dead-letters or postpones each entry. Afterwards none of them is in hand.
pub async fn settle<D: Domain>(
    engine: Arc<Engine<D>>,
    prefetch: Prefetch,
    spans: Spans,
    batch: Batch,
    settled: Vec<Settled<D>>,
) {
    let broker = &engine.broker;
    reply(&engine, &settled).await;
    let mut done: BTreeMap<Arc<str>, (Vec<EntryId>, &Spell)> = BTreeMap::new();
    let told = || settled.iter().filter(|settled| !settled.planned.queued.job.spell.is_gone());
    for Settled { planned, end } in told() {
        let job = &planned.queued.job;
        if matches!(end.action, EntryAction::Acknowledge) {
            done.entry(job.stream.clone()).or_insert((Vec::new(), &job.spell)).0.push(job.entry);
        }
    }
    // First, so that none of them waits for a letter that is refused.
    for (stream, (ids, spell)) in &done {
        let broker = broker.bound_to(spell.server());
        if persist(&engine, ACKNOWLEDGE, TRIES, || broker.acknowledge(stream, ids)).await.is_none() {
            spell.leave_untold();
        }
    }
    let mut moved = HashSet::new();
    // What was refused for one entry may be for all, and they do not wait for each other's tries.
    let mut refused = HashSet::new();
    for Settled { planned, end } in told() {
        let spell = &planned.queued.job.spell;
        let (stream, entry, job) = (&planned.queued.job.stream, planned.queued.job.entry, planned.queued.job.id);
        match &end.action {
            EntryAction::Acknowledge => {}
            EntryAction::DeadLetter { error } => {
                let broker = broker.bound_to(spell.server());
                let reason = end.outcome.reason_text().unwrap_or_default().into_owned();
                let letter = DeadLetter { entry, job, reason, error: error.clone() };
                let tries = if refused.contains(&(stream, "dead-letter")) { 1 } else { TRIES };
                match persist(&engine, "dead-letter", tries, || broker.dead_letter(stream, &letter)).await {
                    Some(()) => drop(moved.insert((stream.clone(), entry))),
                    None => {
                        spell.leave_untold();
                        refused.insert((stream, "dead-letter"));
                    }
                }
            }
            EntryAction::Postpone { at } => {
                let broker = broker.bound_to(spell.server());
                let postponed = Postponed { entry, job, at: *at };
                let tries = if refused.contains(&(stream, "postpone")) { 1 } else { TRIES };
                match persist(&engine, "postpone", tries, || broker.postpone(stream, postponed)).await {
                    Some(()) => drop(moved.insert((stream.clone(), entry))),
                    None => {
                        spell.leave_untold();
                        refused.insert((stream, "postpone"));
                    }
                }
            }
        }
    }
    for Settled { planned, .. } in &settled {
        prefetch.let_go(&planned.queued.job.spell, planned.queued.job.entry);
    }
    count(&engine, &settled, &moved, batch.since.elapsed());
    tell(&spans, batch, &settled);
}

async fn reply<D: Domain>(engine: &Engine<D>, settled: &[Settled<D>]) {
    let replies: Vec<Reply> = settled
        .iter()
        .filter(|settled| !matches!(settled.end.action, EntryAction::Postpone { .. }))
        .filter_map(|Settled { planned, end: End { outcome, .. } }| {
            Some(Reply {
                stream: planned.queued.job.reply.clone()?,
                job: planned.queued.job.id,
                outcome: outcome.kind.as_str().to_owned(),
                reason: outcome.reason_text().unwrap_or_default().into_owned(),
                positions: outcome.positions,
                traceparent: planned.queued.job.origin.traceparent.clone().unwrap_or_default(),
            })
        })
        .collect();
    match persist(engine, REPLY, TRIES, || engine.broker.reply(&replies)).await {
        Some(failed) => (0..failed).for_each(|_| engine.metrics.reply_failed()),
        None => replies.iter().for_each(|_| engine.metrics.reply_failed()),
    }
}

/// The step that most jobs end with, and that others wait for.
const ACKNOWLEDGE: &str = "acknowledge";
/// The step that nothing depends on.
const REPLY: &str = "reply";

/// Tries a step until it succeeds or the tries are used up; then says so, once a second for each step.
async fn persist<D: Domain, T, F: Future<Output = Result<T, BrokerError>>>(
    engine: &Engine<D>,
    step: &'static str,
    most: u32,
    mut attempt: impl FnMut() -> F,
) -> Option<T> {
    for tries in 1..=most {
        match attempt().await {
            Ok(value) => {
                if step != REPLY {
                    engine.progress.made(Step::Acknowledge);
                }
                return Some(value);
            }
            // Many batches fail at once, and for one cause.
            Err(error) if tries == most => {
                if error.is_about_keys() {
                    engine.broker.doubt();
                }
                if step == ACKNOWLEDGE {
                    engine.progress.failed(Step::Acknowledge, error.to_string());
                }
                if engine.incidents.is_news(step) {
                    tracing::warn!(step, %error, "the broker was not told of finished jobs");
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50 << tries)).await,
        }
    }
    None
}

/// Counts outcomes, which are durable whatever the broker was told, and the entries that have `moved` elsewhere.
fn count<D: Domain>(engine: &Engine<D>, settled: &[Settled<D>], moved: &HashSet<(Arc<str>, EntryId)>, took: Duration) {
    let (now_ms, mut ended) = (engine.clock.now_ms(), Vec::with_capacity(settled.len()));
    for Settled { planned, end } in settled {
        let (queue, job) = (&*planned.queued.job.stream, &planned.queued.job);
        let has_moved = moved.contains(&(job.stream.clone(), job.entry));
        if matches!(end.action, EntryAction::Postpone { .. }) {
            if has_moved {
                engine.metrics.scheduled(queue);
            }
            continue;
        }
        let age = age_ms(job.entry.ms, now_ms).map(Duration::from_millis);
        let attempts = planned.queued.tries + 1;
        ended.push(EndedJob { queue, job_type: job.job_type, outcome: end.label(), age, attempts, bytes: job.bytes });
        if end.outcome == Outcome::rejected(ID_REUSED) {
            engine.metrics.id_reused();
        }
        if let (true, EntryAction::DeadLetter { .. }, Some(reason)) = (has_moved, &end.action, &end.outcome.reason) {
            let code = match reason {
                Reason::Dead(dead) => dead.code,
                // What another version of this program has recorded.
                Reason::Rejection(_) => DeadCode::Malformed,
            };
            engine.metrics.dead_lettered(queue, code);
            tracing::warn!(
                job.id = %job.id,
                "job.type" = job.job_type.unwrap_or("other"),
                job.reason = end.outcome.reason_text().as_deref(),
                aggregate.id = job.subject.as_ref().map(ToString::to_string),
                traceparent = job.origin.traceparent.as_deref(),
                queue,
                "a job went to the dead letters"
            );
        }
    }
    engine.metrics.ended(&ended, took);
}

/// Tells the log and the tracer of each job that has ended: its end is durable, whatever the broker was told.
fn tell<D: Domain>(spans: &Spans, batch: Batch, settled: &[Settled<D>]) {
    let logged = tracing::enabled!(tracing::Level::TRACE);
    if !logged && !spans.are_on() {
        return;
    }
    for Settled { planned, end } in settled {
        let (job, label, reason) = (&planned.queued.job, end.label(), end.outcome.reason_text());
        if matches!(end.action, EntryAction::Postpone { .. }) {
            continue;
        }
        tracing::trace!(
            job.id = %job.id,
            "job.type" = job.job_type.unwrap_or("other"),
            job.outcome = label.as_str(),
            job.reason = reason.as_deref(),
            aggregate.id = job.subject.as_ref().map(ToString::to_string),
            traceparent = job.origin.traceparent.as_deref(),
            queue = &*job.stream,
            "a job ended"
        );
        spans.record(&JobSpan {
            id: job.id,
            job_type: job.job_type,
            aggregate: job.subject.as_ref(),
            queue: &job.stream,
            entry: job.entry,
            outcome: label.as_str(),
            reason: reason.as_deref(),
            batch_jobs: batch.jobs,
            traceparent: job.origin.traceparent.as_deref(),
            began: batch.began,
            ended: batch.ended,
        });
    }
}
