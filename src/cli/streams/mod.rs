//! `streams`: who owns them, and whether their jobs are started.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::arguments::Json;
use super::failed::Failed;
use super::operator::{Listing, millis, moment, safe};
use super::output::told;
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::fleet::{Lease, Tenancy};
use crate::metrics::QueueSample;
use crate::stream::{Broker, Pause};

/// What to do with streams.
#[derive(Debug, Subcommand)]
pub enum StreamsCommand {
    /// List the configured streams: what is in them, who owns them, and what is paused
    List {
        #[command(flatten)]
        json: Json,
    },
    /// Start no more jobs of streams, for the whole fleet and over restarts; what is in flight finishes
    Pause {
        #[command(flatten)]
        which: Which,
        /// Why; everybody is told
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// In whose name, instead of this user's at this machine
        #[arg(long, value_name = "NAME")]
        actor: Option<String>,
        /// When the jobs are started again by themselves: in so long, such as 90s or 2h, or at a time such as
        /// 2027-01-31T06:00:00Z
        #[arg(long, value_name = "DURATION|TIME", value_parser = Until::parse)]
        until: Option<Until>,
        #[command(flatten)]
        json: Json,
    },
    /// Start jobs of streams again
    Resume {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        json: Json,
    },
}

/// Which streams are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Configured streams
    #[arg(value_name = "STREAM")]
    names: Vec<String>,
    /// All of the configured streams
    #[arg(long)]
    all: bool,
}

/// The end of a pause.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    After(Duration),
    At(u64),
}

impl Until {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::After(duration));
        }
        let time = chrono::DateTime::parse_from_rfc3339(text);
        let time = time.map_err(|_| "is neither a duration, such as 2h, nor a time, such as 2027-01-31T06:00:00Z")?;
        u64::try_from(time.timestamp_millis()).map(Self::At).map_err(|_| "is before 1970".to_owned())
    }
}

impl Which {
    fn of<'a>(&'a self, config: &'a Config) -> Result<&'a [String], Failed> {
        let known = &config.stream.names;
        match self.names.iter().find(|name| !known.contains(name)) {
            Some(unknown) => {
                let text = format!("{unknown}: stream.names has only {}", known.join(", "));
                Err(Failed::new(Exit::USAGE, text))
            }
            None if self.all => Ok(known),
            None => Ok(&self.names),
        }
    }
}

/// Runs one of the commands.
pub async fn run(config: &Config, command: StreamsCommand) -> Result<u8, Failed> {
    match command {
        StreamsCommand::List { json } => list(config, json).await,
        StreamsCommand::Pause { which, reason, actor, until, json } => {
            let pause = Pause { reason, actor: actor.unwrap_or_else(this_user), ..Pause::default() };
            paused(config, which.of(config)?, pause, until, json).await
        }
        StreamsCommand::Resume { which, json } => resume(config, which.of(config)?, json).await,
    }
}

async fn list(config: &Config, json: Json) -> Result<u8, Failed> {
    let streams = &config.stream.names;
    let broker = daemon::broker(config).await?;
    let (leases, pauses) = (broker.leases(streams).await?, broker.pauses(streams).await?);
    let mut listing = Listing::new(&["stream", "entries", "unread", "pending", "owner", "epoch", "paused"], None, json);
    for ((stream, lease), pause) in streams.iter().zip(&leases).zip(&pauses) {
        let sample = broker.sample(stream).await?;
        let row = || row(stream, &sample, lease, pause.as_ref());
        listing.add(row, || object(stream, &sample, lease, pause.as_ref()))?;
    }
    listing.print()?;
    Ok(Exit::OK)
}

fn row(stream: &str, sample: &QueueSample, lease: &Lease, pause: Option<&Pause>) -> [String; 7] {
    let count = |count: Option<u64>| count.map_or("–".to_owned(), |count| count.to_string());
    let owner = if lease.tenancy == Tenancy::Free { "nobody".to_owned() } else { safe(lease.host.as_bytes(), 60) };
    [
        stream.to_owned(),
        count(sample.length),
        count(sample.lag),
        count(sample.pending),
        owner,
        lease.epoch.to_string(),
        pause.map(words).unwrap_or_default(),
    ]
}

