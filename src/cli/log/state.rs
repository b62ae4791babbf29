//! `state`: what an aggregate's events add up to, now or at any moment before, and what changed in between.

use clap::Args;
use serde_json::{Value, json};

use super::aggregate;
use super::moment::{self, Moment, first};
use crate::cli::arguments::Json;
use crate::cli::failed::Failed;
use crate::cli::output::{line, lines};
use crate::config::Config;
use crate::daemon;
use crate::domain::{AggregateId, Domain, upcast};
use crate::exit::Exit;
use crate::store::{EventPlace, Snapshot, Store, StoreError};

/// Arguments of `state`.
#[derive(Debug, Args)]
pub struct State {
    /// The aggregate as TYPE/ID, such as item/pen
    #[arg(value_name = "AGGREGATE/ID")]
    aggregate: String,
    /// After the event of this version; the newest when nothing is said
    #[arg(long, value_name = "N", conflicts_with_all = ["at", "position"])]
    version: Option<u64>,
    /// At this moment: 2026-01-31T12:00:00Z, or 15m for so long ago
    #[arg(long, value_name = "TIME", value_parser = moment::parse, conflicts_with = "position")]
    at: Option<Moment>,
    /// When the log had got to this position
    #[arg(long, value_name = "POSITION")]
    position: Option<u64>,
    /// What has changed since this version, instead of the whole state
    #[arg(long, value_name = "N")]
    diff: Option<u64>,
    #[command(flatten)]
    json: Json,
}

/// Events per read.
const PAGE: u64 = 1000;

/// Prints a state. Exit 1 when the aggregate has no events, or none so far, or one that this program cannot read.
pub async fn state<D: Domain>(config: &Config, arguments: State) -> Result<u8, Failed> {
    let whose = of_domain::<D>(&arguments.aggregate)?;
    let store = daemon::store(config).await?;
    let log = History { store: &store, whose };
    let version = log.version(&arguments).await?;
    let place = log.place(version).await?.ok_or_else(|| log.missing(version))?;
    let (earlier, state) = match arguments.diff.filter(|earlier| *earlier <= version) {
        None if arguments.diff.is_some() => {
            let text =
                format!("--diff {}: it has to be a version before {version}", arguments.diff.unwrap_or_default());
            return Err(Failed::new(Exit::USAGE, text));
        }
        None => (None, log.fold::<D>(version).await?),
        Some(earlier) => (Some((earlier, log.fold::<D>(earlier).await?)), log.fold::<D>(version).await?),
    };
    let changes = earlier.map(|(earlier, before)| {
        let mut changes = Vec::new();
        compare("", Some(&before), Some(&state), &mut changes);
        (earlier, changes)
    });
    print(&arguments, version, &place, &state, changes)?;
    Ok(Exit::OK)
}

fn print(
    arguments: &State,
    version: u64,
    EventPlace { position, recorded_at }: &EventPlace,
    state: &Value,
    changes: Option<(u64, Vec<Change>)>,
) -> Result<(), Failed> {
    let aggregate = &arguments.aggregate;
    if arguments.json.json {
        let mut object =
            json!({ "aggregate": aggregate, "version": version, "position": position, "recorded_at": recorded_at });
        match changes {
            None => object["state"] = state.clone(),
            Some((since, changes)) => {
                let changes =
                    changes.into_iter().map(|Change { path, was, is }| json!({ "path": path, "was": was, "is": is }));
                (object["since"], object["changes"]) = (since.into(), changes.collect());
            }
        }
        return Ok(line(object)?);
    }
    let since = changes.as_ref().map(|(since, _)| format!(", what changed since v{since}")).unwrap_or_default();
    line(format_args!("{aggregate} v{version}, position {position}, {recorded_at} UTC{since}"))?;
    match changes {
        None => line(serde_json::to_string_pretty(state).map_err(|error| Failed::new(Exit::BROKEN, error))?)?,
        Some((_, changes)) => lines(changes.iter().flat_map(|Change { path, was, is }| {
            let side =
                |sign: char, value: &Option<Value>| value.as_ref().map(|value| format!("{sign} {path}: {value}"));
            [side('-', was), side('+', is)].into_iter().flatten()
        }))?,
    }
    Ok(())
}

/// The aggregate that is named, of a type that this program knows.
fn of_domain<D: Domain>(text: &str) -> Result<AggregateId, Failed> {
    let (kind, id) = aggregate(text)?;
    let known = D::AGGREGATES.iter().find(|known| **known == kind).ok_or_else(|| {
        Failed::new(
            Exit::USAGE,
            format!("{kind} is no aggregate type of this program: it has {}", D::AGGREGATES.join(", ")),
        )
    })?;
    Ok(AggregateId::new(known, id))
}

/// One aggregate's events.
struct History<'a> {
    store: &'a Store,
    whose: AggregateId,
}

