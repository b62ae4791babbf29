//! The verdicts.

use std::fmt;

/// Problems that a line tells in words; of the others it tells the number.
const TOLD: usize = 3;

/// One promise, and whether the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// The promise.
    pub name: &'static str,
    /// Whether it is kept.
    pub passed: bool,
    /// What was counted; or the first problems.
    pub detail: String,
}

/// Every promise with its verdict.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// In the order in which they are printed.
    pub lines: Vec<Line>,
}

impl Audit {
    /// Whether every promise is kept.
    pub fn passed(&self) -> bool {
        self.lines.iter().all(|line| line.passed)
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        for line in &self.lines {
            let verdict = if line.passed { "pass" } else { "FAIL" };
            writeln!(f, "{verdict}  {:<width$}  {}", line.name, line.detail)?;
        }
        Ok(())
    }
}

/// What a check found wrong.
#[derive(Debug, Default)]
pub struct Problems {
    count: u64,
    told: Vec<String>,
}

impl Problems {
    /// One more; the first few are told in words.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(text());
        }
    }

    /// The line of this check; `summary` is its detail when nothing is wrong.
    pub fn line(self, name: &'static str, summary: String) -> Line {
        let detail = match self.count {
            0 => summary,
            count if count as usize > self.told.len() => format!("{count} problems, first: {}", self.told.join("; ")),
            _ => self.told.join("; "),
        };
        Line { name, passed: self.count == 0, detail }
    }
}