fn words(pause: &Pause) -> String {
    let until = pause.until.map(|until| format!(" until {}", moment(until))).unwrap_or_default();
    let [actor, reason] = [&pause.actor, &pause.reason].map(|text| safe(text.as_bytes(), 200));
    format!("by {actor} since {}{until}: {reason}", moment(pause.since))
}

fn object(stream: &str, sample: &QueueSample, lease: &Lease, pause: Option<&Pause>) -> serde_json::Value {
    let is_owned = lease.tenancy != Tenancy::Free;
    serde_json::json!({
        "stream": stream, "entries": sample.length, "unread": sample.lag, "pending": sample.pending,
        "owner": is_owned.then_some(&lease.host), "epoch": lease.epoch, "paused": pause.map(pause_object),
    })
}

fn pause_object(pause: &Pause) -> serde_json::Value {
    serde_json::json!({
        "reason": pause.reason, "actor": pause.actor, "since": pause.since, "until": pause.until,
    })
}

async fn paused(
    config: &Config,
    streams: &[String],
    mut pause: Pause,
    until: Option<Until>,
    json: Json,
) -> Result<u8, Failed> {
    for (name, text) in [("--reason", &pause.reason), ("--actor", &pause.actor)] {
        if text.trim().is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
            let text = format!("{name} must have 1 to {LONGEST} bytes of text without control characters");
            return Err(Failed::new(Exit::USAGE, text));
        }
    }
    let broker = daemon::broker(config).await?;
    pause.until = match until {
        None => None,
        Some(until) => Some(ahead(&broker, until).await?),
    };
    for stream in streams {
        broker.pause(stream, &pause).await?;
    }
    // What is told is what the daemons will read.
    for (stream, pause) in streams.iter().zip(broker.pauses(streams).await?) {
        let Some(pause) = pause else {
            return Err(Failed::new(Exit::UNAVAILABLE, format!("{stream}: somebody has resumed it meanwhile")));
        };
        if json.json {
            told(serde_json::json!({ "stream": stream, "paused": pause_object(&pause) }))?;
        } else {
            told(format_args!("{stream} is paused {}; nothing new is started within a second", words(&pause)))?;
        }
    }
    Ok(Exit::OK)
}

/// The longest text.
const LONGEST: usize = 500;

/// The end of a pause by the broker's clock.
async fn ahead(broker: &Broker, until: Until) -> Result<u64, Failed> {
    let now = broker.time_ms().await?;
    match until {
        Until::After(duration) => Ok(now.saturating_add(millis(duration))),
        Until::At(time) if time > now => Ok(time),
        Until::At(time) => {
            let text = format!("--until {} is past: the broker's clock says {}", moment(time), moment(now));
            Err(Failed::new(Exit::USAGE, text))
        }
    }
}

async fn resume(config: &Config, streams: &[String], json: Json) -> Result<u8, Failed> {
    let broker = daemon::broker(config).await?;
    let was_paused = broker.pauses(streams).await?;
    for (stream, pause) in streams.iter().zip(was_paused) {
        broker.resume(stream).await?;
        if json.json {
            told(
                serde_json::json!({ "stream": stream, "paused": null, "was_paused": pause.as_ref().map(pause_object) }),
            )?;
        } else if pause.is_some() {
            told(format_args!("{stream} is not paused any more; its jobs are started within a second"))?;
        } else {
            told(format_args!("{stream} was not paused"))?;
        }
    }
    Ok(Exit::OK)
}

/// Who runs this command, as people say it.
fn this_user() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| "somebody".to_owned());
    format!("{user}@{}", daemon::machine())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_pause_is_a_duration_or_a_time() {
        assert!(matches!(Until::parse("2h"), Ok(Until::After(time)) if time == Duration::from_secs(7200)));
        assert!(matches!(Until::parse("2001-09-09T01:46:40Z"), Ok(Until::At(1_000_000_000_000))));
        assert!(matches!(Until::parse("2001-09-09T03:46:40+02:00"), Ok(Until::At(1_000_000_000_000))));
        for wrong in ["", "soon", "2001-09-09", "-2h", "1960-01-01T00:00:00Z"] {
            assert!(Until::parse(wrong).is_err(), "{wrong}");
        }
    }
}
