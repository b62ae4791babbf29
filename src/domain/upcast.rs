//! Events of earlier shapes, brought to the shape of today when they are read. The log itself is never rewritten.
//!
//! An added field needs none of this: with `#[serde(default)]` older events are read as they are, and older programs pass it by.
//! A field that was renamed, split or given another type is a new version of the event's schema, and one [`Upcast`] says how a
//! payload of the version before is told in the new one. It may only say what the old payload says already: what has no answer there
//! is a new event type.

use std::borrow::Cow;

use serde_json::Value;

use super::{Domain, Undecodable, Upcast};

/// What is wrong with a domain's [`UPCASTS`](Domain::UPCASTS): an event of an earlier version could not be read, or in two ways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A step is missing.
    #[error("no upcast leads from {0} v{1} to v{next}, and events are written in v{2}", next = .1 + 1)]
    Gap(&'static str, u16, u16),
    /// A step is there twice.
    #[error("two upcasts lead from {0} v{1}")]
    Double(&'static str, u16),
    /// A step leads beyond the newest version, or begins before the first.
    #[error("an upcast leads from {0} v{1}, and the newest version is v{2}")]
    Beyond(&'static str, u16, u16),
    /// A step is for an event type that is not listed.
    #[error("an upcast is for {0}, which is no event type of the domain")]
    Unknown(&'static str),
}

/// The event of a stored form, in whichever version of its schema.
pub fn decode<D: Domain>(event_type: &str, schema_version: u16, payload: &[u8]) -> Result<D::Event, Undecodable> {
    if D::UPCASTS.is_empty() {
        return D::decode(event_type, schema_version, payload);
    }
    let newest = D::event_version(event_type);
    let undecodable = |problem: String| Undecodable {
        event_type: event_type.to_owned(),
        schema_version,
        problem: problem.chars().take(200).collect(),
    };
    let payload = upcast(D::UPCASTS, (event_type, schema_version), newest, payload).map_err(undecodable)?;
    let event = D::decode(event_type, newest.max(schema_version), &payload);
    event.map_err(|error| Undecodable { schema_version, ..error })
}

/// Whether a newer program wrote the event: it is no damage, and a newer program reads it.
pub fn is_newer<D: Domain>(event_type: &str, schema_version: u16) -> bool {
    !D::EVENTS.contains(&event_type) || schema_version > D::event_version(event_type)
}

/// Every event type with the newest version that this program reads.
pub fn newest<D: Domain>() -> impl Iterator<Item = (&'static str, u16)> {
    D::EVENTS.iter().map(|event_type| (*event_type, D::event_version(event_type)))
}

/// What of these versions, each of an event type, this program does not read, in words; `None` when it reads all.
pub fn unread<'t, D: Domain>(versions: impl Iterator<Item = (&'t str, u16)>) -> Option<String> {
    let unread = versions.filter(|(event_type, version)| is_newer::<D>(event_type, *version));
    let told = unread.map(|(event_type, version)| {
        let known = D::EVENTS.contains(&event_type);
        let least = if known { format!("up to v{}", D::event_version(event_type)) } else { "no version".to_owned() };
        format!("{event_type} v{version}, of which it reads {least}")
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

/// Whether every version of every event type leads to the newest, in one way.
pub fn check<D: Domain>() -> Result<(), BrokenChain> {
    check_chains(D::UPCASTS, &newest::<D>().collect::<Vec<_>>())
}

fn upcast<'a>(
    steps: &[Upcast],
    (event_type, schema_version): (&str, u16),
    newest: u16,
    payload: &'a [u8],
) -> Result<Cow<'a, [u8]>, String> {
    if schema_version >= newest {
        return Ok(Cow::Borrowed(payload));
    }
    let mut value: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    for from in schema_version..newest {
        let step = steps.iter().find(|step| step.event_type == event_type && step.from == from);
        let step = step.ok_or_else(|| format!("no upcast leads from v{from} to v{}", from + 1))?;
        value = (step.apply)(value).map_err(|problem| format!("the upcast from v{from}: {problem}"))?;
    }
    serde_json::to_vec(&value).map(Cow::Owned).map_err(|error| error.to_string())
}

fn check_chains(steps: &[Upcast], newest: &[(&'static str, u16)]) -> Result<(), BrokenChain> {
    for Upcast { event_type, from, .. } in steps {
        let known = newest.iter().find(|(known, _)| known == event_type);
        let (_, newest) = known.ok_or(BrokenChain::Unknown(event_type))?;
        if !(1..*newest).contains(from) {
            return Err(BrokenChain::Beyond(event_type, *from, *newest));
        }
    }
    for (event_type, newest) in newest {
        for from in 1..*newest {
            match steps.iter().filter(|step| step.event_type == *event_type && step.from == from).count() {
                0 => return Err(BrokenChain::Gap(event_type, from, *newest)),
                1 => {}
                _ => return Err(BrokenChain::Double(event_type, from)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENAMED: Upcast = Upcast {
        event_type: "account.moved",
        from: 1,
        apply: |mut value| {
            let fields = value.as_object_mut().ok_or("it is no object")?;
            let amount = fields.remove("sum").ok_or("it has no sum")?;
            fields.insert("amount".to_owned(), amount);
            Ok(value)
        },
    };
    const DOUBLED: Upcast = Upcast {
        event_type: "account.moved",
        from: 2,
        apply: |mut value| {
            value["amount"] = (value["amount"].as_i64().ok_or("no number")? * 2).into();
            Ok(value)
        },
    };

    fn told(version: u16, payload: &str) -> Result<String, String> {
        let payload = upcast(&[DOUBLED, RENAMED], ("account.moved", version), 3, payload.as_bytes())?;
        Ok(String::from_utf8_lossy(&payload).into_owned())
    }

    #[test]
    fn each_version_is_told_step_by_step_and_the_newest_is_left_as_it_is() {
        assert_eq!(told(1, r#"{"sum":5}"#).unwrap(), r#"{"amount":10}"#);
        assert_eq!(told(2, r#"{"amount":5}"#).unwrap(), r#"{"amount":10}"#);
        assert_eq!(told(3, "{ not even JSON").unwrap(), "{ not even JSON");
        assert_eq!(told(4, "{}").unwrap(), "{}", "it is refused where it is read");
        assert_eq!(told(1, "{}").unwrap_err(), "the upcast from v1: it has no sum");
        assert_eq!(told(0, "{}").unwrap_err(), "no upcast leads from v0 to v1");
    }

    #[test]
    fn gaps_doubles_and_steps_beyond_the_newest_are_refused() {
        let moved = |newest| [("account.moved", newest), ("account.opened", 1)];
        assert_eq!(check_chains(&[DOUBLED, RENAMED], &moved(3)), Ok(()));
        assert_eq!(check_chains(&[], &moved(1)), Ok(()));
        let told =
            |steps: &[Upcast], newest| check_chains(steps, &moved(newest)).expect_err("it is broken").to_string();
        assert!(told(&[DOUBLED], 3).contains("from account.moved v1 to v2"));
        assert!(told(&[RENAMED], 3).contains("from account.moved v2 to v3"));
        assert!(told(&[], 2).contains("events are written in v2"));
        assert!(told(&[RENAMED, RENAMED], 2).contains("two upcasts lead from account.moved v1"));
        assert!(told(&[RENAMED, DOUBLED], 2).contains("from account.moved v2, and the newest version is v2"));
        assert!(told(&[Upcast { from: 0, ..RENAMED }], 1).contains("from account.moved v0"));
        assert!(told(&[Upcast { event_type: "account.shut", ..RENAMED }], 1).contains("no event type"));
    }
}
