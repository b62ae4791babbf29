//! `scheduled`: the jobs that are not due.

use std::collections::{BTreeMap, BTreeSet};

use clap::Subcommand;

use super::arguments::Json;
use super::failed::Failed;
use super::operator::{Listing, Streams, moment, safe};
use super::output::{notice, told};
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::job::JobId;
use crate::stream::{Broker, Place, Waiting};

/// What to do with the schedule.
#[derive(Debug, Subcommand)]
pub enum Scheduled {
    /// List jobs that are not due, in the order in which they will be
    List {
        /// Stop after so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        #[command(flatten)]
        streams: Streams,
        #[command(flatten)]
        json: Json,
    },
    /// Take jobs out of the schedule for good; they leave no receipt and answer nobody
    Cancel {
        /// The jobs' ids, as a list shows them or as they were given to XADD
        #[arg(value_name = "JOB_ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        streams: Streams,
        #[command(flatten)]
        json: Json,
    },
}

/// Runs one of the commands.
pub async fn run(config: &Config, command: Scheduled) -> Result<u8, Failed> {
    match command {
        Scheduled::List { limit, streams, json } => list(config, limit, &streams, json).await,
        Scheduled::Cancel { ids, streams, json } => cancel(config, &ids, &streams, json).await,
    }
}

async fn list(config: &Config, limit: Option<u64>, streams: &Streams, json: Json) -> Result<u8, Failed> {
    let streams = streams.of(config)?;
    let broker = daemon::broker(config).await?;
    let mut listing = Listing::new(&["due", "job", "type", "key"], limit, json);
    for stream in streams {
        let mut place = Place::default();
        while !listing.is_full() {
            let page = broker.scheduled(stream, &mut place).await?;
            if page.is_empty() {
                break;
            }
            page.iter().try_for_each(|job| listing.add(|| row(job), || object(job)))?;
        }
    }
    listing.print()?;
    Ok(Exit::OK)
}

fn row(job: &Waiting) -> [String; 4] {
    let field = |name: &str| safe(job.field(name).unwrap_or_default(), 60);
    [moment(job.due_ms), job.job().to_string(), field("type"), field("key")]
}

fn object(job: &Waiting) -> serde_json::Value {
    let text = |name: &str| job.field(name).map(String::from_utf8_lossy);
    serde_json::json!({
        "stream": &*job.stream, "due": job.due_ms, "job": job.job().to_string(), "type": text("type"),
        "key": text("key"),
    })
}

/// Cancels jobs. A job that falls due meanwhile runs; then it is not found, and the exit code is 1.
///
/// The jobs are looked for from here, since a script that searched a large schedule would stop the broker meanwhile; and
/// only this program can tell which id a producer's text stands for.
async fn cancel(config: &Config, ids: &[String], streams: &Streams, json: Json) -> Result<u8, Failed> {
    let streams = streams.of(config)?;
    let broker = daemon::broker(config).await?;
    let wanted: BTreeMap<JobId, &str> = ids.iter().map(|id| (JobId::from_text(id), id.as_str())).collect();
    let mut missing: BTreeSet<JobId> = wanted.keys().copied().collect();
    for stream in streams {
        for job in cancel_in(&broker, stream, &wanted).await? {
            missing.remove(&job.job());
            if json.json {
                told(object(&job))?;
            } else {
                let [due, id, job_type, key] = row(&job);
                told(format_args!("{id} is cancelled: {job_type} {key}, was due {due}"))?;
            }
        }
    }
    for job in &missing {
        let name = safe(wanted.get(job).unwrap_or(&"").as_bytes(), 200);
        notice(format_args!("lockkeeper: {name}: no such job is in the schedule; if it was, it has fallen due"));
    }
    Ok(if missing.is_empty() { Exit::OK } else { Exit::NO })
}

async fn cancel_in(broker: &Broker, stream: &str, wanted: &BTreeMap<JobId, &str>) -> Result<Vec<Waiting>, Failed> {
    let (mut cursor, mut cancelled) = (0, Vec::new());
    loop {
        let (next, page) = broker.scan_scheduled(stream, cursor, true).await?;
        for job in page {
            if wanted.contains_key(&job.job()) && broker.cancel(&job).await? {
                cancelled.push(job);
            }
        }
        if next == 0 {
            return Ok(cancelled);
        }
        cursor = next;
    }
}
