//! Rows of read models as they are written.

use chrono::{DateTime, Duration};
use uuid::Uuid;

use super::problems::tell;
use crate::domain::Domain;
use crate::projection::{Happened, LogProjection, Rows, StateProjection, Value};
use crate::store::sql::Sql;
use crate::testing::{Line, aggregate_id, given};

/// Panics unless the rows after this history are those in the file, which has one on a line with the version of the projection's code:
/// `1 items ["pen","Pen",5]`. Lines of other versions are left alone.
pub fn rows<D: Domain>(file: &str, projections: &[&dyn StateProjection<D>], history: &[Line<'_>]) {
    let world = given::<D>(history);
    let mut problems = Vec::new();
    for projection in projections {
        let mut written = Vec::new();
        let mut take = |row: &[Value<'_>]| written.push(serde_json::to_string(row).unwrap_or_default());
        let mut rows = Rows::to(&mut take);
        for (aggregate, state) in &world.states {
            let version = history.iter().filter(|(name, ..)| *name == aggregate.to_string()).count() as u64;
            if projection.aggregates().contains(&aggregate.kind) {
                projection.rows(aggregate, version, state, &mut rows);
            }
        }
        compare(file, (projection.table().name, projection.version()), written, &mut problems);
    }
    tell(&problems);
}

/// Panics unless what a log projection writes of this history is what the file says, which has it on a line with the version of its code:
/// `1 sales_per_day INSERT INTO …`. The events have the positions 1, 2, 3, and are a second apart.
pub fn log_rows<D: Domain>(file: &str, projection: &dyn LogProjection<D>, history: &[Line<'_>]) {
    let began = DateTime::UNIX_EPOCH + Duration::days(20_000);
    let decode = |(at, (aggregate, event_type, payload)): (u64, &Line<'_>)| {
        let event = D::decode(event_type, D::event_version(event_type), payload.as_bytes());
        let event = event.unwrap_or_else(|error| panic!("{error}"));
        (at, aggregate_id::<D>(aggregate), event)
    };
    let wanted = history.iter().filter(|(_, event_type, _)| projection.events().contains(event_type));
    let events: Vec<_> = (1..).zip(wanted).map(decode).collect();
    let page: Vec<_> = events
        .iter()
        .map(|(at, aggregate, event)| Happened {
            position: *at,
            event_id: Uuid::from_u128(u128::from(*at)),
            recorded_at: began + Duration::seconds(*at as i64),
            aggregate,
            version: *at,
            event,
        })
        .collect();
    let mut sql = Sql::new();
    projection.write(&page, &mut sql);
    let mut problems = Vec::new();
    compare(file, (projection.name(), projection.version()), vec![sql.into_string()], &mut problems);
    tell(&problems);
}

fn compare(file: &str, (name, version): (&str, u16), mut written: Vec<String>, problems: &mut Vec<String>) {
    let start = format!("{version} {name} ");
    let mut known: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix(&*start)).collect();
    known.sort_unstable();
    written.sort_unstable();
    let lines = |version: u16| {
        let each = written.iter().map(|row| format!("`{version} {name} {row}`"));
        each.collect::<Vec<_>>().join(" and ")
    };
    if known.is_empty() {
        problems.push(format!("no line has the rows of {name}: add {}", lines(version)));
    } else if known != written {
        let next = version + 1;
        problems.push(format!(
            "the rows of {name} are not what they were: version {next} of its code is due, and {}",
            lines(next)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems::told;
    use super::*;
    use crate::domain::AggregateId;
    use crate::projection::{Column, Table};
    use crate::testing::account::{Account, Accounts, Moved};

    struct Balances(i64);

    const TABLE: Table = Table {
        name: "balances",
        key: &[Column::id("id")],
        columns: &[Column::new("balance", "BIGINT")],
        indexes: &[],
    };

    impl StateProjection<Accounts> for Balances {
        fn table(&self) -> &'static Table {
            const { &TABLE }
        }
        fn aggregates(&self) -> &'static [&'static str] {
            Accounts::AGGREGATES
        }
        fn rows(&self, aggregate: &AggregateId, _: u64, state: &Account, rows: &mut Rows<'_>) {
            rows.add(&[(&*aggregate.id).into(), (state.balance * self.0).into()]);
        }
    }

    struct Sum(&'static str);

    impl LogProjection<Accounts> for Sum {
        fn name(&self) -> &'static str {
            "sum"
        }
        fn events(&self) -> &'static [&'static str] {
            Accounts::EVENTS
        }
        fn write(&self, page: &[Happened<'_, Accounts>], sql: &mut Sql) {
            let sum: i64 = page.iter().map(|happened| happened.event as &Moved).map(|moved| moved.amount).sum();
            sql.raw(self.0).signed(sum).raw(";");
        }
    }

    const HISTORY: &[Line<'_>] =
        &[("account/ada", "account.moved", r#"{"amount":5}"#), ("account/bob", "account.moved", r#"{"amount":2}"#)];
    const GOLDEN: &str = "1 balances [\"bob\",2]\n1 balances [\"ada\",5]\n1 sum UPDATE t SET s=7;\n";

    #[test]
    fn rows_that_are_not_what_they_were_ask_for_the_next_version() {
        rows::<Accounts>(GOLDEN, &[&Balances(1)], HISTORY);
        let text = told(|| rows::<Accounts>(GOLDEN, &[&Balances(2)], HISTORY));
        assert!(text.contains("version 2 of its code is due") && text.contains(r#"`2 balances ["ada",10]`"#), "{text}");
        let text = told(|| rows::<Accounts>("", &[&Balances(1)], HISTORY));
        assert!(text.contains(r#"add `1 balances ["ada",5]` and"#), "{text}");
        log_rows::<Accounts>(GOLDEN, &Sum("UPDATE t SET s="), HISTORY);
        let text = told(|| log_rows::<Accounts>(GOLDEN, &Sum("UPDATE t SET s=1+"), HISTORY));
        assert!(text.contains("version 2 of its code is due"), "{text}");
    }
}
