//! What a scenario ends with.

use serde::Serialize;
use serde_json::Value;

use super::Ratio;
use super::about::About;

/// Everything that a scenario found out.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub about: About,
    /// What was run, for whoever wants to repeat it.
    pub settings: Value,
    /// Every figure of every round.
    pub rows: Value,
    pub ratios: Vec<Ratio>,
    /// The rows for people.
    #[serde(skip)]
    pub table: String,
}

impl Report {
    /// Whether every ratio reaches its bar.
    pub fn passed(&self) -> bool {
        self.ratios.iter().all(|ratio| ratio.passed)
    }

    /// Both as one, under the name of this one; figures and settings of the other one are found under its own name.
    pub fn and(mut self, other: Report) -> Report {
        self.about.versions.extend(other.about.versions);
        self.settings[other.scenario] = other.settings;
        self.rows[other.scenario] = other.rows;
        self.ratios.extend(other.ratios);
        self.table = format!("{}\n\n{}\n{}", self.table, other.scenario, other.table);
        self
    }

    /// For people: the table, and a line per ratio at the end.
    pub fn text(&self) -> String {
        let width = self.ratios.iter().map(|ratio| ratio.name.len()).max().unwrap_or_default();
        let ratios = self.ratios.iter().map(|Ratio { name, value, bar, passed }| {
            let verdict = if *passed { "pass" } else { "miss" };
            format!("ratio  {name:width$}  {:>9.2}  bar {bar:>6.2}  {verdict}", value.median)
        });
        let ratios: Vec<String> = ratios.collect();
        format!("{}\n{}\n{}\n\n{}", self.about, self.settings(), self.table, ratios.join("\n"))
    }

    fn settings(&self) -> String {
        let settings = self.settings.as_object().into_iter().flatten();
        settings.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }

    /// For scripts: one line of JSON.
    pub fn json(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        value["passed"] = self.passed().into();
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_ratios_and_one_miss_is_a_miss() {
        let ratios = vec![Ratio::of("a/b", [(3.0, 2.0)], 1.0), Ratio::of("longer/b", [(1.0, 2.0)], 1.0)];
        let about = About::here([("peer".to_owned(), "1.0".to_owned())]);
        let settings = serde_json::json!({"rounds": 1});
        let report = Report { scenario: "x", about, settings, rows: Value::Null, ratios, table: "TABLE".into() };
        assert!(!report.passed());
        let text = report.text();
        let ends = ["ratio  a/b            1.50  bar   1.00  pass", "ratio  longer/b       0.50  bar   1.00  miss"];
        assert!(text.ends_with(&ends.join("\n")), "{text}");
        assert!(text.contains("peer 1.0") && text.contains("rounds 1") && text.contains("TABLE"), "{text}");
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json["passed"], false);
        assert_eq!(json["ratios"][0]["value"]["median"], 1.5);
        assert_eq!(json["about"]["versions"]["peer"], "1.0");
    }

    #[test]
    fn two_reports_become_one_with_the_bars_of_both() {
        let report = |scenario, figure: u32| Report {
            scenario,
            about: About::here([(scenario.to_owned(), "1.0".to_owned())]),
            settings: serde_json::json!({ "rounds": figure }),
            rows: serde_json::json!({ "cases": figure }),
            ratios: vec![Ratio::of(scenario, [(f64::from(figure), 1.0)], 2.0)],
            table: scenario.to_owned(),
        };
        let both = report("all", 3).and(report("locks", 1));
        assert!(!both.passed() && both.text().contains("all\n\nlocks\nlocks"));
        let json: Value = serde_json::from_str(&both.json()).unwrap();
        assert_eq!((&json["rows"]["cases"], &json["rows"]["locks"]["cases"]), (&3.into(), &1.into()));
        assert_eq!((&json["settings"]["rounds"], &json["settings"]["locks"]["rounds"]), (&3.into(), &1.into()));
        assert_eq!(json["about"]["versions"]["locks"], "1.0");
    }
}
