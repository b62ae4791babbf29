//! States as they are stored.

use super::problems::tell;
use crate::domain::Domain;
use crate::testing::{Line, given};

/// Panics unless the states after this history are stored as the file says, which has one on a line with the number of their stored
/// form: `1 item/pen {"stock":5}`. Lines of other numbers are left alone.
pub fn states<D: Domain>(file: &str, history: &[Line<'_>]) {
    let number = D::STATE_SCHEMA;
    let mut states: Vec<_> = given::<D>(history).states.into_iter().collect();
    states.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut problems = Vec::new();
    for (aggregate, state) in states {
        let stored = serde_json::to_string(&state).unwrap_or_else(|error| error.to_string());
        let start = format!("{number} {aggregate} ");
        match file.lines().find_map(|line| line.strip_prefix(&*start)) {
            None => problems.push(format!("no line has the state of {aggregate}: add `{start}{stored}`")),
            Some(known) if known != stored => problems.push(format!(
                "the state of {aggregate} is no longer stored as `{known}`: STATE_SCHEMA {next} is due, and a line `{next} {aggregate} {stored}`",
                next = number + 1
            )),
            Some(known) => {
                if serde_json::from_str(known).ok() != Some(state) {
                    problems.push(format!("the state of {aggregate} is no longer read as it was: STATE_SCHEMA {} is due", number + 1));
                }
            }
        }
    }
    tell(&problems);
}

#[cfg(test)]
mod tests {
    use super::super::problems::told;
    use super::*;
    use crate::testing::account::Accounts;

    const HISTORY: &[Line<'_>] = &[("account/ada", "account.moved", r#"{"amount":5}"#)];
    const GOLDEN: &str = "0 account/ada 5\n1 account/ada {\"balance\":5,\"notes\":\"\"}\n";

    #[test]
    fn a_state_that_is_stored_in_another_way_asks_for_the_next_number() {
        states::<Accounts>(GOLDEN, HISTORY);
        let text = told(|| states::<Accounts>(&GOLDEN.replace("notes", "remarks"), HISTORY));
        assert!(text.contains("STATE_SCHEMA 2 is due"), "{text}");
        let text = told(|| states::<Accounts>("", HISTORY));
        assert!(text.contains("add `1 account/ada {"), "{text}");
    }
}
