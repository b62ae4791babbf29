//! `enqueue`: one job from arguments, or many as NDJSON; prints their ids, and with `--wait` their outcomes.

use std::collections::HashMap;
use std::io::{BufRead, stdin};
use std::time::{Duration, Instant};

use clap::Args;
use redis::Value;
use redis::aio::MultiplexedConnection;
use serde_json::value::RawValue;

use super::failed::Failed;
use super::output::{notice, told};
use crate::config::Config;
use crate::connect;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::job::{self, Entry, EntryId, JobId};

/// Arguments of `enqueue`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lockkeeper enqueue item.restock pen --data '{\"quantity\": 5}' --wait
  lockkeeper enqueue - < jobs.ndjson

A line of NDJSON is an object with the fields of a stream entry; `data` may be an object:
  {\"type\": \"item.restock\", \"key\": \"pen\", \"data\": {\"quantity\": 5}, \"id\": \"delivery-4711\"}")]
pub struct Enqueue {
    /// The job's type, such as item.restock; `-` reads NDJSON from standard input
    #[arg(value_name = "TYPE")]
    job_type: String,
    /// The id of the aggregate that the job is about
    key: Option<String>,
    /// The job's data, a JSON object
    #[arg(long, default_value = "{}", value_name = "JSON")]
    data: String,
    /// The job's id, best a UUID; made when it is missing
    #[arg(long)]
    id: Option<String>,
    /// The version that the aggregate must have
    #[arg(long)]
    expect: Option<u64>,
    /// Not before this Unix time in milliseconds
    #[arg(long, value_name = "MS")]
    at: Option<u64>,
    /// Not after this Unix time in milliseconds
    #[arg(long, value_name = "MS")]
    exp: Option<u64>,
    /// The stream to push to; the first of stream.names when it is missing
    #[arg(long)]
    stream: Option<String>,
    /// Wait for the outcomes, so many seconds at most, and print them
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "30")]
    wait: Option<u64>,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// One job as it is given, with everything optional that the entry may lack.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Given<'a> {
    r#type: String,
    key: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    id: Option<String>,
    v: Option<u64>,
    expect: Option<u64>,
    at: Option<u64>,
    exp: Option<u64>,
    corr: Option<String>,
    cause: Option<String>,
    src: Option<String>,
    traceparent: Option<String>,
    reply: Option<String>,
}

/// Jobs per round of XADD, and of waiting.
const ROUND: usize = 500;

/// Pushes the jobs. Exit 1 when one is malformed, or has no outcome in time; the others are pushed all the same.
pub async fn enqueue<D: Domain>(config: &Config, jobs: Enqueue) -> Result<u8, Failed> {
    let mut producer = Producer::connect(config, &jobs).await?;
    let mut failed = 0;
    if jobs.job_type == "-" {
        let mut round = Vec::new();
        for (number, line) in stdin().lock().lines().enumerate() {
            let line = line.map_err(|error| Failed::new(Exit::UNAVAILABLE, format!("standard input: {error}")))?;
            if line.trim().is_empty() {
                continue;
            }
            match producer.entry::<D>(&line) {
                Ok(entry) => round.push(entry),
                Err(why) => {
                    notice(format_args!("lockkeeper: line {}: {why}", number + 1));
                    failed += 1;
                }
            }
            if round.len() == ROUND {
                failed += producer.push(std::mem::take(&mut round)).await?;
            }
        }
        failed += producer.push(round).await?;
    } else {
        let entry = producer.entry::<D>(&one(&jobs)?).map_err(|why| Failed::new(Exit::NO, why))?;
        failed += producer.push(vec![entry]).await?;
    }
    Ok(if failed == 0 { Exit::OK } else { Exit::NO })
}

/// The arguments as a line of NDJSON, so that there is one way in.
fn one(jobs: &Enqueue) -> Result<String, Failed> {
    let data = RawValue::from_string(jobs.data.clone())
        .map_err(|error| Failed::new(Exit::USAGE, format!("--data is not JSON: {error}")))?;
    let mut line = serde_json::Map::new();
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        line.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("type", Some(jobs.job_type.clone().into()));
    let key = jobs.key.clone().ok_or_else(|| Failed::new(Exit::USAGE, "KEY is missing: the id of the aggregate"))?;
    put("key", Some(key.into()));
    put("id", jobs.id.clone().map(Into::into));
    put("expect", jobs.expect.map(Into::into));
    put("at", jobs.at.map(Into::into));
    put("exp", jobs.exp.map(Into::into));
    let mut text = serde_json::Value::Object(line).to_string();
    // The data goes in as it was written: its numbers must not pass through another representation.
    text.truncate(text.len() - 1);
    Ok(format!("{text},\"data\":{data}}}"))
}

type Fields = Vec<(String, String)>;

/// Pushes entries, and waits for their outcomes on a reply stream of its own.
struct Producer {
    connection: MultiplexedConnection,
    stream: String,
    reply: Option<String>,
    limit: Duration,
    json: bool,
    max_data_bytes: usize,
}

