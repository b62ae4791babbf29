//! What a domain is to the engine. Pure: no I/O, no clock, no randomness.
//!
//! The engine (`plan`, `batch`, `store`, `stream`, `lock`, `worker`) knows a domain through [`Domain`] alone.

pub mod declare;
pub mod fields;
pub(crate) mod upcast;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::HashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use serde_json::Value;

/// Names one aggregate: its type (`item`) and its id (1–128 bytes of text without control characters).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AggregateId {
    /// The aggregate's type, one of [`Domain::AGGREGATES`].
    pub kind: &'static str,
    /// The id within its type.
    pub id: Arc<str>,
}

impl AggregateId {
    /// The aggregate of this type with this id.
    pub fn new(kind: &'static str, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }
}

/// Ids alone tell nearly all aggregates apart.
impl Hash for AggregateId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Display for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

impl fmt::Debug for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The longest id of an aggregate or a job, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Why a job can never be run, naming the field that is wrong: `data.lines[2].quantity` and `must be at least 1`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Malformed {
    /// Path of the field in the entry.
    pub field: String,
    /// What is wrong with it, as the end of a sentence that starts with the field.
    pub problem: String,
}

impl Malformed {
    /// `field` is wrong because it `problem`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A business no: final, recorded in the job's receipt, not a failure. The text is one of [`Domain::REJECTIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection(pub &'static str);

/// The aggregates a job touches, which are the aggregates that are locked for it and that its decision may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// All of them are named in the job's own fields.
    Known(Vec<AggregateId>),
    /// They depend on the state of this aggregate; [`Domain::resolve`] names them once that state is known.
    FromStateOf(AggregateId),
}

/// An event as it is written to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    /// One of [`Domain::EVENTS`].
    pub event_type: &'static str,
    /// The version of the payload's schema, from 1.
    pub schema_version: u16,
    /// JSON text.
    pub payload: String,
}

/// A stored event that this program cannot read: a newer program wrote it, or the log is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event {event_type} v{schema_version} cannot be decoded: {problem}")]
pub struct Undecodable {
    /// The type found in the log.
    pub event_type: String,
    /// The schema version found in the log.
    pub schema_version: u16,
    /// What did not fit.
    pub problem: String,
}

/// One step: from a version of an event type's schema to the next.
#[derive(Clone, Copy, Debug)]
pub struct Upcast {
    /// One of [`Domain::EVENTS`].
    pub event_type: &'static str,
    /// The version that it takes, from 1; it gives the next.
    pub from: u16,
    /// The payload in the next version; the error says what does not fit.
    pub apply: fn(Value) -> Result<Value, String>,
}

/// One event that a decision brings about, on one of the job's targets.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent<E> {
    /// The aggregate that the event belongs to.
    pub aggregate: AggregateId,
    /// What happened.
    pub event: E,
}

/// The states that a decision may look at: those of the job's targets.
pub struct States<'a, S> {
    states: &'a HashMap<AggregateId, S>,
    nothing: S,
}

impl<'a, S: Default> States<'a, S> {
    /// A view of `states`; an aggregate that is not among them has no events yet.
    pub fn new(states: &'a HashMap<AggregateId, S>) -> Self {
        Self { states, nothing: S::default() }
    }

    /// The state of `aggregate`, the default one when it has no events yet.
    pub fn get(&self, aggregate: &AggregateId) -> &S {
        self.states.get(aggregate).unwrap_or(&self.nothing)
    }
}

/// A domain: its commands, its events, and the rules between them. All functions are pure and must not panic.
pub trait Domain: Send + Sync + 'static {
    /// A job's data, parsed and checked.
    type Command: fmt::Debug + Send + Sync + 'static;
    /// Something that happened to one aggregate.
    type Event: Clone + fmt::Debug + PartialEq + Send + Sync + 'static;
    /// What the events of one aggregate add up to; the default is an aggregate without events. It is stored as JSON, so that
    /// a long history need not be read again.
    type State: Clone + Default + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// The version of the states' stored form, from 1. A new number makes the engine forget every stored state and read the
    /// events instead: it is due whenever the same events add up to another state, or the same state is written in another way.
    const STATE_SCHEMA: u16 = 1;

    /// The newest version of jobs' data (field `v`) that [`command`](Self::command) reads. A job with a newer one is left to a daemon of
    /// a newer program, if there is one.
    const JOB_VERSION: u16 = 1;

    /// Every aggregate type.
    const AGGREGATES: &'static [&'static str];
    /// Every job type.
    const JOBS: &'static [&'static str];
    /// Every event type.
    const EVENTS: &'static [&'static str];
    /// Every reason of a rejection.
    const REJECTIONS: &'static [&'static str];
    /// How events of earlier schema versions are told in the next: one step from each version of a type to the next, up to the
    /// [newest](Self::event_version).
    const UPCASTS: &'static [Upcast] = &[];

    /// The aggregate type that a job of this type is about (its `key`), or `None` for an unknown job type.
    fn subject(job_type: &str) -> Option<&'static str>;

    /// Parses a job's `data`. `schema_version` is the job's `v`. Called for known job types only.
    fn command(job_type: &str, key: &str, schema_version: u16, data: &str) -> Result<Self::Command, Malformed>;

    /// The aggregates that `command` touches.
    fn targets(command: &Self::Command) -> Targets;

    /// The aggregates that `command` touches, given the state of the aggregate that [`Targets::FromStateOf`] named.
    /// That aggregate must be among them.
    ///
    /// A domain whose targets are always known need not write this.
    fn resolve(command: &Self::Command, _state: &Self::State) -> Vec<AggregateId> {
        match Self::targets(command) {
            Targets::Known(targets) => targets,
            Targets::FromStateOf(one) => vec![one],
        }
    }

    /// What `command` brings about on these states: events, or a rejection. The events are applied all or none.
    fn decide(
        command: &Self::Command,
        states: &States<'_, Self::State>,
    ) -> Result<Vec<NewEvent<Self::Event>>, Rejection>;

    /// `state` after `event`.
    fn evolve(state: &mut Self::State, event: &Self::Event);

    /// About how many bytes `state` holds beside its own size, behind pointers. The engine bounds its memory by it.
    /// A state without pointers has none.
    fn weight(_state: &Self::State) -> usize {
        0
    }

    /// The event's stored form.
    fn encode(event: &Self::Event) -> EncodedEvent;

    /// What the data of this job type has to be, in JSON Schema, for those who write producers; `None` where nobody has said.
    fn job_schema(_job_type: &str) -> Option<schemars::Schema> {
        None
    }

    /// What the payload of this event type is, in JSON Schema, for those who read the log; `None` where nobody has said.
    fn event_schema(_event_type: &str) -> Option<schemars::Schema> {
        None
    }

    /// The newest schema version of this event type, from 1.
    fn event_version(_event_type: &str) -> u16 {
        1
    }

    /// The schema version of this event type that [`encode`](Self::encode) writes: the newest, or the one before for a release, so that
    /// the release before that one, which does not read the newest, can take over again.
    fn written_version(event_type: &str) -> u16 {
        Self::event_version(event_type)
    }

    /// The event of a stored form in the newest version of its schema, which [`UPCASTS`](Self::UPCASTS) have brought it to. A newer
    /// version is undecodable.
    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<Self::Event, Undecodable>;
}
