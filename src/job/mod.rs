//! A job's wire format: a flat stream entry in, a [`Job`] out. Pure.
//!
//! Decoding never fails as a whole. An entry that cannot be run still becomes a job, with the reason in place of a command,
//! so that it gets its receipt and its place in the dead letters on the same path as every other job.

mod dead;
mod fields;
mod held;
mod id;
mod moment;
mod outcome;
mod spell;

use std::sync::Arc;

use crate::domain::{AggregateId, Domain, MAX_ID_BYTES, Malformed, Targets};

pub use dead::{Dead, DeadCode, REASON_BYTES};
use fields::Fields;
pub use held::{HeldLetter, HeldState, going};
pub use id::{EntryId, Fingerprint, JobId, Lineage, NotAnEntryId};
pub use moment::{LATEST_MS, age_ms};
pub use outcome::{Outcome, OutcomeKind, Reason};
pub use spell::{Server, Spell, Turn};

/// One entry as it was read: nothing about it has been checked.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stream it was read from.
    pub stream: Arc<str>,
    /// Its id there.
    pub id: EntryId,
    /// Names and values in their order, as bytes.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// How often work on it may have been started before, when another owner had it; `None` when nobody has begun it.
    pub deliveries: Option<u64>,
    /// What makes its id one's own; needed when the producer gave the job no id ([`Entry::is_named`]).
    pub lineage: Lineage,
    /// The reading that it came by.
    pub spell: Spell,
    /// Its rank among all that are in hand ([`Turn`]).
    pub rank: u64,
    /// The dead letter that it was made of again; then the stream does not have it.
    pub letter: Option<EntryId>,
    /// Younger ones were taken in hand before it.
    pub is_late: bool,
}

impl Entry {
    /// An entry that nobody has begun, and that was read on its own.
    pub fn new(stream: Arc<str>, id: EntryId, fields: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let (lineage, spell) = (Lineage::default(), Spell::default());
        Self { stream, id, fields, deliveries: None, lineage, spell, rank: 0, letter: None, is_late: false }
    }

    /// Its place among all that are in hand.
    pub fn turn(&self) -> Turn {
        Turn { rank: self.rank, spell: self.spell.number(), entry: self.id }
    }

    /// Whether the producer gave its job an id that can be used.
    pub fn is_named(&self) -> bool {
        matches!(given_id(&self.fields), Ok(Some(_)))
    }

    /// The bytes of its names and values.
    pub fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Where a job comes from, kept with every event that it causes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Origin {
    /// The business process that the job belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corr: Option<String>,
    /// The message that caused the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The producer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// A decoded job.
#[derive(Debug)]
pub struct Job<D: Domain> {
    /// The stream it came from.
    pub stream: Arc<str>,
    /// Its entry there.
    pub entry: EntryId,
    /// The dead letter that it comes from, if it was held or requeued.
    pub letter: Option<EntryId>,
    /// Younger ones were taken in hand before it.
    pub is_late: bool,
    /// The reading that it came by.
    pub spell: Spell,
    /// What makes it one job over all its deliveries.
    pub id: JobId,
    /// Guards against an id used for two different jobs.
    pub fingerprint: Fingerprint,
    /// Its type, one of [`Domain::JOBS`]; `None` when it is unknown or missing.
    pub job_type: Option<&'static str>,
    /// The aggregate that it is about; `None` when its type or key cannot be told.
    pub subject: Option<AggregateId>,
    /// The version that its subject must have.
    pub expect: Option<u64>,
    /// Not before, Unix milliseconds.
    pub at: Option<u64>,
    /// Not after, Unix milliseconds.
    pub exp: Option<u64>,
    /// The stream that gets its outcome.
    pub reply: Option<String>,
    /// Kept with its events.
    pub origin: Origin,
    /// Size of its fields in bytes.
    pub bytes: usize,
    /// How often in a row work on it was started and did not come to an end, when another owner had it; `None` when nobody has
    /// begun it.
    pub deliveries: Option<u64>,
    /// Its start has been counted and not taken back: by its read, or, when it was taken over, before the domain's code was run.
    pub counted: bool,
    /// What to do, or why it cannot be done.
    pub work: Result<D::Command, Dead>,
    /// What another version of this program may know, when this one does not.
    pub unknown: Option<Unknown>,
    /// What it holds on to although it cannot be done.
    pub keeps: Vec<AggregateId>,
}

/// A job type, or a version of one, that this program does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The type.
    pub job_type: String,
    /// The schema version of its data.
    pub version: u16,
    /// The id of the aggregate that the job is about, whatever its type.
    pub key: String,
}

impl<D: Domain> Job<D> {
    /// What it touches, as far as that can be told without a state.
    pub fn targets(&self) -> Targets {
        self.work.as_ref().map_or_else(|_| Targets::Known(self.keeps.clone()), D::targets)
    }