impl History<'_> {
    fn whose(&self) -> (&str, &str) {
        (self.whose.kind, &self.whose.id)
    }

    async fn place(&self, version: u64) -> Result<Option<EventPlace>, StoreError> {
        self.store.place_of_version(self.whose(), version).await
    }

    fn missing(&self, version: u64) -> Failed {
        Failed::new(Exit::NO, format!("{} has no event of version {version}", self.whose))
    }

    /// The version that is asked for.
    async fn version(&self, arguments: &State) -> Result<u64, Failed> {
        let newest = self.store.newest_version(self.whose.kind, &self.whose.id).await?;
        if newest == 0 {
            return Err(Failed::new(Exit::NO, format!("{} has no events", self.whose)));
        }
        let look = async |version| self.place(version).await;
        let version = match (arguments.version, arguments.at, arguments.position) {
            (Some(version), ..) if version > newest => {
                return Err(Failed::new(Exit::NO, format!("{} has only {newest} events", self.whose)));
            }
            (Some(version), ..) => version,
            (None, Some(moment), _) => {
                let moment = moment.text(self.store).await?;
                // All events of a batch are of one moment, and belong to it.
                first(newest, look, |place| place.recorded_at > moment).await? - 1
            }
            (None, None, Some(position)) => first(newest, look, |place| place.position > position).await? - 1,
            (None, None, None) => newest,
        };
        if version == 0 {
            return Err(Failed::new(Exit::NO, format!("{} had no events then", self.whose)));
        }
        Ok(version)
    }

    /// What the events up to this version add up to: from a snapshot on, if there is one that is not younger.
    async fn fold<D: Domain>(&self, version: u64) -> Result<Value, Failed> {
        let (mut at, mut state) = self.snapshot::<D>(version).await?.unwrap_or_default();
        while at < version {
            let page = self.store.history_between(self.whose(), (at + 1, version.min(at + PAGE))).await?;
            if page.is_empty() {
                return Err(self.missing(at + 1));
            }
            for event in page {
                if event.version != at + 1 {
                    return Err(self.missing(at + 1));
                }
                let decoded = upcast::decode::<D>(&event.event_type, event.schema_version, &event.payload);
                let decoded = decoded.map_err(|error| {
                    Failed::new(
                        Exit::NO,
                        format!("position {}, {} v{}: {error}", event.position, self.whose, event.version),
                    )
                })?;
                D::evolve(&mut state, &decoded);
                at = event.version;
            }
        }
        serde_json::to_value(&state)
            .map_err(|error| Failed::new(Exit::BROKEN, format!("the state is no JSON: {error}")))
    }

    async fn snapshot<D: Domain>(&self, version: u64) -> Result<Option<(u64, D::State)>, StoreError> {
        let mut found: Option<Snapshot> = None;
        let wanted = [self.whose.clone()];
        self.store.snapshots(&wanted, async { Ok::<_, StoreError>(()) }, |snapshot| found = Some(snapshot)).await?;
        let found = found.filter(|found| found.version <= version && found.schema_version == D::STATE_SCHEMA);
        Ok(found.and_then(|found| Some((found.version, serde_json::from_slice(&found.state).ok()?))))
    }
}

/// A place in a state that is not what it was.
#[derive(Debug, PartialEq)]
struct Change {
    /// A JSON pointer (RFC 6901).
    path: String,
    was: Option<Value>,
    is: Option<Value>,
}

/// Finds what differs, as deep as it can be told.
fn compare(path: &str, was: Option<&Value>, is: Option<&Value>, changes: &mut Vec<Change>) {
    let step = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    match (was, is) {
        (was, is) if was == is => {}
        (Some(Value::Object(was)), Some(Value::Object(is))) => {
            let gone = was.keys().filter(|name| !is.contains_key(*name));
            for name in is.keys().chain(gone) {
                compare(&step(name), was.get(name), is.get(name), changes);
            }
        }
        (Some(Value::Array(was)), Some(Value::Array(is))) => {
            for place in 0..was.len().max(is.len()) {
                compare(&step(&place.to_string()), was.get(place), is.get(place), changes);
            }
        }
        (was, is) => {
            let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
            changes.push(Change { path, was: was.cloned(), is: is.cloned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_as_deep_as_it_can_be() {
        let was = json!({ "stock": 5, "lines": [{ "a": 1 }, 2], "gone": null, "same": [1], "a/b~": 1 });
        let is = json!({ "stock": 7, "lines": [{ "a": 2 }], "same": [1], "new": {}, "a/b~": 2 });
        let mut changes = Vec::new();
        compare("", Some(&was), Some(&is), &mut changes);
        let told: Vec<_> =
            changes.iter().map(|change| (change.path.as_str(), change.was.clone(), change.is.clone())).collect();
        let expected = [
            ("/a~1b~0", Some(json!(1)), Some(json!(2))),
            ("/lines/0/a", Some(json!(1)), Some(json!(2))),
            ("/lines/1", Some(json!(2)), None),
            ("/new", None, Some(json!({}))),
            ("/stock", Some(json!(5)), Some(json!(7))),
            ("/gone", Some(json!(null)), None),
        ];
        assert_eq!(told, expected);
        let mut none = Vec::new();
        compare("", Some(&was), Some(&was), &mut none);
        assert_eq!(none, []);
    }
}
