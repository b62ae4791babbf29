//! The rules of accounts, in the words of their log.

use accounts::Accounts;
use lockkeeper::testing::{given, laws};

const AMOUNT: &str = r#"{"amount":5}"#;

#[test]
fn a_transfer_moves_what_is_there_and_no_more() {
    let accounts = given::<Accounts>(&[("account/ada", "account.credited", AMOUNT)]);
    let moved = [("account/ada", "account.debited", AMOUNT), ("account/bob", "account.credited", AMOUNT)];
    let on = r#"{"to":"bob","amount":5}"#;
    accounts.when("account.transfer", "ada", on).then(&moved);
    accounts.when("account.transfer", "ada", r#"{"to":"bob","amount":6}"#).then_no("overdraft");
    accounts.when("account.transfer", "ada", r#"{"to":"ada","amount":1}"#).then_no("same_account");
    laws::hold::<Accounts>(&[("account/ada", "account.deposit", AMOUNT), ("account/ada", "account.transfer", on)]);
}
