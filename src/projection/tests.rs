//! What a description writes.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::domain::AggregateId;
use crate::store::sql::Tables;
use crate::testing::account::{Account, Accounts, Moved};

/// Accounts with their notes; a movement of 0 closes one, of 1 is about nothing, of more about the balance alone.
struct Balances;

const BALANCES: Table = Table {
    name: "balances",
    key: &[Column::id("account_id")],
    columns: &[
        Column::new("balance", "BIGINT"),
        Column::nullable("notes", "VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
        Column::new("version", "BIGINT UNSIGNED"),
    ],
    indexes: &[],
};

impl StateProjection<Accounts> for Balances {
    fn table(&self) -> &'static Table {
        const { &BALANCES }
    }

    fn aggregates(&self) -> &'static [&'static str] {
        &["account"]
    }

    fn rows(&self, aggregate: &AggregateId, version: u64, state: &Account, rows: &mut Rows<'_>) {
        let notes = (!state.notes.is_empty()).then_some(&*state.notes);
        if state.balance != 0 {
            rows.add(&[(&*aggregate.id).into(), state.balance.into(), notes.into(), version.into()]);
        }
    }

    fn touches(&self, event: &Moved) -> Touches {
        match event.amount {
            0 => Touches::Replaced,
            1 => Touches::Nothing,
            2.. => Touches::Columns(&["balance", "version"]),
            _ => Touches::Rows,
        }
    }
}

/// What is written of accounts, each with the amounts that were moved; in build 3.
fn written(accounts: &[(&str, &[i64])]) -> String {
    let each: Vec<_> = accounts
        .iter()
        .map(|(id, amounts)| {
            let events: Vec<_> = amounts.iter().map(|amount| Moved { amount: *amount }).collect();
            let state = Account { balance: amounts.iter().sum(), notes: String::new() };
            (AggregateId::new("account", *id), state, events)
        })
        .collect();
    let changes: Vec<_> = each
        .iter()
        .map(|(aggregate, state, events)| Change { aggregate, version: events.len() as u64, state, events })
        .collect();
    let mut sql = Sql::new();
    sql.of(Tables::Build(3));
    Projection::write(&Balances, &changes, &mut sql);
    sql.into_string()
}

const INSERT: &str = "INSERT INTO balances_3 (account_id,balance,notes,version) VALUES ";
const ALL: &str = " ON DUPLICATE KEY UPDATE balance=VALUES(balance),notes=VALUES(notes),version=VALUES(version);";

#[test]
fn all_rows_of_a_batch_are_one_statement() {
    let text = written(&[("ada", &[-5]), ("b'b", &[-1, -1])]);
    assert_eq!(text, format!("{INSERT}('ada',-5,NULL,1),(x'622762',-2,NULL,2){ALL}"));
}

#[test]
fn rows_of_which_only_some_columns_have_changed_are_a_statement_of_their_own() {
    let text = written(&[("ada", &[2]), ("bob", &[-3, 2])]);
    let few = " ON DUPLICATE KEY UPDATE balance=VALUES(balance),version=VALUES(version);";
    assert_eq!(text, format!("{INSERT}('ada',2,NULL,1){few}{INSERT}('bob',-1,NULL,2){ALL}"));
}

#[test]
fn the_columns_of_many_rows_come_as_a_list() {
    let ids: Vec<String> = (0..40).map(|number| format!("a{number:02}'")).collect();
    let amounts: &[i64] = &[2];
    let accounts: Vec<_> = ids.iter().map(|id| (&**id, amounts)).collect();
    let text = written(&accounts);
    let list: Vec<_> = ids.iter().map(|id| (id, 2, 1)).collect();
    let mut expected = Sql::new();
    expected.raw("UPDATE JSON_TABLE(").json(&list).raw(", '$[*]' COLUMNS (account_id ").raw(crate::store::sql::JSON_ID);
    expected.raw(
        " PATH '$[0]',balance BIGINT PATH '$[1]',version BIGINT UNSIGNED PATH '$[2]')) j STRAIGHT_JOIN balances_3 i ",
    );
    expected.raw("ON i.account_id = CAST(j.account_id AS BINARY) SET i.balance=j.balance,i.version=j.version;");
    assert_eq!(text, expected.as_str());
}

#[test]
fn what_may_be_gone_is_deleted_first_and_what_is_not_concerned_is_not_written() {
    assert_eq!(written(&[("ada", &[2, -2, 0])]), "DELETE FROM balances_3 WHERE account_id IN ('ada');");
    let text = written(&[("ada", &[-4, 0])]);
    assert_eq!(text, format!("DELETE FROM balances_3 WHERE account_id IN ('ada');{INSERT}('ada',-4,NULL,2){ALL}"));
    assert_eq!(written(&[("ada", &[1])]), "");
    assert_eq!(written(&[]), "");
}

#[test]
fn what_is_written_follows_from_what_the_database_lists() {
    use crate::store::{Build, BuildState, Mode};
    let projections: Vec<Arc<dyn Projection<Accounts>>> = vec![Arc::new(Balances)];
    let build = |build, version, state| Build {
        name: "balances".to_owned(),
        build,
        version,
        mode: Mode::Inline,
        state,
        shape: shape(&[BALANCES]),
        taken_over: None,
        vouched_seconds: None,
        since: String::new(),
    };
    let of = |builds: &[Build]| Written::of(&projections, 7, builds);
    assert_eq!(of(&[]).map(|written| (written.targets, written.missing)), Ok((vec![], vec!["balances"])));
    let two = [build(1, 1, BuildState::Kept), build(2, 1, BuildState::Shown), build(3, 1, BuildState::Building)];
    let written = of(&two).expect("it is known");
    assert_eq!(written.targets, vec![(0, Tables::Build(1)), (0, Tables::Build(2))]);
    assert_eq!((written.generation, next_build("balances", &two)), (Some(7), 4));
    let newer = of(&[build(1, 2, BuildState::Ready)]).expect_err("nobody has the code of version 2");
    assert!(newer.to_string().contains("build 1 of version 2"), "{newer}");
    assert!(of(&[build(1, 2, BuildState::Retired)]).is_ok(), "what is not written needs no code");
    let other = Build { shape: uuid::Uuid::nil(), ..build(1, 1, BuildState::Shown) };
    assert!(of(&[other]).is_err_and(|error| error.to_string().contains("needs a new version")));
}

proptest! {
    #[test]
    fn whatever_a_row_has_stays_in_its_literal(text in any::<String>(), number in any::<u64>(), is_true in any::<bool>()) {
        let mut sql = Sql::new();
        for value in [Value::from(&*text), number.into(), is_true.into(), None::<u64>.into()] {
            value.literal(&mut sql);
            sql.raw(";");
        }
        let quoted = sql.as_str().matches('\'').count();
        prop_assert_eq!(quoted, 2, "{}", sql.as_str());
        let end = format!("{number};{};NULL;", u8::from(is_true));
        prop_assert!(sql.as_str().ends_with(&end));
        prop_assert_eq!(serde_json::to_string(&Value::from(&*text)).ok(), serde_json::to_string(&text).ok());
    }
}
