//! `schemas`: every event type with the versions of its schema, as this program has them and as the log may have them.

use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::failed::Failed;
use crate::cli::output::told;
use crate::config::Config;
use crate::daemon;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::store::WrittenSchema;

/// Prints a line for each event type. Exit 1 when the log may have a version that this program does not read.
pub async fn schemas<D: Domain>(config: &Config, json: bool) -> Result<u8, Failed> {
    let store = daemon::store(config).await?;
    let written = store.written_schemas().await?;
    let unknown = written.iter().map(|one| &*one.event_type).filter(|event_type| !D::EVENTS.contains(event_type));
    let mut types: Vec<&str> = D::EVENTS.iter().copied().chain(unknown).collect();
    types.dedup();
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["event type", "reads", "writes", "the log may have"]);
    for event_type in types {
        let known =
            D::EVENTS.contains(&event_type).then(|| (D::event_version(event_type), D::written_version(event_type)));
        let in_log: Vec<&WrittenSchema> = written.iter().filter(|one| one.event_type == event_type).collect();
        if json {
            let in_log: Vec<_> = in_log
                .iter()
                .map(|one| json!({ "version": one.schema_version, "since": one.since.replace(' ', "T") + "Z" }))
                .collect();
            let schema = D::event_schema(event_type).map(schemars::Schema::to_value);
            told(json!({
                "event_type": event_type, "reads": known.map(|(reads, _)| reads), "writes": known.map(|(_, writes)| writes),
                "log": in_log, "schema": schema,
            }))?;
            continue;
        }
        let in_log: Vec<String> =
            in_log.iter().map(|one| format!("v{} since {}", one.schema_version, &one.since[..19])).collect();
        let (reads, writes) = match known {
            Some((1, writes)) => ("v1".to_owned(), format!("v{writes}")),
            Some((reads, writes)) => (format!("v1 to v{reads}"), format!("v{writes}")),
            None => ("not at all".to_owned(), "never".to_owned()),
        };
        table.add_row([event_type, &reads, &writes, &in_log.join(", ")]);
    }
    if !json {
        told(&table)?;
    }
    match daemon::unread_events::<D>(&store).await? {
        None => Ok(Exit::OK),
        Some(unread) => Err(Failed::new(Exit::NO, unread)),
    }
}
