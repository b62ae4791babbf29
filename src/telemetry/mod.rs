//! Logs: readable on a terminal, JSON elsewhere, to standard error. `docs/logs.md` lists the fields.

mod throttle;

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::LogFormat;
use throttle::Throttle;

/// The level text is not one that the log filter understands.
#[derive(Debug, thiserror::Error)]
#[error("log.level: {0}")]
pub struct BadLevel(#[from] tracing_subscriber::filter::ParseError);

/// The log of this process. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Logs {
    /// Writes lines of this level from now on.
    pub fn set_level(&self, level: &str) -> Result<(), BadLevel> {
        let filter = EnvFilter::try_new(level)?;
        // It fails only where another log was started first, and then there is nothing to change.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

/// Starts logging for the whole process; to be called once.
pub fn start(level: &str, format: LogFormat) -> Result<Logs, BadLevel> {
    let (filter, handle) = reload::Layer::new(EnvFilter::try_new(level)?);
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(Throttle::default());
    // A line that cannot be written is lost: complaining of it would need the very same output, and panic.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    // A second start, as in tests, keeps the first subscriber.
    let _ = if json {
        let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        subscriber.with(lines).try_init()
    } else {
        subscriber.with(lines.with_ansi(terminal)).try_init()
    };
    Ok(Logs { filter: handle })
}
