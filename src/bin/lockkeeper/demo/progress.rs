//! How far the demo is: a bar on a terminal, a line a second elsewhere.

use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use lockkeeper::cli::output::notice;

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Shows progress on standard error. Dropping it removes the bar.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    total: usize,
    last_line: Instant,
}

impl Progress {
    /// Nothing of `total` is done yet.
    pub fn new(total: usize) -> Self {
        let is_terminal = stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(total as u64) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs  {rate}  {elapsed}") {
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0} jobs/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate));
        }
        Self { bar, is_terminal, total, last_line: Instant::now() }
    }

    /// So many are done.
    pub fn show(&mut self, done: usize) {
        self.bar.set_position(done as u64);
        if !self.is_terminal && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            notice(format_args!("{done}/{} jobs", self.total));
        }
    }

    /// Says something without disturbing the bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| notice(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