    /// Although it cannot be done, no later job that touches the same is to overtake it.
    pub fn keep_its_place(&mut self) {
        if self.work.is_err() && self.keeps.is_empty() {
            self.keeps.extend(self.subject.clone());
        }
    }

    /// It cannot be done, for this reason; it holds on to what it would have touched.
    pub fn give_up(&mut self, why: Dead) {
        self.keeps = match self.targets() {
            Targets::Known(aggregates) => aggregates,
            Targets::FromStateOf(source) => {
                self.subject.clone().into_iter().filter(|subject| *subject != source).chain([source.clone()]).collect()
            }
        };
        self.work = Err(why);
    }
}

fn given_id(fields: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<&str>, Malformed> {
    Fields(fields).text("id", MAX_ID_BYTES)
}

/// The id of the job with these fields in the entry `entry` of `stream`: the producer's, or one made of the entry's when the
/// producer gave none that can be used.
pub fn id_of(lineage: Lineage, stream: &str, entry: EntryId, fields: &[(Vec<u8>, Vec<u8>)]) -> JobId {
    match given_id(fields) {
        Ok(Some(text)) => JobId::from_text(text),
        Ok(None) | Err(_) => JobId::of_entry(lineage, stream, entry),
    }
}

/// Decodes `entry`. `max_data_bytes` bounds the `data` field, and is checked before anything is parsed.
pub fn decode<D: Domain>(entry: &Entry, max_data_bytes: usize) -> Job<D> {
    let fields = Fields(&entry.fields);
    let bytes = entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    let given_id = given_id(&entry.fields).map(drop);
    let job_type = fields.one("type").ok().flatten();
    let job_type = job_type.and_then(|given| D::JOBS.iter().copied().find(|known| known.as_bytes() == given));
    let mut job = Job {
        stream: entry.stream.clone(),
        entry: entry.id,
        letter: entry.letter,
        is_late: entry.is_late,
        spell: entry.spell.clone(),
        id: id_of(entry.lineage, &entry.stream, entry.id, &entry.fields),
        fingerprint: Fingerprint::of(["type", "key", "data"].map(|name| fields.first(name).unwrap_or_default())),
        job_type,
        subject: None,
        expect: None,
        at: None,
        exp: None,
        reply: fields.reply().ok().flatten(),
        origin: Origin::default(),
        bytes,
        deliveries: entry.deliveries,
        counted: entry.deliveries.is_none(),
        work: Err(Dead::new(DeadCode::Malformed, "")),
        unknown: None,
        keeps: Vec::new(),
    };
    job.work = given_id.map_err(Dead::from).and_then(|()| fill::<D>(&mut job, &fields, max_data_bytes));
    if matches!(&job.work, Err(dead) if dead.code == DeadCode::UnknownType) {
        job.unknown = unknown(&fields);
        job.keeps = job.unknown.as_ref().map(of_its_key::<D>).unwrap_or_default();
    }
    job
}

/// Of which type the aggregate is, nobody here knows.
fn of_its_key<D: Domain>(unknown: &Unknown) -> Vec<AggregateId> {
    let key: Arc<str> = unknown.key.as_str().into();
    D::AGGREGATES.iter().map(|kind| AggregateId::new(kind, key.clone())).collect()
}

/// What another version may know; nothing when the entry is malformed besides.
fn unknown(fields: &Fields<'_>) -> Option<Unknown> {
    let job_type = fields.text("type", MAX_ID_BYTES).ok()??.to_owned();
    // A list of types is text, in which these tell one from the next.
    if job_type.chars().any(|letter| letter.is_control() || letter.is_whitespace() || [',', '@'].contains(&letter)) {
        return None;
    }
    let key = key(fields).ok()?.to_owned();
    Some(Unknown { job_type, version: version(fields).ok()?, key })
}

fn key<'a>(fields: &Fields<'a>) -> Result<&'a str, Malformed> {
    let key = fields::text_of("key", fields.required("key")?, MAX_ID_BYTES)?;
    if key.is_empty() || key.chars().any(char::is_control) {
        return Err(Malformed::new("key", "must be 1 to 128 bytes of text without control characters"));
    }
    Ok(key)
}

