//! What is wrong with a configuration, said without giving a secret away.

use thiserror::Error;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key}{}: {problem}", from(.origin.as_deref()))]
pub struct Problem {
    /// The key concerned, or the variable or section that does not exist.
    pub key: String,
    /// Where the value came from, when there is one: a variable, a flag, the file or the default.
    pub origin: Option<String>,
    /// What must change.
    pub problem: String,
}

/// Everything that is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", lines(.0))]
pub struct Problems(pub Vec<Problem>);

fn from(origin: Option<&str>) -> String {
    origin.map_or_else(String::new, |origin| format!(" (from {origin})"))
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// Foreign text as a message may repeat it: on one line, not endless, and never anything that looks like a URL,
/// because a URL that strayed into the wrong key still holds its password.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.contains("://") || text.contains('@') {
        return "***".to_owned();
    }
    let mut line: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}
