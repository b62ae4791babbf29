//! Which letters are meant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;

use crate::cli::failed::Failed;
use crate::cli::operator::{millis, safe};
use crate::cli::output::notice;
use crate::exit::Exit;
use crate::job::{EntryId, JobId};
use crate::stream::{Broker, Letter, Selection};

/// Which letters are meant.
#[derive(Debug, Args)]
pub(super) struct Filters {
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// Only letters whose reason begins like this, such as too_large
    #[arg(long, value_name = "PREFIX")]
    reason: Option<String>,
    /// Only letters older than this, such as 90s, 15m, 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only letters younger than this
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
}

impl Filters {
    pub fn any(&self) -> bool {
        let text = self.job_type.is_some() || self.reason.is_some();
        text || self.older_than.is_some() || self.newer_than.is_some()
    }

    pub fn selection(&self, now_ms: u64) -> Selection {
        let ago = |duration: Duration| now_ms.saturating_sub(millis(duration));
        Selection {
            job_type: self.job_type.clone(),
            reason: self.reason.clone(),
            since_ms: self.newer_than.map(ago),
            until_ms: self.older_than.map(ago),
        }
    }
}

pub(super) fn summary(letter: &Letter) -> serde_json::Value {
    let text = |name: &str| letter.field(name).map(String::from_utf8_lossy);
    serde_json::json!({
        "stream": &*letter.stream, "letter": letter.id.to_string(), "job": letter.job().to_string(),
        "type": text("type"), "key": text("key"), "reason": text("reason"), "deliveries": letter.number("deliveries"),
        "time": letter.number("time"),
    })
}

/// Letters by stream.
type Found = BTreeMap<String, Vec<Letter>>;

/// The letters that `wanted` names by their own id or by their job's, and what names none.
pub(super) async fn find(
    broker: &Broker,
    streams: &[String],
    wanted: &[String],
) -> Result<(Found, Vec<String>), Failed> {
    // A letter's id says where it is. Still, a job may have an id of that form.
    let ids: Option<Vec<EntryId>> = wanted.iter().map(|name| name.parse().ok()).collect();
    if let Some(times) = ids.map(|ids| ids.into_iter().map(|id| id.ms)) {
        let (since_ms, until_ms) = (times.clone().min(), times.max());
        let there = search(broker, streams, wanted, Selection { since_ms, until_ms, ..Selection::default() }).await?;
        if there.1.is_empty() {
            return Ok(there);
        }
    }
    search(broker, streams, wanted, Selection::default()).await
}

async fn search(
    broker: &Broker,
    streams: &[String],
    wanted: &[String],
    among: Selection,
) -> Result<(Found, Vec<String>), Failed> {
    let mut found = Found::new();
    let mut missing: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
    let letters: BTreeMap<&str, &str> = wanted.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let jobs: BTreeMap<JobId, &str> = wanted.iter().map(|name| (JobId::from_text(name), name.as_str())).collect();
    for stream in streams {
        let mut pages = broker.letters(stream, among.clone()).await?;
        while let Some(page) = pages.next().await? {
            for letter in page {
                let name = letters.get(letter.id.to_string().as_str()).or_else(|| jobs.get(&letter.job()));
                if let Some(name) = name {
                    missing.remove(name);
                    found.entry(stream.clone()).or_default().push(letter);
                }
            }
        }
    }
    Ok((found, missing.into_iter().map(str::to_owned).collect()))
}

pub(super) fn complain(missing: &[String]) -> u8 {
    for name in missing {
        let name = safe(name.as_bytes(), 200);
        notice(format_args!("lockkeeper: {name}: no dead letter has this id, nor is it of a job with it"));
    }
    if missing.is_empty() { Exit::OK } else { Exit::NO }
}
