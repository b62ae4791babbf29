//! Events as they were first written.

use std::collections::HashMap;

use crate::domain::Domain;

/// A stored event: its type, its schema version, its payload.
pub type Stored<'t> = (&'t str, u16, &'t str);

/// The stored events of a golden file, which has one on a line: `item.restocked 1 {"quantity":5}`.
pub fn stored(file: &str) -> impl Iterator<Item = Stored<'_>> {
    file.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let mut parts = line.splitn(3, ' ');
        match (parts.next(), parts.next().and_then(|version| version.parse().ok()), parts.next()) {
            (Some(event_type), Some(version), Some(payload)) => (event_type, version, payload),
            _ => panic!("`{line}` is not of the form TYPE VERSION PAYLOAD"),
        }
    })
}

/// Panics unless every event of the file is read, those of a type's newest version are written as ever, byte for byte, and every
/// event type of the domain is in it. A line of such a file never changes; a new schema version is a new line.
pub fn hold<D: Domain>(file: &str) {
    let mut newest: HashMap<&str, u16> = HashMap::new();
    for (event_type, version, _) in stored(file) {
        let seen = newest.entry(event_type).or_default();
        *seen = (*seen).max(version);
    }
    for (event_type, version, payload) in stored(file) {
        let event = D::decode(event_type, version, payload.as_bytes());
        let event = event.unwrap_or_else(|error| panic!("what was once written is no longer read: {error}"));
        if newest.get(event_type) == Some(&version) {
            let encoded = D::encode(&event);
            let written = (encoded.event_type, encoded.schema_version, &*encoded.payload);
            assert_eq!(
                written,
                (event_type, version, payload),
                "{event_type} v{version} is no longer written as it was"
            );
        }
    }
    let missing: Vec<_> = D::EVENTS.iter().filter(|event_type| !newest.contains_key(*event_type)).collect();
    assert!(missing.is_empty(), "no line has an event of these types: {missing:?}");
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::hold;
    use crate::testing::account::Accounts;

    const GOLDEN: &str = "account.moved 1 {\"amount\":5}\n";

    #[test]
    fn an_event_that_is_no_longer_read_or_written_as_it_was_is_noticed_and_so_is_one_without_a_line() {
        hold::<Accounts>(GOLDEN);
        for (from, to, told) in [
            ("{\"amount\":5}\n", "{\"amount\": 5}\n", "no longer written"),
            ("amount", "sum", "no longer read"),
            (GOLDEN, "", "no line has"),
            (" 1 ", " one ", "is not of the form"),
        ] {
            let changed = GOLDEN.replace(from, to);
            let error = catch_unwind(|| hold::<Accounts>(&changed)).expect_err(told);
            let text = error.downcast_ref::<String>().expect("a text");
            assert!(text.contains(told), "{text}");
        }
    }
}
