//! `events`: the log, or one aggregate's history, once or for as long as it grows.

use std::time::Duration;

use clap::Args;

use super::aggregate;
use super::format::Format;
use super::moment::{self, Moment, first, first_since};
use crate::cli::failed::Failed;
use crate::cli::output::{lines, notice};
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::store::{RecordedEvent, Store};

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// The aggregate as TYPE/ID, such as item/pen; without one the whole log
    #[arg(value_name = "AGGREGATE/ID")]
    aggregate: Option<String>,
    /// Go on with what is written from now on, until it is interrupted
    #[arg(short, long)]
    follow: bool,
    /// Only events of this type; may be given several times
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Begin at this position of the log
    #[arg(long, value_name = "POSITION", conflicts_with = "since")]
    from: Option<u64>,
    /// Begin at this moment: 2026-01-31T12:00:00Z, or 15m for so long ago
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    since: Option<Moment>,
    /// End with this position of the log
    #[arg(long, value_name = "POSITION")]
    to: Option<u64>,
    /// Print so many at most
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How each is printed
    #[arg(long, value_enum, default_value_t = Format::Text, conflicts_with = "json")]
    format: Format,
    /// The same as --format ndjson
    #[arg(long)]
    json: bool,
}

/// Events per read.
const PAGE: u32 = 1000;

/// Positions that are looked at per read when only some types are wanted.
const WINDOW: u64 = 20_000;

/// Time between two looks at the end of what is followed.
const POLL: Duration = Duration::from_millis(250);

/// Prints events. Exit 1 when the aggregate has none, or one is missing.
pub async fn events(config: &Config, arguments: Events) -> Result<u8, Failed> {
    let named = arguments.aggregate.as_deref().map(aggregate).transpose()?;
    let store = daemon::store(config).await?;
    let format = if arguments.json { Format::Ndjson } else { arguments.format };
    let left = arguments.limit.unwrap_or(u64::MAX);
    let mut printer = Printer { format, left };
    let follow = arguments.follow;
    let printing = async {
        match named {
            Some(whose) => History::new(&store, whose, &arguments).await?.print(&mut printer).await,
            None => Log::new(&store, &arguments).await?.print(&mut printer).await,
        }
    };
    tokio::select! {
        ended = printing => ended,
        // Whoever follows ends it like this.
        _ = interrupted(), if follow => Ok(Exit::OK),
    }
}

async fn interrupted() {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).ok();
    let terminated = async {
        match &mut terminate {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

struct Printer {
    format: Format,
    left: u64,
}

impl Printer {
    /// Prints these; false when no more are wanted.
    fn print(&mut self, events: &[RecordedEvent]) -> Result<bool, Failed> {
        let wanted = events.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let texts = events[..wanted].iter().map(|event| self.format.line(event)).collect::<Result<Vec<_>, _>>()?;
        lines(texts)?;
        self.left -= wanted as u64;
        Ok(self.left > 0)
    }
}

/// The log between two positions.
struct Log<'a> {
    store: &'a Store,
    arguments: &'a Events,
    /// The position before the next one to look at.
    at: u64,
}

impl<'a> Log<'a> {
    async fn new(store: &'a Store, arguments: &'a Events) -> Result<Self, Failed> {
        let head = store.sequence().await?;
        let from = match (arguments.from, arguments.since) {
            (Some(from), _) => from.max(1),
            (None, Some(moment)) => {
                let moment = moment.text(store).await?;
                first_since(head, &moment, async |position| store.place_of_position(position).await).await?
            }
            (None, None) if arguments.follow => head + 1,
            (None, None) => 1,
        };
        Ok(Self { store, arguments, at: from - 1 })
    }

    async fn print(mut self, printer: &mut Printer) -> Result<u8, Failed> {
        let begun = self.at;
        let end = self.arguments.to.unwrap_or(u64::MAX);
        loop {
            let head = self.store.sequence().await?.min(end);
            while self.at < head {
                let page = self.page(head).await?;
                if !printer.print(&page)? {
                    return Ok(Exit::OK);
                }
            }
            if !self.arguments.follow || head == end {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        if !self.arguments.types.is_empty() && printer.format == Format::Text {
            notice(format_args!("lockkeeper: looked at positions {} to {}", begun + 1, self.at));
        }
        Ok(Exit::OK)
    }

    /// The next events up to `head`, perhaps none of the wanted types.
    async fn page(&mut self, head: u64) -> Result<Vec<RecordedEvent>, Failed> {
        let types = &self.arguments.types;
        let width = if types.is_empty() { u64::from(PAGE) } else { WINDOW };
        let (first, last) = (self.at + 1, head.min(self.at + width));
        let page = self.store.events_of_types((first, last), types, PAGE).await?;
        if types.is_empty() {
            dense(page.iter().map(|event| event.position), first, last, "the log")?;
        }
        let is_full = page.len() == PAGE as usize;
        self.at = if is_full { page.last().map_or(last, |event| event.position) } else { last };
        Ok(page)
    }
}

/// Numbers of events have no gap, whatever anybody says: one that is missing is a damaged log. `whose` says what they number.
fn dense(found: impl Iterator<Item = u64>, first: u64, last: u64, whose: &str) -> Result<(), Failed> {
    match (first..=last).zip(found.chain([0])).find(|(expected, found)| expected != found) {
        None => Ok(()),
        Some((expected, _)) => {
            let text = format!("{whose} has no event at {expected}, and goes on after it: see `lockkeeper audit`");
            Err(Failed::new(Exit::NO, text))
        }
    }
}

/// One aggregate's history.
struct History<'a> {
    store: &'a Store,
    arguments: &'a Events,
    whose: (&'a str, &'a str),
    /// The version before the next one to look at.
    at: u64,
}

impl<'a> History<'a> {
    async fn new(store: &'a Store, whose: (&'a str, &'a str), arguments: &'a Events) -> Result<Self, Failed> {
        let newest = store.newest_version(whose.0, whose.1).await?;
        if newest == 0 && !arguments.follow {
            return Err(Failed::new(Exit::NO, format!("{}/{} has no events", whose.0, whose.1)));
        }
        let look = async |version| store.place_of_version(whose, version).await;
        let from = match (arguments.from, arguments.since) {
            (Some(from), _) => first(newest, look, |place| place.position >= from).await?,
            (None, Some(moment)) => first_since(newest, &moment.text(store).await?, look).await?,
            (None, None) if arguments.follow => newest + 1,
            (None, None) => 1,
        };
        Ok(Self { store, arguments, whose, at: from - 1 })
    }

    async fn print(mut self, printer: &mut Printer) -> Result<u8, Failed> {
        let Events { to, types, follow, .. } = self.arguments;
        let end = to.unwrap_or(u64::MAX);
        loop {
            let mut page = self.store.history_between(self.whose, (self.at + 1, self.at + u64::from(PAGE))).await?;
            let count = page.len();
            let whose = format!("the history of {}/{}", self.whose.0, self.whose.1);
            dense(page.iter().map(|event| event.version), self.at + 1, self.at + count as u64, &whose)?;
            self.at += count as u64;
            let is_over = page.last().is_some_and(|event| event.position >= end);
            page.retain(|event| event.position <= end && (types.is_empty() || types.contains(&event.event_type)));
            if !printer.print(&page)? || is_over {
                return Ok(Exit::OK);
            }
            if count < PAGE as usize {
                if !follow {
                    return Ok(Exit::OK);
                }
                tokio::time::sleep(POLL).await;
            }
        }
    }
}
