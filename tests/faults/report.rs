//! The table of a run.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use comfy_table::{Table, presets};
use serde_json::json;

/// How a case ended.
pub enum Verdict {
    /// Every invariant held.
    Pass,
    /// Why it failed.
    Failed(String),
    /// There is nothing to break yet.
    Absent(&'static str),
    /// Why this machine cannot run it.
    NotRun(String),
}

/// One case of a run.
pub struct Row {
    pub number: u32,
    pub name: String,
    pub seed: u64,
    pub duration: Duration,
    /// From the end of the fault to the first job run after it, the longest one of several.
    pub recovery: Option<Duration>,
    /// Redeliveries that were recognised.
    pub duplicates: u64,
    pub verdict: Verdict,
}

impl Row {
    pub fn absent(number: u32, name: &str, why: &'static str) -> Self {
        let (name, verdict) = (name.to_owned(), Verdict::Absent(why));
        Self { number, name, seed: 0, duration: Duration::ZERO, recovery: None, duplicates: 0, verdict }
    }

    fn verdict(&self) -> (&'static str, &str) {
        match &self.verdict {
            Verdict::Pass => ("pass", ""),
            Verdict::Failed(why) => ("FAIL", why),
            Verdict::Absent(why) => ("not there yet", why),
            Verdict::NotRun(why) => ("not run", why),
        }
    }
}

/// All cases of a run, in their order.
#[derive(Default)]
pub struct Report(Vec<Row>);

impl Report {
    /// Adds a case and says so at once, since a run is long.
    pub fn add(&mut self, row: Row) {
        let (verdict, why) = row.verdict();
        let seconds = row.duration.as_secs_f64();
        println!("{:>3} {:<60} {seconds:>6.1} s  {verdict}  {why}", row.number, row.name);
        self.0.push(row);
    }

    pub fn failed(&self) -> bool {
        self.0.iter().any(|row| matches!(row.verdict, Verdict::Failed(_)))
    }

    /// Writes the table for people and for programs.
    pub fn write(&self, folder: &Path) {
        let rows = self.0.iter().map(|row| {
            let (verdict, why) = row.verdict();
            json!({
                "case": row.number, "name": row.name, "seed": row.seed, "duration_s": row.duration.as_secs_f64(),
                "recovery_s": row.recovery.map(|time| time.as_secs_f64()), "duplicates": row.duplicates,
                "verdict": verdict, "why": why,
            })
        });
        let rows: Vec<_> = rows.collect();
        std::fs::create_dir_all(folder).expect("a folder for the table");
        std::fs::write(folder.join("table.txt"), format!("{self}\n")).expect("the table is written");
        std::fs::write(folder.join("table.json"), format!("{:#}\n", json!(rows))).expect("the table is written");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let header = ["case", "fault", "seed", "duration", "recovery", "duplicates", "verdict"];
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
        for row in &self.0 {
            let (verdict, why) = row.verdict();
            let is_absent = matches!(row.verdict, Verdict::Absent(_) | Verdict::NotRun(_));
            let verdict = if is_absent { format!("{verdict}: {why}") } else { verdict.to_owned() };
            let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
            table.add_row([
                row.number.to_string(),
                row.name.clone(),
                row.seed.to_string(),
                seconds(row.duration),
                row.recovery.map_or_else(String::new, seconds),
                row.duplicates.to_string(),
                verdict,
            ]);
        }
        write!(f, "{table}")
    }
}
