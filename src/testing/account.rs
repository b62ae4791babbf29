//! The smallest domain that has all that the engine deals with: accounts, with transfers that touch two of them.

use serde::{Deserialize, Serialize};

use crate::domain::{AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable};

/// Accounts as a [`Domain`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accounts;

/// `account.deposit` with an amount, or `account.transfer` with an amount and whom it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The account.
    pub account: AggregateId,
    /// What goes in or out.
    pub amount: u64,
    /// Whom it goes to; none when it is paid in.
    pub to: Option<AggregateId>,
}

/// What comes in, or goes out when it is negative: `account.moved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The amount.
    pub amount: i64,
}

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What is in it.
    pub balance: i64,
    /// Text that only makes it heavier.
    #[serde(default)]
    pub notes: String,
}

#[derive(Deserialize)]
struct Data {
    amount: u64,
    to: Option<String>,
}

const KIND: &str = "account";

impl Domain for Accounts {
    type Command = Command;
    type Event = Moved;
    type State = Account;

    const AGGREGATES: &'static [&'static str] = &[KIND];
    const JOBS: &'static [&'static str] = &["account.deposit", "account.transfer"];
    const EVENTS: &'static [&'static str] = &["account.moved"];
    const REJECTIONS: &'static [&'static str] = &["overdraft"];

    fn subject(job_type: &str) -> Option<&'static str> {
        Self::JOBS.contains(&job_type).then_some(KIND)
    }

    fn command(_: &str, key: &str, schema_version: u16, data: &str) -> Result<Command, Malformed> {
        if schema_version != 1 {
            return Err(Malformed::new("v", "must be 1"));
        }
        let data: Data = crate::domain::declare::data(data)?;
        let to = data.to.map(|to| AggregateId::new(KIND, to));
        Ok(Command { account: AggregateId::new(KIND, key), amount: data.amount, to })
    }

    fn targets(command: &Command) -> Targets {
        Targets::Known([command.account.clone()].into_iter().chain(command.to.clone()).collect())
    }

    fn decide(command: &Command, states: &States<'_, Account>) -> Result<Vec<NewEvent<Moved>>, Rejection> {
        let Command { account, amount, to } = command;
        let moved =
            |aggregate: &AggregateId, amount| NewEvent { aggregate: aggregate.clone(), event: Moved { amount } };
        let amount = i64::try_from(*amount).unwrap_or(i64::MAX);
        match to {
            None => Ok(vec![moved(account, amount)]),
            Some(_) if states.get(account).balance < amount => Err(Rejection("overdraft")),
            Some(to) => Ok(vec![moved(account, -amount), moved(to, amount)]),
        }
    }

    fn evolve(state: &mut Account, event: &Moved) {
        state.balance = state.balance.saturating_add(event.amount);
    }

    fn weight(state: &Account) -> usize {
        state.notes.len()
    }

    fn encode(event: &Moved) -> EncodedEvent {
        let payload = format!("{{\"amount\":{}}}", event.amount);
        EncodedEvent { event_type: "account.moved", schema_version: 1, payload }
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<Moved, Undecodable> {
        serde_json::from_slice(payload).map_err(|error| Undecodable {
            event_type: event_type.to_owned(),
            schema_version,
            problem: error.to_string(),
        })
    }
}
