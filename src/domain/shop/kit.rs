//! Given these events, when this job comes, then that: the rules of the shop in the words of its log.

use foldhash::HashMap;

use super::{Event, Shop, State};
use crate::domain::{AggregateId, Domain, NewEvent, States, Targets};

/// An event or a job as text: `("item/pen", "item.restocked", r#"{"quantity":1}"#)`.
pub type Line<'t> = (&'t str, &'t str, &'t str);

/// The aggregates as some events left them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub states: HashMap<AggregateId, State>,
}

/// What became of a job: its events, or why there are none.
#[derive(Debug)]
pub struct Outcome(Result<Vec<NewEvent<Event>>, String>);

/// The world after these events.
pub fn given(history: &[Line<'_>]) -> World {
    let mut world = World::default();
    for (aggregate, event_type, payload) in history {
        world.replay(&aggregate_id(aggregate), event_type, payload);
    }
    world
}

/// The aggregate of `item/pen`.
pub fn aggregate_id(text: &str) -> AggregateId {
    let (kind, id) = text.split_once('/').unwrap();
    let kind = Shop::AGGREGATES.iter().find(|known| **known == kind).unwrap();
    AggregateId::new(kind, id)
}

impl World {
    /// Applies an event in its stored form.
    pub fn replay(&mut self, aggregate: &AggregateId, event_type: &str, payload: &str) {
        let event = Shop::decode(event_type, 1, payload.as_bytes()).unwrap();
        Shop::evolve(self.states.entry(aggregate.clone()).or_default(), &event);
    }

    /// What the job brings about. As in the engine, it sees its targets and nothing else.
    pub fn when(&self, job_type: &str, key: &str, data: &str) -> Outcome {
        let command = match Shop::command(job_type, key, 1, data) {
            Ok(command) => command,
            Err(malformed) => return Outcome(Err(malformed.to_string())),
        };
        let targets = match Shop::targets(&command) {
            Targets::Known(targets) => targets,
            Targets::FromStateOf(one) => Shop::resolve(&command, self.states.get(&one).unwrap_or(&State::Nothing)),
        };
        let seen = self.states.iter().filter(|(aggregate, _)| targets.contains(aggregate));
        let seen = seen.map(|(aggregate, state)| (aggregate.clone(), state.clone())).collect();
        let decided = Shop::decide(&command, &States::new(&seen));
        for new in decided.iter().flatten() {
            assert!(targets.contains(&new.aggregate), "{} is not a target", new.aggregate);
        }
        Outcome(decided.map_err(|rejection| {
            assert!(Shop::REJECTIONS.contains(&rejection.0), "{rejection:?} is not listed");
            rejection.0.to_owned()
        }))
    }
}

impl Outcome {
    /// Exactly these events.
    #[track_caller]
    pub fn then(self, expected: &[Line<'_>]) {
        let stored: Vec<_> =
            self.0.unwrap().iter().map(|new| (new.aggregate.to_string(), Shop::encode(&new.event))).collect();
        let events: Vec<Line<'_>> =
            stored.iter().map(|(id, event)| (&**id, event.event_type, &*event.payload)).collect();
        assert_eq!(events, expected);
    }

    /// No events, for this reason: a rejection or what is malformed.
    #[track_caller]
    pub fn then_no(self, reason: &str) {
        assert_eq!(self.0.unwrap_err(), reason);
    }

    /// The events, or none.
    pub fn events(self) -> Vec<NewEvent<Event>> {
        self.0.unwrap_or_default()
    }
}
