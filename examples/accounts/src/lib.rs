//! Accounts: a transfer moves money between two of them, in one job, and none is overdrawn.

use lockkeeper::audit::{Promises, Row};
use lockkeeper::daemon::ReadModels;
use lockkeeper::domain::fields::Id;
use lockkeeper::domain::{
    AggregateId, Domain, EncodedEvent, Malformed, NewEvent, Rejection, States, Targets, Undecodable,
};
use lockkeeper::projection::{Column, Rows, StateProjection, Table};
use lockkeeper::{events, jobs, names};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

jobs! { Job { Deposit(Moved) = "account.deposit", Transfer(Transfer) = "account.transfer", } }
names! { Refusal { Overdraft = "overdraft", SameAccount = "same_account", } }
events! { Event { Credited(Moved) = "account.credited", Debited(Moved) = "account.debited", } }

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    pub amount: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Transfer {
    to: Id,
    amount: u32,
}

fn account(id: &str) -> AggregateId {
    AggregateId::new("account", id)
}

pub struct Accounts;

impl Domain for Accounts {
    type Command = (AggregateId, Job);
    type Event = Event;
    type State = i64;
    const AGGREGATES: &'static [&'static str] = &["account"];
    const JOBS: &'static [&'static str] = Job::NAMES;
    const EVENTS: &'static [&'static str] = Event::NAMES;
    const REJECTIONS: &'static [&'static str] = Refusal::NAMES;

    fn subject(job_type: &str) -> Option<&'static str> {
        Job::NAMES.contains(&job_type).then_some("account")
    }

    fn command(job_type: &str, key: &str, _: u16, data: &str) -> Result<Self::Command, Malformed> {
        Ok((account(key), Job::read(job_type, data)?))
    }

    fn targets((key, job): &Self::Command) -> Targets {
        Targets::Known(match job {
            Job::Deposit(_) => vec![key.clone()],
            Job::Transfer(transfer) => vec![key.clone(), account(&transfer.to.0)],
        })
    }

    fn decide((key, job): &Self::Command, states: &States<'_, i64>) -> Result<Vec<NewEvent<Event>>, Rejection> {
        let no = |refusal: Refusal| Err(Rejection(refusal.as_str()));
        let credited = |aggregate, amount| NewEvent { aggregate, event: Event::Credited(Moved { amount }) };
        match job {
            Job::Deposit(Moved { amount }) => Ok(vec![credited(key.clone(), *amount)]),
            Job::Transfer(Transfer { to, .. }) if to.0 == key.id => no(Refusal::SameAccount),
            Job::Transfer(Transfer { amount, .. }) if *states.get(key) < i64::from(*amount) => no(Refusal::Overdraft),
            Job::Transfer(Transfer { to, amount }) => {
                let event = Event::Debited(Moved { amount: *amount });
                Ok(vec![NewEvent { aggregate: key.clone(), event }, credited(account(&to.0), *amount)])
            }
        }
    }

    fn evolve(state: &mut i64, event: &Event) {
        match event {
            Event::Credited(moved) => *state += i64::from(moved.amount),
            Event::Debited(moved) => *state -= i64::from(moved.amount),
        }
    }

    fn encode(event: &Event) -> EncodedEvent {
        event.encoded()
    }

    fn job_schema(job_type: &str) -> Option<Schema> {
        Job::schema(job_type)
    }

    fn event_schema(event_type: &str) -> Option<Schema> {
        Event::schema(event_type)
    }

    fn decode(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<Event, Undecodable> {
        Event::decoded(event_type, schema_version, payload)
    }
}

/// The read model: what is in each account.
pub struct Balances;

const ACCOUNTS: Table = Table {
    name: "accounts",
    key: &[Column::id("account_id")],
    columns: &[Column::new("balance", "BIGINT UNSIGNED"), Column::new("version", "BIGINT UNSIGNED")],
    indexes: &[],
};

impl StateProjection<Accounts> for Balances {
    fn table(&self) -> &'static Table {
        const { &ACCOUNTS }
    }

    fn aggregates(&self) -> &'static [&'static str] {
        Accounts::AGGREGATES
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, balance: &i64, rows: &mut Rows<'_>) {
        rows.add(&[(&*aggregate.id).into(), balance.unsigned_abs().into(), version.into()]);
    }
}

impl Promises<Accounts> for Balances {
    fn tables(&self) -> &'static [Table] {
        const { &[ACCOUNTS] }
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, state: &i64) -> Result<Vec<(usize, Row)>, String> {
        Ok(vec![(0, vec![aggregate.id.to_string(), state.to_string(), version.to_string()])])
    }
}

pub fn read_models() -> ReadModels<Accounts> {
    ReadModels { projections: vec![Box::new(Balances)], ..ReadModels::default() }
}