impl Producer {
    async fn connect(config: &Config, jobs: &Enqueue) -> Result<Self, Failed> {
        let client = connect::broker(&config.stream.url, &config.tls).map_err(crate::daemon::StartError::from)?;
        // A blocking read on the reply stream takes up to a second.
        let options = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(10)))
            .set_connection_timeout(Some(Duration::from_secs(3)));
        let connection = client
            .get_multiplexed_async_connection_with_config(&options)
            .await
            .map_err(|error| crate::daemon::StartError::from(crate::stream::BrokerError::from(error)))?;
        let first = config.stream.names.first().cloned().unwrap_or_default();
        Ok(Self {
            connection,
            stream: jobs.stream.clone().unwrap_or(first),
            reply: jobs.wait.map(|_| format!("reply:enqueue:{}", uuid::Uuid::now_v7())),
            limit: Duration::from_secs(jobs.wait.unwrap_or(0)),
            json: jobs.json,
            max_data_bytes: config.stream.max_data_bytes as usize,
        })
    }

    /// The entry of one line. It is decoded as the daemon will, so that a mistake is told here rather than in the dead
    /// letters.
    fn entry<D: Domain>(&self, line: &str) -> Result<Fields, String> {
        let given: Given<'_> = serde_json::from_str(line).map_err(|error| format!("not a job: {error}"))?;
        let mut fields: Fields = vec![
            ("type".into(), given.r#type),
            ("key".into(), given.key),
            ("id".into(), given.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string())),
            ("data".into(), given.data.map_or("{}", RawValue::get).to_owned()),
        ];
        let number = |name: &str, value: Option<u64>| value.map(|value| (name.to_owned(), value.to_string()));
        let text = |name: &str, value: Option<String>| value.map(|value| (name.to_owned(), value));
        fields.extend(number("v", given.v));
        fields.extend(number("expect", given.expect));
        fields.extend(number("at", given.at));
        fields.extend(number("exp", given.exp));
        fields.extend(text("corr", given.corr));
        fields.extend(text("cause", given.cause));
        fields.extend(text("src", given.src));
        fields.extend(text("traceparent", given.traceparent));
        fields.extend(text("reply", self.reply.clone().or(given.reply)));
        let bytes =
            fields.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect();
        let entry = Entry::new(self.stream.as_str().into(), EntryId::default(), bytes);
        job::decode::<D>(&entry, self.max_data_bytes).work.map_err(|dead| dead.reason())?;
        Ok(fields)
    }

    /// Pushes one round and prints ids or outcomes; returns how many outcomes did not come in time.
    async fn push(&mut self, round: Vec<Fields>) -> Result<usize, Failed> {
        if round.is_empty() {
            return Ok(0);
        }
        let mut pipeline = redis::pipe();
        for fields in &round {
            pipeline.cmd("XADD").arg(&self.stream).arg("*").arg(fields).ignore();
        }
        pipeline.query_async::<()>(&mut self.connection).await.map_err(crate::stream::BrokerError::from)?;
        let ids: Vec<&str> =
            round.iter().filter_map(|fields| Some(fields.iter().find(|(name, _)| name == "id")?.1.as_str())).collect();
        let Some(reply) = self.reply.clone() else {
            for id in ids {
                if self.json { told(serde_json::json!({ "id": id }))? } else { told(id)? }
            }
            return Ok(0);
        };
        let outcomes = self.outcomes(&reply, &ids).await?;
        let mut missing = 0;
        for id in ids {
            match outcomes.get(&JobId::from_text(id).to_string()) {
                Some(outcome) => told(self.outcome_text(id, outcome))?,
                None => {
                    let limit = self.limit.as_secs();
                    notice(format_args!("lockkeeper: {id}: no outcome within {limit} s; is a daemon running?"));
                    missing += 1;
                }
            }
        }
        Ok(missing)
    }

    /// Reads the reply stream until every job has answered or the time is up, then deletes it.
    async fn outcomes(
        &mut self,
        reply: &str,
        ids: &[&str],
    ) -> Result<HashMap<String, HashMap<String, String>>, Failed> {
        let deadline = Instant::now() + self.limit;
        let (mut outcomes, mut last) = (HashMap::new(), "0-0".to_owned());
        while outcomes.len() < ids.len() && Instant::now() < deadline {
            let mut command = redis::cmd("XREAD");
            command.arg("BLOCK").arg(500).arg("STREAMS").arg(reply).arg(&last);
            let read: Value =
                command.query_async(&mut self.connection).await.map_err(crate::stream::BrokerError::from)?;
            for entry in crate::stream::entries_of(read) {
                last = entry.id.to_string();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let fields: HashMap<_, _> =
                    entry.fields.iter().map(|(name, value)| (text(name), text(value))).collect();
                outcomes.insert(fields.get("id").cloned().unwrap_or_default(), fields);
            }
        }
        let delete = redis::cmd("DEL").arg(reply).query_async::<()>(&mut self.connection).await;
        delete.map_err(crate::stream::BrokerError::from)?;
        Ok(outcomes)
    }

    fn outcome_text(&self, id: &str, outcome: &HashMap<String, String>) -> String {
        let field = |name: &str| outcome.get(name).map(String::as_str).unwrap_or_default();
        if self.json {
            let number = |name: &str| field(name).parse::<u64>().ok();
            let reason = Some(field("reason")).filter(|reason| !reason.is_empty());
            let object = serde_json::json!({ "id": id, "outcome": field("outcome"), "reason": reason,
                "first": number("first"), "last": number("last") });
            return object.to_string();
        }
        let mut line = format!("{id} {}", field("outcome"));
        if !field("reason").is_empty() {
            line = format!("{line} ({})", field("reason"));
        }
        if !field("first").is_empty() {
            line = format!("{line} events {}..{}", field("first"), field("last"));
        }
        line
    }
}
