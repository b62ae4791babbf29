//! The rules of accounts, in the words of their log.

use accounts::{Accounts, Balances};
use lockkeeper::testing::{cuts, given, laws};

const AMOUNT: &str = r#"{"amount":5}"#;

#[test]
fn a_transfer_moves_what_is_there_and_no_more() {
    let accounts = given::<Accounts>(&[("account/ada", "account.credited", AMOUNT)]);
    let moved = [("account/ada", "account.debited", AMOUNT), ("account/bob", "account.credited", AMOUNT)];
    let on = r#"{"to":"bob","amount":5}"#;
    accounts.when("account.transfer", "ada", on).then(&moved);
    accounts.when("account.transfer", "ada", r#"{"to":"bob","amount":6}"#).then_no("overdraft");
    accounts.when("account.transfer", "ada", r#"{"to":"ada","amount":1}"#).then_no("same_account");
    let jobs = [("account/ada", "account.deposit", AMOUNT), ("account/ada", "account.transfer", on)];
    laws::hold::<Accounts>(&jobs);
    cuts::leave_the_same_rows(&Balances, &jobs);
}