fn version(fields: &Fields<'_>) -> Result<u16, Malformed> {
    match fields.number("v")? {
        None => Ok(1),
        Some(v) => u16::try_from(v).ok().filter(|v| *v > 0).ok_or(Malformed::new("v", "must be from 1 to 65535")),
    }
}

fn fill<D: Domain>(job: &mut Job<D>, fields: &Fields<'_>, max_data_bytes: usize) -> Result<D::Command, Dead> {
    let given_type = fields.required("type")?;
    let job_type = job.job_type.ok_or_else(|| {
        Dead::new(DeadCode::UnknownType, format!("type `{}` is not a job type of this daemon", excerpt(given_type)))
    })?;
    let key = key(fields)?;
    job.subject = D::subject(job_type).map(|kind| AggregateId::new(kind, key));
    fields.reply()?;
    job.expect = fields.number("expect")?;
    job.at = fields.number("at")?.map(|at| moment::plausible("at", at)).transpose()?;
    job.exp = fields.number("exp")?.map(|exp| moment::plausible("exp", exp)).transpose()?;
    job.origin = Origin {
        corr: fields.text("corr", MAX_ID_BYTES)?.map(str::to_owned),
        cause: fields.text("cause", MAX_ID_BYTES)?.map(str::to_owned),
        src: fields.text("src", MAX_ID_BYTES)?.map(str::to_owned),
        // Tracing is nobody's business but the tracer's: what cannot be one is left out, and the job runs.
        traceparent: fields.text("traceparent", MAX_ID_BYTES).ok().flatten().map(str::to_owned),
    };
    let schema_version = version(fields)?;
    if schema_version > D::JOB_VERSION {
        let detail = format!("v is {schema_version}, and this daemon reads `{job_type}` up to {}", D::JOB_VERSION);
        return Err(Dead::new(DeadCode::UnknownType, detail));
    }
    let data = fields.required("data")?;
    if data.len() > max_data_bytes {
        let detail = format!("data has {} bytes, more than the limit of {max_data_bytes}", data.len());
        return Err(Dead::new(DeadCode::TooLarge, detail));
    }
    let data = std::str::from_utf8(data).map_err(|_| Malformed::new("data", "is not UTF-8"))?;
    if depth(data) > MAX_DEPTH {
        return Err(Malformed::new("data", format!("is nested deeper than {MAX_DEPTH} levels")).into());
    }
    Ok(D::command(job_type, key, schema_version, data)?)
}

/// How deep `data` may be nested, in fields that are read and in fields that are not.
const MAX_DEPTH: usize = 100;

/// The deepest nesting of JSON text, found without recursion; of text that is not JSON, some number.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A short, escaped piece of untrusted bytes, safe to log and to store.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
    text.escape_debug().take(64).collect()
}

#[cfg(test)]
mod tests;
