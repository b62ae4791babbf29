//! The dashboard and the alerts as tests see them: panels, expressions, and the metrics that those name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// A file of this repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The text of a file of this repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The classic model, with no other keys than these.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
pub struct Dashboard {
    pub id: Option<u64>,
    pub uid: String,
    pub title: String,
    pub description: String,
    pub tags: Vec<String>,
    pub schema_version: u32,
    pub version: u32,
    pub editable: bool,
    pub graph_tooltip: u8,
    pub live_now: bool,
    pub refresh: String,
    pub time: Value,
    pub timepicker: Value,
    pub timezone: String,
    pub week_start: String,
    pub fiscal_year_start_month: u8,
    pub links: Vec<Value>,
    pub templating: List<Variable>,
    pub annotations: List<Annotation>,
    pub panels: Vec<Panel>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List<T> {
    pub list: Vec<T>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    pub name: String,
    pub label: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub datasource: Value,
    #[serde(default)]
    pub definition: String,
    pub refresh: u8,
    pub multi: bool,
    #[serde(default)]
    pub all_value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation {
    pub name: String,
    pub datasource: Value,
    pub enable: bool,
    pub expr: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
pub struct Panel {
    pub id: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub datasource: Value,
    #[serde(default)]
    pub field_config: Value,
    pub grid_pos: Place,
    #[serde(default)]
    pub options: Value,
    #[serde(default)]
    pub targets: Vec<Target>,
    #[serde(default)]
    pub collapsed: bool,
    #[serde(default)]
    pub panels: Vec<Value>,
}

impl Panel {
    pub fn unit(&self) -> &str {
        self.field_config["defaults"]["unit"].as_str().unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub x: u32,
    pub y: u32,
    pub w: u32,
    pub h: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[allow(dead_code)]
pub struct Target {
    pub datasource: Value,
    pub editor_mode: String,
    pub expr: String,
    pub format: String,
    pub instant: bool,
    pub legend_format: String,
    pub range: bool,
    pub ref_id: String,
}

impl Target {
    /// The labels that the legend shows, which are those that the answer must have.
    pub fn labels(&self) -> BTreeSet<String> {
        let parts = self.legend_format.split("{{").skip(1);
        parts.filter_map(|part| part.split_once("}}")).map(|(label, _)| label.trim().to_owned()).collect()
    }
}

impl Dashboard {
    pub fn load() -> Self {
        serde_json::from_str(&text("grafana/dashboards/overview.json")).expect("the dashboard has the classic model")
    }

    /// All panels that show something.
    pub fn shown(&self) -> impl Iterator<Item = &Panel> {
        self.panels.iter().filter(|panel| panel.kind != "row")
    }

    /// All targets, each with its panel.
    pub fn targets(&self) -> impl Iterator<Item = (&Panel, &Target)> {
        self.shown().flat_map(|panel| panel.targets.iter().map(move |target| (panel, target)))
    }
}

/// A use of a metric in an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Use<'a> {
    /// What stands before the name.
    pub before: &'a str,
    /// The metric's name, with the suffix of a histogram's series.
    pub name: &'a str,
    /// What stands in braces after it.
    pub matchers: &'a str,
}

/// Every metric of ours or of the process that an expression names.
pub fn uses(expr: &str) -> Vec<Use<'_>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = expr[at..].find(is_word).map(|offset| at + offset) {
        let end = expr[start..].find(|c| !is_word(c)).map_or(expr.len(), |offset| start + offset);
        let (before, name, after) = (&expr[..start], &expr[start..end], &expr[end..]);
        let matchers = after.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        if name.starts_with("lockkeeper_") || name.starts_with("process_") {
            found.push(Use { before, name, matchers });
        }
        at = end + if matchers.is_empty() { 0 } else { matchers.len() + 2 };
    }
    found
}

/// The name of the family that a series belongs to.
pub fn family(series: &str) -> &str {
    let histogram = |suffix| series.strip_suffix(suffix);
    // No family's own name ends like this; a test says so.
    histogram("_bucket").or_else(|| histogram("_sum")).or_else(|| histogram("_count")).unwrap_or(series)
}

/// The expressions of the alerts, as they are in the file: one line after `expr:`, or a block.
pub fn alert_expressions() -> Vec<(String, String)> {
    let text = text("grafana/alerts/lockkeeper.yml");
    let (mut alerts, mut lines) = (Vec::new(), text.lines().peekable());
    let mut name = String::new();
    while let Some(line) = lines.next() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            name = alert.to_owned();
        } else if line.trim() == "expr: |-" {
            let depth = line.len() - line.trim_start().len();
            let mut expr = String::new();
            while let Some(part) = lines.next_if(|next| next.len() - next.trim_start().len() > depth) {
                expr = format!("{expr} {}", part.trim());
            }
            alerts.push((name.clone(), expr.trim().to_owned()));
        } else if let Some(expr) = line.trim().strip_prefix("expr: ") {
            alerts.push((name.clone(), expr.to_owned()));
        }
    }
    alerts
}
