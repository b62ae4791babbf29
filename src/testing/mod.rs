//! For tests of a domain: given these events, when this job comes, then that, in the words of the log.
//!
//! It panics where an expectation does not hold, as tests do.
//!
//! ```
//! use lockkeeper::testing::account::Accounts;
//! use lockkeeper::testing::given;
//!
//! let account = given::<Accounts>(&[("account/ada", "account.moved", r#"{"amount":5}"#)]);
//! account.when("account.deposit", "ada", r#"{"amount":7}"#).then(&[("account/ada", "account.moved", r#"{"amount":7}"#)]);
//! ```

pub mod account;
pub mod cuts;
mod daemon;
pub mod golden;
pub mod laws;

pub use daemon::TestDaemon;

use foldhash::HashMap;

use crate::domain::{AggregateId, Domain, NewEvent, States, Targets};

/// An event or a job as text: `("item/pen", "item.restocked", r#"{"quantity":1}"#)`.
pub type Line<'t> = (&'t str, &'t str, &'t str);

/// The aggregates as some events left them.
#[derive(Clone, Debug, PartialEq)]
pub struct World<D: Domain> {
    /// By aggregate, of those that have events.
    pub states: HashMap<AggregateId, D::State>,
}

impl<D: Domain> Default for World<D> {
    fn default() -> Self {
        Self { states: HashMap::default() }
    }
}

/// What became of a job: its events, or why there are none.
#[derive(Debug)]
pub struct Outcome<D: Domain>(Result<Vec<NewEvent<D::Event>>, String>);

/// The world after these events.
pub fn given<D: Domain>(history: &[Line<'_>]) -> World<D> {
    let mut world = World::default();
    for (aggregate, event_type, payload) in history {
        world.replay(&aggregate_id::<D>(aggregate), event_type, payload);
    }
    world
}

/// The aggregate of `item/pen`.
#[track_caller]
pub fn aggregate_id<D: Domain>(text: &str) -> AggregateId {
    let Some((kind, id)) = text.split_once('/') else { panic!("`{text}` is not of the form TYPE/ID") };
    match D::AGGREGATES.iter().find(|known| **known == kind) {
        Some(kind) => AggregateId::new(kind, id),
        None => panic!("`{text}`: there is no aggregate type {kind}"),
    }
}

impl<D: Domain> World<D> {
    /// Applies an event in its stored form.
    #[track_caller]
    pub fn replay(&mut self, aggregate: &AggregateId, event_type: &str, payload: &str) {
        let event = D::decode(event_type, D::event_version(event_type), payload.as_bytes())
            .unwrap_or_else(|error| panic!("{error}"));
        D::evolve(self.states.entry(aggregate.clone()).or_default(), &event);
    }

    /// What the job brings about. As in the engine, it sees its targets and nothing else.
    pub fn when(&self, job_type: &str, key: &str, data: &str) -> Outcome<D> {
        let command = match D::command(job_type, key, 1, data) {
            Ok(command) => command,
            Err(malformed) => return Outcome(Err(malformed.to_string())),
        };
        let targets = match D::targets(&command) {
            Targets::Known(targets) => targets,
            Targets::FromStateOf(one) => D::resolve(&command, self.states.get(&one).unwrap_or(&D::State::default())),
        };
        let seen = self.states.iter().filter(|(aggregate, _)| targets.contains(aggregate));
        let seen = seen.map(|(aggregate, state)| (aggregate.clone(), state.clone())).collect();
        let decided = D::decide(&command, &States::new(&seen));
        for new in decided.iter().flatten() {
            assert!(targets.contains(&new.aggregate), "{} is not a target", new.aggregate);
        }
        Outcome(decided.map_err(|rejection| {
            assert!(D::REJECTIONS.contains(&rejection.0), "{rejection:?} is not listed");
            rejection.0.to_owned()
        }))
    }
}

impl<D: Domain> Outcome<D> {
    /// Exactly these events.
    #[track_caller]
    pub fn then(self, expected: &[Line<'_>]) {
        let events = self.0.unwrap_or_else(|reason| panic!("there are no events: {reason}"));
        let stored: Vec<_> = events.iter().map(|new| (new.aggregate.to_string(), D::encode(&new.event))).collect();
        let events: Vec<Line<'_>> =
            stored.iter().map(|(id, event)| (&**id, event.event_type, &*event.payload)).collect();
        assert_eq!(events, expected);
    }

    /// No events, for this reason: a rejection or what is malformed.
    #[track_caller]
    pub fn then_no(self, reason: &str) {
        assert_eq!(self.0.err().as_deref(), Some(reason));
    }

    /// The events, or none.
    pub fn events(self) -> Vec<NewEvent<D::Event>> {
        self.0.unwrap_or_default()
    }
}
