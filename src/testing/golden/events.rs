//! Events as they were first written.

use serde_json::Value;
use uuid::Uuid;

use super::problems::tell;
use crate::domain::{Domain, EncodedEvent, upcast};

/// A line of a golden file of events: `item.restocked 1 3f0c92aa {"quantity":5}`, or, of a version that is not written any more,
/// `item.restocked 1 3f0c92aa {"number":5} => {"quantity":5}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<'t> {
    /// Its type.
    pub event_type: &'t str,
    /// The version of its schema.
    pub schema_version: u16,
    /// A digest of what the line says was stored, so that nobody changes it by mistake.
    check: &'t str,
    /// Its payload as it was stored.
    pub payload: &'t str,
    /// What its payload would be today, if it is of an earlier version.
    pub now: Option<&'t str>,
}

/// The events of a golden file, which has one on a line.
pub fn stored(file: &str) -> impl Iterator<Item = Stored<'_>> {
    file.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let form = || {
            format!("`{line}` is not of the form TYPE VERSION CHECK PAYLOAD, or TYPE VERSION CHECK PAYLOAD => PAYLOAD")
        };
        Stored::read(line).unwrap_or_else(|| panic!("{}", form()))
    })
}

impl<'t> Stored<'t> {
    fn read(line: &'t str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let (event_type, version, check, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        values.next()?.ok()?;
        let (payload, behind) = rest.split_at(values.byte_offset());
        let is_json = |text: &&str| serde_json::from_str::<Value>(text).is_ok();
        let now = if behind.trim().is_empty() { None } else { Some(behind.strip_prefix(" => ").filter(is_json)?) };
        Some(Self { event_type, schema_version: version.parse().ok()?, check, payload, now })
    }

    fn check(event_type: &str, schema_version: u16, payload: &str) -> String {
        let text = format!("{event_type} {schema_version} {payload}");
        let digest = Uuid::new_v5(&Uuid::nil(), text.as_bytes()).simple().to_string();
        digest[..8].to_owned()
    }

    fn line(event_type: &str, schema_version: u16, payload: &str) -> String {
        format!("{event_type} {schema_version} {} {payload}", Self::check(event_type, schema_version, payload))
    }

    /// What is wrong with how this program reads and writes it.
    fn problem<D: Domain>(&self) -> Option<String> {
        let Self { event_type, schema_version, payload, .. } = *self;
        if Self::check(event_type, schema_version, payload) != self.check {
            let line = Self::line(event_type, schema_version, payload);
            return Some(format!(
                "the line of {event_type} v{schema_version} was changed, which never happens to one that was there; a new one is `{line}`"
            ));
        }
        if upcast::is_newer::<D>(event_type, schema_version) {
            let newest = D::event_version(event_type);
            return Some(format!("{event_type} v{schema_version} is no longer read: this program reads v{newest}"));
        }
        let next = schema_version + 1;
        let due = format!(
            "a payload that changed is version {next}: `@ {next}` in `events!`, an upcast from {schema_version}, and a line"
        );
        let event = match upcast::decode::<D>(event_type, schema_version, payload.as_bytes()) {
            Ok(event) => event,
            Err(error) => return Some(format!("what was once written is no longer read: {error}; {due}")),
        };
        let written = D::encode(&event);
        if (written.event_type, written.schema_version) == (event_type, schema_version) {
            let kept = keeps(&value(payload), &value(&written.payload));
            return (!kept).then(|| {
                let written = &written.payload;
                format!(
                    "{event_type} v{schema_version} is no longer written as it was, `{payload}`, but `{written}`; {due}"
                )
            });
        }
        match self.now {
            Some(now) if now == written.payload => None,
            Some(now) => Some(format!(
                "{event_type} v{schema_version} `{payload}` meant `{now}` and means `{}` now: an upcast that events were read with stays as it is",
                written.payload
            )),
            None => {
                let line = Self::line(event_type, schema_version, payload);
                let text = format!("the line of {event_type} v{schema_version} does not say what it means");
                Some(format!("{text}: `{line} => {}`", written.payload))
            }
        }
    }

    /// As this program would write it, if that is in the line's version.
    fn written<D: Domain>(&self) -> Option<EncodedEvent> {
        let event = upcast::decode::<D>(self.event_type, self.schema_version, self.payload.as_bytes()).ok()?;
        let written = D::encode(&event);
        let is_said = written.schema_version == D::written_version(self.event_type);
        (written.schema_version == self.schema_version && is_said).then_some(written)
    }
}

