//! The law of a projection that is a description: however a history is cut into batches, the rows are those of the last states.

use std::collections::BTreeMap;

use foldhash::HashMap;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use super::{Line, World};
use crate::domain::{AggregateId, Domain};
use crate::projection::{Rows, StateProjection, Touches, Value};

/// The most jobs of one history.
const LONGEST: usize = 40;

/// A table: by key, all values.
type Table = BTreeMap<Vec<String>, Vec<String>>;

/// Runs any sequence of these jobs from the beginning, in batches of any size, and panics unless what [`StateProjection::touches`] says of
/// the events leaves the rows that [`StateProjection::rows`] says of the states.
pub fn leave_the_same_rows<D: Domain>(projection: &dyn StateProjection<D>, jobs: &[Line<'_>]) {
    let places = select((0..jobs.len()).collect::<Vec<_>>());
    let histories = proptest::collection::vec((places, any::<bool>()), 0..LONGEST);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let tried = runner.run(&histories, |history| {
        let (mut world, mut table) = (World::<D>::default(), Table::new());
        let mut versions: HashMap<AggregateId, u64> = HashMap::default();
        let mut batch: HashMap<AggregateId, Vec<D::Event>> = HashMap::default();
        for (at, ends_batch) in history {
            let (subject, job_type, data) = jobs[at];
            let key = subject.split_once('/').map_or(subject, |(_, key)| key);
            for new in world.when(job_type, key, data).events() {
                D::evolve(world.states.entry(new.aggregate.clone()).or_default(), &new.event);
                *versions.entry(new.aggregate.clone()).or_default() += 1;
                batch.entry(new.aggregate).or_default().push(new.event);
            }
            if ends_batch {
                write(projection, &world, &versions, std::mem::take(&mut batch), &mut table);
            }
        }
        write(projection, &world, &versions, batch, &mut table);
        let mut expected = Table::new();
        for aggregate in world.states.keys() {
            expected.extend(rows(projection, &world, &versions, aggregate));
        }
        prop_assert_eq!(table, expected, "{}: an event touches more than `touches` says", projection.table().name);
        Ok(())
    });
    if let Err(broken) = tried {
        panic!("{broken}");
    }
}

fn rows<D: Domain>(
    projection: &dyn StateProjection<D>,
    world: &World<D>,
    versions: &HashMap<AggregateId, u64>,
    aggregate: &AggregateId,
) -> Table {
    let mut found = Table::new();
    let mut take = |row: &[Value<'_>]| {
        assert_eq!(
            row.len(),
            projection.table().all().count(),
            "a row of {} has a value for each column",
            projection.table().name
        );
        let row: Vec<_> = row.iter().map(|value| serde_json::to_string(value).unwrap_or_default()).collect();
        found.insert(row[..projection.table().key.len()].to_vec(), row);
    };
    if let (Some(state), true) = (world.states.get(aggregate), projection.aggregates().contains(&aggregate.kind)) {
        let version = versions.get(aggregate).copied().unwrap_or_default();
        projection.rows(aggregate, version, state, &mut Rows::to(&mut take));
    }
    found
}

/// What a batch does to the table.
fn write<D: Domain>(
    projection: &dyn StateProjection<D>,
    world: &World<D>,
    versions: &HashMap<AggregateId, u64>,
    batch: HashMap<AggregateId, Vec<D::Event>>,
    table: &mut Table,
) {
    for (aggregate, events) in batch {
        let touched: Vec<Touches> = events.iter().map(|event| projection.touches(event)).collect();
        let now = rows(projection, world, versions, &aggregate);
        if touched.contains(&Touches::Replaced) {
            let own = serde_json::to_string(&*aggregate.id).unwrap_or_default();
            table.retain(|key, _| key.first() != Some(&own));
            table.extend(now);
        } else if touched.contains(&Touches::Rows) {
            table.extend(now);
        } else {
            let names: Vec<&str> = touched
                .iter()
                .flat_map(|one| if let Touches::Columns(names) = one { *names } else { &[] })
                .copied()
                .collect();
            for (key, row) in now {
                let Some(before) = table.get_mut(&key) else { continue };
                let columns = projection.table().all().zip(before.iter_mut()).zip(row);
                columns
                    .filter(|((column, _), _)| names.contains(&column.name))
                    .for_each(|((_, before), now)| *before = now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projection::Column;
    use crate::testing::account::{Account, Accounts, Moved};

    const JOBS: &[Line<'_>] = &[
        ("account/ada", "account.deposit", r#"{"amount":5}"#),
        ("account/ada", "account.transfer", r#"{"amount":3,"to":"bob"}"#),
    ];

    const TABLE: crate::projection::Table = crate::projection::Table {
        name: "balances",
        key: &[Column::id("id")],
        columns: &[Column::new("balance", "BIGINT"), Column::new("version", "BIGINT UNSIGNED")],
        indexes: &[],
    };

    struct Balances(fn(&Moved) -> Touches);

    impl StateProjection<Accounts> for Balances {
        fn table(&self) -> &'static crate::projection::Table {
            const { &TABLE }
        }
        fn aggregates(&self) -> &'static [&'static str] {
            Accounts::AGGREGATES
        }
        fn rows(&self, aggregate: &AggregateId, version: u64, state: &Account, rows: &mut Rows<'_>) {
            rows.add(&[(&*aggregate.id).into(), state.balance.into(), version.into()]);
        }
        fn touches(&self, event: &Moved) -> Touches {
            (self.0)(event)
        }
    }

    #[test]
    fn what_touches_too_little_is_found() {
        leave_the_same_rows(&Balances(|_| Touches::Rows), JOBS);
        leave_the_same_rows(&Balances(|_| Touches::Replaced), JOBS);
        let forgets = Balances(|moved| match moved.amount {
            0.. => Touches::Rows,
            _ => Touches::Columns(&["balance"]),
        });
        let broken =
            std::panic::catch_unwind(|| leave_the_same_rows(&forgets, JOBS)).expect_err("a version is not written");
        let text = broken.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(text.contains("balances: an event touches more"), "{text}");
    }
}
