//! Laws that hold for every domain, tried on any sequence of its jobs.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::{Line, World};
use crate::domain::{Domain, upcast};

/// The most jobs of one history.
const LONGEST: usize = 40;

/// Runs any sequence of these jobs, each given as `("account/ada", "account.deposit", r#"{"amount":5}"#)`, from the beginning, and
/// panics unless:
///
/// - a job that is decided again on the same states comes to the same;
/// - it brings about events on its targets alone, and rejects with a reason that is listed;
/// - an event and its stored form are each other's inverse;
/// - a state and its stored form are each other's inverse;
/// - the stored events, read again, add up to the same states.
pub fn hold<D: Domain>(jobs: &[Line<'_>]) {
    let histories = proptest::collection::vec(select((0..jobs.len()).collect::<Vec<_>>()), 0..LONGEST);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let tried = runner.run(&histories, |history| {
        let (mut decided, mut replayed) = (World::<D>::default(), World::<D>::default());
        for (subject, job_type, data) in history.into_iter().map(|index| jobs[index]) {
            let key = subject.split_once('/').map_or(subject, |(_, key)| key);
            let events = decided.when(job_type, key, data).events();
            prop_assert_eq!(&events, &decided.when(job_type, key, data).events(), "{} decides in two ways", job_type);
            for new in events {
                let stored = D::encode(&new.event);
                let read = upcast::decode::<D>(stored.event_type, stored.schema_version, stored.payload.as_bytes());
                prop_assert_eq!(read.as_ref().ok(), Some(&new.event), "{} is stored as {:?}", job_type, stored.payload);
                D::evolve(decided.states.entry(new.aggregate.clone()).or_default(), &new.event);
                if let Ok(event) = read {
                    D::evolve(replayed.states.entry(new.aggregate).or_default(), &event);
                }
            }
        }
        for (aggregate, state) in &decided.states {
            let text = serde_json::to_vec(state).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let read: Option<D::State> = serde_json::from_slice(&text).ok();
            prop_assert_eq!(read.as_ref(), Some(state), "the state of {} does not survive storing", aggregate);
        }
        prop_assert_eq!(decided.states, replayed.states, "the stored events add up to other states");
        Ok(())
    });
    if let Err(broken) = tried {
        panic!("{broken}");
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use crate::domain::*;
    use crate::testing::account::{Account, Accounts, Command, Moved};

    const JOBS: &[(&str, &str, &str)] = &[
        ("account/ada", "account.deposit", r#"{"amount":5}"#),
        ("account/ada", "account.transfer", r#"{"amount":3,"to":"bob"}"#),
        ("account/bob", "account.transfer", r#"{"amount":2,"to":"ada"}"#),
    ];

    /// Accounts whose events lose their amount when they are stored.
    #[derive(Debug)]
    struct Forgetful;

    impl Domain for Forgetful {
        type Command = Command;
        type Event = Moved;
        type State = Account;
        const AGGREGATES: &'static [&'static str] = Accounts::AGGREGATES;
        const JOBS: &'static [&'static str] = Accounts::JOBS;
        const EVENTS: &'static [&'static str] = Accounts::EVENTS;
        const REJECTIONS: &'static [&'static str] = Accounts::REJECTIONS;
        fn subject(job_type: &str) -> Option<&'static str> {
            Accounts::subject(job_type)
        }
        fn command(job_type: &str, key: &str, version: u16, data: &str) -> Result<Command, Malformed> {
            Accounts::command(job_type, key, version, data)
        }
        fn targets(command: &Command) -> Targets {
            Accounts::targets(command)
        }
        fn decide(command: &Command, states: &States<'_, Account>) -> Result<Vec<NewEvent<Moved>>, Rejection> {
            Accounts::decide(command, states)
        }
        fn evolve(state: &mut Account, event: &Moved) {
            Accounts::evolve(state, event);
        }
        fn encode(_: &Moved) -> EncodedEvent {
            Accounts::encode(&Moved { amount: 0 })
        }
        fn decode(event_type: &str, version: u16, payload: &[u8]) -> Result<Moved, Undecodable> {
            Accounts::decode(event_type, version, payload)
        }
    }

    #[test]
    fn the_laws_hold_for_accounts_and_not_for_what_is_stored_in_part() {
        super::hold::<Accounts>(JOBS);
        let broken = catch_unwind(|| super::hold::<Forgetful>(JOBS)).expect_err("an amount is lost");
        let text = broken.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.contains("is stored as"), "{text}");
    }
}