/// Panics unless every event of the file is read and means what it meant, those of the version that is written are written as ever,
/// every version of every event type of the domain has a line, and so has every field that is written.
///
/// A line never changes, but for what a version that is not written any more means `=>` today. A field that is new and may be missing
/// (`#[serde(default)]`) is no change of the version: it asks for a line that has it.
pub fn events<D: Domain>(file: &str) {
    let lines: Vec<Stored<'_>> = stored(file).collect();
    let mut problems: Vec<String> = upcast::check::<D>().err().iter().map(ToString::to_string).collect();
    problems.extend(lines.iter().filter_map(Stored::problem::<D>));
    for (event_type, newest) in upcast::newest::<D>() {
        let of_type = || lines.iter().filter(move |line| line.event_type == event_type);
        for version in 1..=newest {
            if !of_type().any(|line| line.schema_version == version) {
                problems.push(format!("no line has an event {event_type} v{version}"));
            }
        }
        let written: Vec<(&Stored<'_>, EncodedEvent)> =
            of_type().filter_map(|line| Some((line, line.written::<D>()?))).collect();
        let is_whole = written.is_empty() || written.iter().any(|(line, written)| line.payload == written.payload);
        if let Some((_, EncodedEvent { schema_version, payload, .. })) = written.first().filter(|_| !is_whole) {
            let line = Stored::line(event_type, *schema_version, payload);
            problems.push(format!("no line has all that {event_type} v{schema_version} is written with: add `{line}`"));
        }
        let said = D::written_version(event_type);
        if of_type().next().is_some() && written.is_empty() {
            problems.push(format!(
                "{event_type} is not written in v{said}, as `written_version` says, or no line has that version"
            ));
        }
    }
    tell(&problems);
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

/// Whether all that was written is written still, whatever else is.
fn keeps(was: &Value, is: &Value) -> bool {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            was.iter().all(|(name, value)| is.get(name).is_some_and(|other| keeps(value, other)))
        }
        (Value::Array(was), Value::Array(is)) => {
            was.len() == is.len() && was.iter().zip(is).all(|(was, is)| keeps(was, is))
        }
        (was, is) => was == is,
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems::told;
    use super::*;
    use crate::domain::{Malformed, NewEvent, Rejection, States, Targets, Undecodable, Upcast};
    use crate::testing::account::{Account, Accounts, Command, Moved};
    use serde_json::json;

    const GOLDEN: &str = "account.moved 1 a20c9b9d {\"amount\":5}\n";

    #[test]
    fn an_event_that_is_no_longer_read_or_written_as_it_was_is_noticed_and_so_is_one_without_a_line() {
        events::<Accounts>(GOLDEN);
        for (from, to, expected) in [
            ("5}\n", "6}\n", "the line of account.moved v1 was changed"),
            (
                GOLDEN,
                "account.moved 1 857b79f1 {\"amount\": 5}\n",
                "no line has all that account.moved v1 is written with: add `account.moved 1",
            ),
            (GOLDEN, "account.moved 1 c93e3fc2 {\"sum\":5}\n", "no longer read: event account.moved v1"),
            (GOLDEN, "account.moved 2 b2c7fe4e {\"amount\":5}\n", "this program reads v1"),
            (GOLDEN, "", "no line has an event account.moved v1"),
            (" 1 ", " one ", "is not of the form"),
            ("\n", " => \n", "is not of the form"),
        ] {
            let changed = GOLDEN.replace(from, to);
            let text = told(|| events::<Accounts>(&changed));
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    /// Accounts whose events had another shape once: an amount that was called a sum.
    #[derive(Debug)]
    struct Renamed;

    const NOW: u16 = 2;
    const RENAME: Upcast = Upcast {
        event_type: "account.moved",
        from: 1,
        apply: |value| Ok(json!({ "amount": value.get("sum").ok_or("it has no sum")? })),
    };

    impl Domain for Renamed {
        type Command = Command;
        type Event = Moved;
        type State = Account;
        const AGGREGATES: &'static [&'static str] = Accounts::AGGREGATES;
        const JOBS: &'static [&'static str] = Accounts::JOBS;
        const EVENTS: &'static [&'static str] = Accounts::EVENTS;
        const REJECTIONS: &'static [&'static str] = Accounts::REJECTIONS;
        const UPCASTS: &'static [Upcast] = &[RENAME];
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
        fn encode(event: &Moved) -> EncodedEvent {
            EncodedEvent { schema_version: NOW, ..Accounts::encode(event) }
        }
        fn event_version(_: &str) -> u16 {
            NOW
        }
        fn decode(event_type: &str, version: u16, payload: &[u8]) -> Result<Moved, Undecodable> {
            Accounts::decode(event_type, version.saturating_sub(NOW - 1), payload)
        }
    }

    #[test]
    fn an_earlier_version_means_what_it_meant() {
        const FORMER: &str = "account.moved 1 c93e3fc2 {\"sum\":5}";
        const PRESENT: &str = "account.moved 2 b2c7fe4e {\"amount\":5}";
        events::<Renamed>(&format!("{FORMER} => {{\"amount\":5}}\n{PRESENT}\n"));
        for (former, present, expected) in [
            (FORMER, PRESENT, "does not say what it means: `account.moved 1 c93e3fc2 {\"sum\":5} => {\"amount\":5}`"),
            (
                "account.moved 1 c93e3fc2 {\"sum\":5} => {\"amount\":6}",
                PRESENT,
                "meant `{\"amount\":6}` and means `{\"amount\":5}`",
            ),
            ("account.moved 1 a20c9b9d {\"amount\":5}", PRESENT, "the upcast from v1: it has no sum"),
            (FORMER, "", "no line has an event account.moved v2"),
        ] {
            let text = told(|| events::<Renamed>(&format!("{former}\n{present}\n")));
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn what_was_written_may_gain_fields_and_lose_none() {
        let kept = |was: &str, is: &str| keeps(&value(was), &value(is));
        assert!(kept(r#"{"a":1,"b":[{"c":2}]}"#, r#"{"b":[{"c":2,"d":3}],"a":1,"e":4}"#));
        for is in [r#"{"a":1}"#, r#"{"a":2,"b":[{"c":2}]}"#, r#"{"a":1,"b":[{"d":2}]}"#, r#"{"a":1,"b":[]}"#] {
            assert!(!kept(r#"{"a":1,"b":[{"c":2}]}"#, is), "{is}");
        }
    }
}
