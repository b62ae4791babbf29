//! Every expression that an operator looks at, asked of a real Prometheus.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::prometheus::{Prometheus, Series};
use support::panels::{Dashboard, Target};

/// One expression, and the labels that its answer must have.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it stands.
    pub place: String,
    /// With its variables filled in.
    pub expr: String,
    pub labels: BTreeSet<String>,
}

impl Question {
    /// Whether it has an answer only while a daemon drains.
    pub fn is_of_a_drain(&self) -> bool {
        ["_started_", "_deadline_", "_in_flight_jobs"]
            .iter()
            .any(|part| self.expr.contains(&format!("lockkeeper_drain{part}")))
    }
}

/// The variables as Grafana fills them in when everything is chosen.
fn filled(expr: &str) -> String {
    expr.replace("$__rate_interval", "10s").replace("$__range", "60s").replace("$job", ".+").replace("$instance", ".+")
}

/// All panels' targets, and the annotations.
pub fn of_dashboard(dashboard: &Dashboard) -> Vec<Question> {
    let target = |(panel, target): (&support::panels::Panel, &Target)| Question {
        place: format!("panel {}: {}", panel.title, target.ref_id),
        expr: filled(&target.expr),
        labels: target.labels(),
    };
    let all = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    let marks = dashboard.annotations.list.iter().map(|mark| Question {
        place: format!("annotation {}", mark.name),
        expr: filled(&mark.expr),
        labels: all(&["job", "instance"]),
    });
    dashboard.targets().map(target).chain(marks).collect()
}

/// The alerts' left-hand sides: what is compared in the end.
pub fn of_alerts(alerts: &[(String, String)]) -> Vec<Question> {
    let question = |(name, expr): &(String, String)| {
        let (left, right) = expr.rsplit_once(['<', '>']).expect("an alert compares");
        assert!(right.trim().parse::<f64>().is_ok(), "{name} compares with a number: {expr}");
        let labels = match left.split_once("by (").and_then(|(_, rest)| rest.split_once(')')) {
            Some((labels, _)) => labels.split(',').map(str::trim).filter(|label| *label != "le").collect(),
            None if left.starts_with("up{") => vec!["job", "instance"],
            None => Vec::new(),
        };
        let labels = labels.into_iter().map(str::to_owned).collect();
        Question { place: format!("alert {name}"), expr: left.trim().to_owned(), labels }
    };
    alerts.iter().map(question).collect()
}

/// Asks all of them again and again until each has had a good answer. What it says of those that have none is the failure.
pub async fn all_answered(prometheus: &Prometheus, questions: &[Question], limit: Duration) {
    let deadline = Instant::now() + limit;
    let mut open: Vec<(&Question, String)> = questions.iter().map(|question| (question, String::new())).collect();
    while !open.is_empty() {
        let mut still = Vec::new();
        for (question, _) in open {
            if let Err(why) = is_answered(question, prometheus.query(&question.expr).await) {
                still.push((question, why));
            }
        }
        open = still;
        if Instant::now() > deadline {
            let told: Vec<String> = open
                .iter()
                .map(|(question, why)| format!("{}: {why}\n    {}", question.place, question.expr))
                .collect();
            assert!(told.is_empty(), "{} expressions have no good answer:\n{}", told.len(), told.join("\n"));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// A good answer is not empty, has these labels, and something finite. A quantile of no sample at all is NaN by nature, so
/// beside one that is finite it may stand; infinite is never right.
fn is_answered(question: &Question, answer: Result<Vec<Series>, String>) -> Result<(), String> {
    let answer = answer?;
    if answer.is_empty() {
        return Err("empty".to_owned());
    }
    for series in &answer {
        let labels: BTreeSet<String> = series.labels.keys().cloned().collect();
        if labels != question.labels {
            return Err(format!("labels {labels:?} and not {:?}", question.labels));
        }
        if series.value.is_infinite() {
            return Err(format!("{:?} is infinite", series.labels));
        }
    }
    if answer.iter().all(|series| series.value.is_nan()) { Err("NaN".to_owned()) } else { Ok(()) }
}
