//! What the demo ends with: a verdict on every promise, and what was measured.

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

use super::Left;
use super::tally::{Measures, Tally};
use lockkeeper::audit::Line;

/// Characters in a line of the table; longer details are wrapped.
const TABLE_WIDTH: u16 = 118;

/// Every line of the verdict.
#[derive(Debug)]
pub struct Verdict {
    lines: Vec<Line>,
    measures: Measures,
    /// How the producers were held back.
    window: String,
}

impl Verdict {
    /// The verdict made of these lines and measures.
    pub fn new(lines: Vec<Line>, measures: Measures, producers: usize, window: usize) -> Self {
        let window = format!("{producers} producers, at most {window} unanswered jobs each");
        Self { lines, measures, window }
    }

    /// Whether every line passes.
    pub fn passed(&self) -> bool {
        self.lines.iter().all(|line| line.passed)
    }

    fn jobs_per_second(&self) -> f64 {
        let seconds = self.measures.elapsed.as_secs_f64();
        if seconds > 0.0 { self.measures.jobs as f64 / seconds } else { 0.0 }
    }

    /// The verdict as a table.
    pub fn table(&self) -> String {
        let Measures { jobs, elapsed, p50, p99 } = self.measures;
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["", "verdict", "detail"]);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(TABLE_WIDTH);
        for line in &self.lines {
            table.add_row([line.name, if line.passed { "pass" } else { "FAIL" }, &line.detail]);
        }
        let rate = format!("{jobs} jobs in {:.2} s; {}", elapsed.as_secs_f64(), self.window);
        table.add_row(["jobs/s", &format!("{:.0}", self.jobs_per_second()), &rate]);
        let about = "from XADD to the reply, which comes after the commit";
        table.add_row(["p50", &format!("{:.1} ms", p50.as_secs_f64() * 1e3), about]);
        table.add_row(["p99", &format!("{:.1} ms", p99.as_secs_f64() * 1e3), about]);
        table.to_string()
    }

    /// The verdict as a line of JSON.
    pub fn json(&self) -> String {
        let Measures { jobs, elapsed, p50, p99 } = self.measures;
        json!({
            "passed": self.passed(), "lines": self.lines, "jobs": jobs, "seconds": elapsed.as_secs_f64(),
            "jobs_per_second": self.jobs_per_second(), "p50_ms": p50.as_secs_f64() * 1e3,
            "p99_ms": p99.as_secs_f64() * 1e3, "load": self.window,
        })
        .to_string()
    }
}

/// Every job has answered, and always the same.
pub fn answers(tally: &Tally) -> Line {
    let (open, (resent, contradictions)) = (tally.open().len(), tally.repetitions());
    let ends = tally.ends();
    let total: usize = ends.values().sum();
    let told = ends.iter().map(|(end, count)| {
        let words = if end.reason.is_empty() { &end.outcome } else { &end.reason };
        format!("{count} {words}")
    });
    let detail = match (open, contradictions) {
        (0, 0) => format!("{total} jobs: {}; {resent} sent twice", told.collect::<Vec<_>>().join(", ")),
        _ => format!("{open} jobs without an answer, {contradictions} answers that contradict the first"),
    };
    Line { name: "every job has one answer", passed: open == 0 && contradictions == 0, detail }
}

/// Nothing is left behind in the broker.
pub fn streams(left: &Left) -> Line {
    let Left { entries, pending, dead_letters } = *left;
    Line {
        name: "streams empty",
        passed: [entries, pending, dead_letters] == [0; 3],
        detail: format!("{entries} entries, {pending} pending, {dead_letters} dead letters"),
    }
}

/// The daemons ended as they were asked to.
pub fn drained(result: Result<usize, Vec<String>>) -> Line {
    let passed = result.is_ok();
    let detail = match result {
        Ok(count) => format!("{count} ended with exit code 0 after SIGTERM"),
        Err(failures) => failures.join("; "),
    };
    Line { name: "daemons drain", passed, detail }
}
