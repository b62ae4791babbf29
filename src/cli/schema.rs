//! `schema`: what producers may write and what consumers will read, in JSON Schema.

use clap::Args;
use serde_json::{Map, Value, json};

use super::failed::Failed;
use super::output::line;
use crate::domain::Domain;
use crate::exit::Exit;

/// The dialect of every schema here.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Arguments of `schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// Only the data of this job type
    #[arg(long, value_name = "TYPE", conflicts_with_all = ["event", "reply"])]
    job: Option<String>,
    /// Only the payload of this event type
    #[arg(long, value_name = "TYPE", conflicts_with = "reply")]
    event: Option<String>,
    /// Only a reply, with the fields of its entry as an object of texts
    #[arg(long)]
    reply: bool,
    /// On one line
    #[arg(long)]
    json: bool,
}

/// Prints one schema, or all in an object: `jobs` and `events` by type, and `reply`. Exit 1 when the type has none.
pub fn schema<D: Domain>(arguments: &Schema) -> Result<u8, Failed> {
    let none = |what: &str, name: &str, known: &[&str]| {
        let known = known.join(", ");
        Failed::new(Exit::NO, format!("no schema of {what} `{name}`; there are: {known}"))
    };
    let schema = match (&arguments.job, &arguments.event, arguments.reply) {
        (Some(job), _, _) => D::job_schema(job).ok_or_else(|| none("a job", job, D::JOBS))?.to_value(),
        (_, Some(event), _) => D::event_schema(event).ok_or_else(|| none("an event", event, D::EVENTS))?.to_value(),
        (_, _, true) => reply(),
        _ => json!({
            "$schema": DIALECT,
            "jobs": all(D::JOBS, D::job_schema),
            "events": all(D::EVENTS, D::event_schema),
            "reply": reply(),
        }),
    };
    line(if arguments.json { format!("{schema}") } else { format!("{schema:#}") })?;
    Ok(Exit::OK)
}

fn all(names: &[&str], schema: fn(&str) -> Option<schemars::Schema>) -> Map<String, Value> {
    let named = |name: &&str| Some(((*name).to_owned(), schema(name)?.to_value()));
    names.iter().filter_map(named).collect()
}

/// What a reply stream is told: [`Reply`](crate::stream::Reply).
fn reply() -> Value {
    let position = json!({ "type": "string", "pattern": "^[0-9]*$" });
    json!({
        "$schema": DIALECT,
        "title": "Reply",
        "type": "object",
        "properties": {
            "id": { "type": "string", "format": "uuid", "description": "the job's id as a UUID" },
            "outcome": { "enum": ["applied", "rejected", "expired", "dead"] },
            "reason": { "type": "string", "description": "why, or empty" },
            "first": position,
            "last": position,
            "traceparent": { "type": "string", "description": "the one of the entry that is answered, if it had one" },
        },
        "required": ["id", "outcome", "reason", "first", "last"],
    })
}
