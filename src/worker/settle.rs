//! Telling the broker what jobs have ended as, after their commit and off the path of the next batch.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Prefetch;
use super::moves::Move;
use crate::batch::{End, Engine, EntryAction, ID_REUSED, Settled, Step};
use crate::domain::Domain;
use crate::job::{DeadCode, EntryId, Outcome, Reason, Spell, age_ms};
use crate::metrics::EndedJob;
use crate::spans::{JobSpan, Spans};
use crate::stream::{BrokerError, Reply};

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

/// Entries that the broker has letters of by now, which later jobs wait behind.
pub type Written = Vec<(Arc<str>, EntryId)>;

/// Replies, then acknowledges, dead-letters or postpones each entry. Afterwards none of them is in hand.
pub async fn settle<D: Domain>(
    engine: Arc<Engine<D>>,
    prefetch: Prefetch,
    spans: Spans,
    batch: Batch,
    settled: Vec<Settled<D>>,
) -> Written {
    reply(&engine, &settled).await;
    let told = || settled.iter().filter(|settled| !settled.planned.queued.job.spell.is_gone());
    // First, so that none of them waits for a letter that is refused.
    acknowledge(&engine, told()).await;
    let (mut moved, mut written) = (HashSet::new(), Written::new());
    // What was refused for one entry may be for all, and they do not wait for each other's tries.
    let mut refused = HashSet::new();
    for Settled { planned, end } in told() {
        let job = &planned.queued.job;
        let Some(step) = Move::of(&engine, planned, end) else { continue };
        let tries = if refused.contains(&(&job.stream, step.name())) { 1 } else { TRIES };
        let broker = engine.broker.bound_to(job.spell.server());
        match persist(&engine, step.name(), tries, || step.make(&broker, &job.stream)).await {
            Some(()) => {
                moved.insert((job.stream.clone(), job.entry));
                written.extend(step.holds().then(|| (job.stream.clone(), job.entry)));
            }
            None => {
                job.spell.leave_untold();
                refused.insert((&job.stream, step.name()));
            }
        }
    }
    for Settled { planned, .. } in &settled {
        prefetch.let_go(&planned.queued.job.spell, planned.queued.job.entry);
    }
    count(&engine, &settled, &moved, batch.since.elapsed());
    tell(&spans, batch, &settled);
    written
}

/// What ends with its entry, or with the letter that it came from.
async fn acknowledge<'a, D: Domain>(engine: &Engine<D>, settled: impl Iterator<Item = &'a Settled<D>>) {
    let mut done: BTreeMap<Arc<str>, (&Spell, [Vec<EntryId>; 2])> = BTreeMap::new();
    for Settled { planned, end } in settled {
        let job = &planned.queued.job;
        if matches!(end.action, EntryAction::Acknowledge) {
            let (_, [entries, letters]) =
                done.entry(job.stream.clone()).or_insert_with(|| (&job.spell, Default::default()));
            match job.letter {
                Some(letter) => letters.push(letter),
                None => entries.push(job.entry),
            }
        }
    }
    for (stream, (spell, [entries, letters])) in &done {
        let broker = engine.broker.bound_to(spell.server());
        let told = persist(engine, ACKNOWLEDGE, TRIES, || async {
            broker.acknowledge(stream, entries).await?;
            broker.end_letters(stream, letters).await
        });
        if told.await.is_none() {
            spell.leave_untold();
        }
    }
}

async fn reply<D: Domain>(engine: &Engine<D>, settled: &[Settled<D>]) {
    let replies: Vec<Reply> = settled
        .iter()
        .filter(|settled| settled.end.is_final())
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
        if !end.is_final() {
            if has_moved && matches!(end.action, EntryAction::Postpone { .. }) {
                engine.metrics.scheduled(queue);
            }
            continue;
        }
        if job.is_late && !end.is_duplicate && job.at.is_none() {
            engine.metrics.missed(queue);
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
        if !end.is_final() {
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
