//! Prometheus text in, samples out. Pure.
//!
//! A parser of our own: the crate for it, `prometheus-parse`, brings `regex`, `chrono` and `itertools` for a grammar of one
//! line.

use std::collections::BTreeMap;

/// One line of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// The samples of one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exposition(Vec<Sample>);

impl Exposition {
    /// Reads the text format. A line that is none of it is left out: what a newer daemon adds must not blind an older `top`.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.filter_map(sample).collect())
    }

    /// The sum over the series of a family that have all of `labels`. `None` when there is no such series, or when the value
    /// of one of them is unknown, which is NaN.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.series(name, labels).map(|sample| sample.value).peekable();
        values.peek()?;
        Some(values.sum::<f64>()).filter(|sum| !sum.is_nan())
    }

    /// The sums by the values of one label; those that are unknown are left out.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.series(name, &[]).filter(|sample| !sample.value.is_nan()) {
            if let Some((_, value)) = sample.labels.iter().find(|(name, _)| name == label) {
                *sums.entry(value.clone()).or_insert(0.0) += sample.value;
            }
        }
        sums
    }

    /// A label's value in a family whose series is 1, as of `build_info` or of the state that holds.
    pub fn label_of_one(&self, name: &str, label: &str) -> Option<&str> {
        let sample = self.0.iter().find(|sample| sample.name == name && sample.value > 0.0)?;
        sample.labels.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_str())
    }

    fn series<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample, (name, value): &(&str, &str)| {
            sample.labels.iter().any(|(given, is)| given == name && is == value)
        };
        self.0.iter().filter(move |sample| sample.name == name && labels.iter().all(|label| has(sample, label)))
    }
}

/// A quantile out of a histogram's upper bounds and the counts up to them, as Prometheus reckons it; `None` when nothing was
/// counted.
pub fn quantile(mut buckets: Vec<(f64, f64)>, quantile: f64) -> Option<f64> {
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let all = buckets.last().map(|(_, count)| *count).filter(|all| *all > 0.0)?;
    let rank = quantile * all;
    let at = buckets.iter().position(|(_, count)| *count >= rank)?;
    let (low, below) = at.checked_sub(1).map_or((0.0, 0.0), |before| buckets[before]);
    let (high, count) = buckets[at];
    // Above the last bound nothing is known but that.
    Some(if high.is_finite() { low + (high - low) * (rank - below) / (count - below).max(1.0) } else { low })
}

/// `name{label="value",…} value`, perhaps with a time, which nobody here sends.
fn sample(line: &str) -> Option<Sample> {
    let end_of_name = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end_of_name);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // Rust reads NaN, +Inf and -Inf as Prometheus writes them.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

type Labels = Vec<(String, String)>;

/// The labels up to the closing brace, and what follows it.
fn labels(text: &str) -> Option<(Labels, &str)> {
    let (mut labels, mut rest) = (Vec::new(), text.trim_start());
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = quoted(after.trim_start())?;
        labels.push((name.trim().to_owned(), value));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
}

/// A quoted value, in which `\\`, `\"` and `\n` stand for what they say, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut characters = text.strip_prefix('"')?.char_indices();
    let mut value = String::new();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 2..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"# HELP up Says whether.
# TYPE up gauge
up 1

queue_lag{queue="jobs",group="g"} NaN
queue_lag{queue="other",group="g"} 4
odd{label="a\"b\\c\nd,}={", two="é" , } +Inf 1700000000000
state{state="starting"} 0
state{state="running"} 1
nonsense{ 3
nonsense{a="b} 3
nonsense{a="b"} x
"#;

    #[test]
    fn values_labels_and_what_is_unknown() {
        let text = Exposition::parse(TEXT);
        assert_eq!(text.sum("up", &[]), Some(1.0));
        assert_eq!(text.sum("queue_lag", &[("queue", "other")]), Some(4.0));
        assert_eq!(text.sum("queue_lag", &[("queue", "jobs")]), None, "NaN is unknown, not 0");
        assert_eq!(text.sum("queue_lag", &[]), None, "and so is a sum with it");
        assert_eq!(text.sum("absent", &[]), None);
        assert_eq!(text.by("queue_lag", "queue"), BTreeMap::from([("other".to_owned(), 4.0)]));
        assert_eq!(text.label_of_one("state", "state"), Some("running"));
        assert_eq!(text.label_of_one("odd", "label"), Some("a\"b\\c\nd,}={"));
        assert_eq!(text.sum("odd", &[("two", "é")]), Some(f64::INFINITY));
        assert_eq!(text.sum("nonsense", &[]), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in any::<String>(), tail in "[a-z]\\{[a-z=\",\\\\}é ]{0,20}[0-9]?") {
            Exposition::parse(&text);
            Exposition::parse(&tail);
        }

        #[test]
        fn any_label_value_comes_back(value in r#"[a-cn "\\,{}=\n\té]{0,16}|\PC*"#) {
            let escaped = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let text = Exposition::parse(&format!("x{{l=\"{escaped}\"}} 1"));
            prop_assert_eq!(text.label_of_one("x", "l"), Some(value.as_str()));
        }
    }
}
