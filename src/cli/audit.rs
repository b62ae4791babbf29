//! `audit`: every promise that the tables can show, checked on a database that may be in use.

use std::collections::{BTreeMap, HashSet};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::failed::Failed;
use super::output::{notice, told};
use crate::audit::{Promises, Serial};
use crate::config::Config;
use crate::daemon;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::job::{Entry, JobId};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// A file with the ids of jobs that must have a receipt, one on a line, as they were given to XADD
    #[arg(long, value_name = "FILE")]
    jobs: Option<PathBuf>,
    /// A file with all entries that the streams ever had: the log has to equal what they come to one by one in stream order. On
    /// each line `{"stream": "jobs", "entry": "1764115200000-0", "fields": {"type": …}}`, with the id that XADD answered
    #[arg(long, value_name = "FILE")]
    entries: Option<PathBuf>,
    /// Print JSON, one promise per line
    #[arg(long)]
    json: bool,
}

/// Time between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(2);

/// Audits the database as it is now, whoever writes to it meanwhile.
pub async fn audit<D: Domain>(config: &Config, promises: Box<dyn Promises<D>>, arguments: Audit) -> Result<u8, Failed> {
    let jobs = arguments.jobs.map(|file| read(&file)).transpose()?;
    let serial = arguments.entries.map(|file| entries(&file)).transpose()?;
    let serial = serial.map(|entries| Serial::new(&entries, config.stream.max_data_bytes as usize));
    let store = daemon::store(config).await?.at_one_moment().await?;
    let mut told_at = Instant::now();
    let is_watched = std::io::stderr().is_terminal();
    let seen = |events: u64, of: u64| {
        if is_watched && told_at.elapsed() >= PROGRESS {
            notice(format_args!("{events} of {of} events looked at"));
            told_at = Instant::now();
        }
    };
    let audit = crate::audit::audit(&store, promises, jobs.as_ref(), serial, seen).await?;
    store.is_still_of_that_moment().await?;
    if arguments.json {
        let lines = audit.lines.iter().map(serde_json::to_string);
        for line in lines {
            told(line.map_err(|error| Failed::new(Exit::BROKEN, error))?)?;
        }
    } else {
        told(audit.to_string().trim_end())?;
    }
    Ok(if audit.passed() { Exit::OK } else { Exit::NO })
}

fn read(file: &PathBuf) -> Result<HashSet<JobId>, Failed> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failed::new(Exit::USAGE, format!("--jobs: {} cannot be read: {error}", file.display())))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(JobId::from_text).collect())
}

/// A line of `--entries`.
#[derive(serde::Deserialize)]
struct Pushed {
    stream: Arc<str>,
    entry: String,
    fields: BTreeMap<String, String>,
}

fn entries(file: &PathBuf) -> Result<Vec<Entry>, Failed> {
    let wrong = |what: String| Failed::new(Exit::USAGE, format!("--entries: {}{what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(format!(" cannot be read: {error}")))?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let Pushed { stream, entry, fields } =
                serde_json::from_str(line).map_err(|error| wrong(format!(", line {number}: {error}")))?;
            let id = entry.parse().map_err(|error| wrong(format!(", line {number}: `entry` is {error}")))?;
            let fields = fields.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
            Ok(Entry::new(stream, id, fields))
        })
        .collect()
}
