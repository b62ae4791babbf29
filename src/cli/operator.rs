//! What the operator's commands share: the choice of streams, times, and safe output.

use std::time::Duration;

use clap::Args;
use comfy_table::{Table, presets};

use super::arguments::Json;
use super::failed::Failed;
use super::output::line;
use crate::config::Config;
use crate::exit::Exit;

/// The choice of streams.
#[derive(Debug, Args)]
pub struct Streams {
    /// Only this one of the configured streams; all of them when it is missing
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
}

impl Streams {
    /// The chosen ones of the configured streams.
    pub fn of<'a>(&self, config: &'a Config) -> Result<&'a [String], Failed> {
        let names = &config.stream.names;
        let Some(wanted) = &self.stream else { return Ok(names) };
        match names.iter().position(|name| name == wanted) {
            Some(place) => Ok(&names[place..=place]),
            None => {
                let text = format!("--stream {wanted}: stream.names has only {}", names.join(", "));
                Err(Failed::new(Exit::USAGE, text))
            }
        }
    }
}

/// Whole milliseconds, for the broker.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Text from a producer, with at most `longest` characters and with everything escaped that could move the cursor, change
/// the direction of writing, or forge a line.
pub fn safe(untrusted: &[u8], longest: usize) -> String {
    let text = String::from_utf8_lossy(untrusted);
    let mut safe = String::new();
    for (place, character) in text.chars().enumerate() {
        if place == longest {
            safe.push('…');
            break;
        }
        match character {
            '"' | '\'' => safe.push(character),
            _ => safe.extend(character.escape_debug()),
        }
    }
    safe
}

/// How long ago something was, in one unit.
pub fn age(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A moment as UTC, or as the bare number when no calendar goes so far.
pub fn moment(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    time.map_or(ms.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Rows per table: more are printed as several tables, so that a long list takes no memory to speak of.
const ROWS: usize = 500;

/// A list that is printed as it grows, as a table or as objects, until it is as long as it may be.
pub struct Listing {
    header: &'static [&'static str],
    table: Table,
    rows: usize,
    left: u64,
    json: bool,
}

impl Listing {
    /// An empty list.
    pub fn new(header: &'static [&'static str], limit: Option<u64>, json: Json) -> Self {
        Self { header, table: Self::table(header), rows: 0, left: limit.unwrap_or(u64::MAX), json: json.json }
    }

    fn table(header: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
        table
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Adds an item, unless the list is full.
    pub fn add<const N: usize>(
        &mut self,
        row: impl FnOnce() -> [String; N],
        object: impl FnOnce() -> serde_json::Value,
    ) -> Result<(), Failed> {
        if self.is_full() {
            return Ok(());
        }
        self.left -= 1;
        if self.json {
            return Ok(line(object())?);
        }
        self.table.add_row(row());
        self.rows += 1;
        if self.rows == ROWS { self.print() } else { Ok(()) }
    }

    /// Prints what has not been printed.
    pub fn print(&mut self) -> Result<(), Failed> {
        if self.rows > 0 {
            line(&self.table)?;
            (self.table, self.rows) = (Self::table(self.header), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_speak_to_the_terminal() {
        assert_eq!(safe(b"it's `a\\b` \"c\"", 99), "it's `a\\\\b` \"c\"");
        assert_eq!(safe("a\u{1b}[2J\n\u{202e}b\u{9b}é".as_bytes(), 99), "a\\u{1b}[2J\\n\\u{202e}b\\u{9b}é");
        assert_eq!(safe(b"\xffabc", 3), "\u{fffd}ab…");
    }

    #[test]
    fn times_are_short_and_never_fail() {
        assert_eq!([59, 60, 7_200, 200_000].map(|seconds| age(seconds * 1000, 0)), ["59s", "1m", "2h", "2d"]);
        assert_eq!((age(0, 5), moment(0)), ("0s".into(), "1970-01-01T00:00:00.000Z".into()));
        assert_eq!(moment(u64::MAX), u64::MAX.to_string());
    }
}
