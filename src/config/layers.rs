//! The layers: what each one gives, and which one wins.

use std::collections::BTreeMap;
use std::fmt;

use super::keys::{self, KEYS};
use super::problem::{Problem, Problems, shown};

/// What a file is called that cannot be read as TOML.
pub(super) const THE_FILE: &str = "the file";

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File,
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::File => f.write_str("the file"),
            Origin::Variable(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// A value as it was given, before its key's type is applied.
pub(super) enum Value {
    /// From a flag or a variable; a list is comma-separated.
    Text(String),
    /// From numbered variables, which are never split at commas.
    Texts(Vec<String>),
    /// From a file.
    Toml(toml::Value),
}

/// A value and its origin.
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What has been given so far, the highest layer for each key, and what was wrong with it.
#[derive(Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, Given>,
    problems: Vec<Problem>,
    file_is_broken: bool,
}

impl Layers {
    /// Adds a file. Keys it does not give stay as they are.
    pub(super) fn add_file(&mut self, text: &str, origin: Origin) {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => return self.report_syntax(text, &error),
        };
        for (section, content) in table {
            if !KEYS.iter().any(|key| key.section() == section) {
                self.report_unknown_section(&section, &content);
            } else if let toml::Value::Table(content) = content {
                self.add_section(&section, content, &origin);
            } else {
                self.report(&section, Some(&origin), format!("is a section, to be written as [{section}]"));
            }
        }
    }

    fn add_section(&mut self, section: &str, content: toml::Table, origin: &Origin) {
        for (name, value) in content {
            let path = format!("{section}.{name}");
            match keys::find(&path) {
                Some(key) => self.set(key.path, Value::Toml(value), origin.clone()),
                None => {
                    let hint = keys::suggest_key(&path);
                    self.report(&shown(&path), Some(origin), format!("unknown key{hint}"));
                }
            }
        }
    }

    /// Adds the flags; the last of several for one key counts.
    pub(super) fn add_flags(&mut self, flags: impl Iterator<Item = (impl AsRef<str>, String)>) {
        for (path, text) in flags {
            let path = path.as_ref();
            match keys::find(path) {
                Some(key) => self.set(key.path, Value::Text(text), Origin::Flag(key.flag_name())),
                None => {
                    let hint = keys::suggest_key(path);
                    self.report(&shown(path), None, format!("unknown key{hint}"));
                }
            }
        }
    }

    /// Gives `key` a value that beats those of the layers before.
    pub(super) fn set(&mut self, key: &'static str, value: Value, origin: Origin) {
        self.given.insert(key, Given { value, origin });
    }

    /// The value that counts for `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Given> {
        self.given.get(key)
    }

    /// Reports a problem with the value of `key`, naming where that value came from.
    pub(super) fn reject(&mut self, key: &str, problem: String) {
        let origin = self.get(key).map(|given| given.origin.clone());
        self.report(key, origin.as_ref(), problem);
    }

    /// Reports a problem.
    pub(super) fn report(&mut self, key: &str, origin: Option<&Origin>, problem: String) {
        self.problems.push(Problem { key: key.to_owned(), origin: origin.map(Origin::to_string), problem });
    }

    /// Reports that `key` is missing, unless it was given in a way that is already reported or is hidden in a file
    /// that cannot be read.
    pub(super) fn report_missing(&mut self, key: &str, problem: &str) {
        if !self.file_is_broken && !self.is_reported(key) {
            self.report(key, None, problem.to_owned());
        }
    }

    /// Reports a broken relation with its first key, unless one of the values is a stand-in for a wrong one: then the
    /// relation says nothing.
    pub(super) fn relate(&mut self, related: &[&str], problem: Option<String>) {
        if let (Some(problem), Some(key)) = (problem, related.first())
            && !self.file_is_broken
            && !related.iter().any(|key| self.is_reported(key))
        {
            self.reject(key, problem);
        }
    }

    /// The result, if nothing was wrong.
    pub(super) fn finish<T>(self, result: T) -> Result<T, Problems> {
        if self.problems.is_empty() { Ok(result) } else { Err(Problems(self.problems)) }
    }

    /// The result, if nothing was wrong with these keys.
    pub(super) fn finish_with<T>(mut self, keys: &[&str], result: T) -> Result<T, Problems> {
        self.problems.retain(|problem| keys.contains(&problem.key.as_str()));
        self.finish(result)
    }

    fn is_reported(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// The parser's own rendering quotes the line, which may hold a password; so only its message is used.
    fn report_syntax(&mut self, text: &str, error: &toml::de::Error) {
        self.file_is_broken = true;
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        self.report(THE_FILE, None, format!("line {line}: {}", shown(error.message())));
    }

    fn report_unknown_section(&mut self, name: &str, content: &toml::Value) {
        if content.is_table() {
            let hint = keys::suggest("", name, KEYS.iter().map(|key| key.section()));
            self.report(&format!("[{}]", shown(name)), Some(&Origin::File), format!("unknown section{hint}"));
        } else {
            let hint = keys::suggest_key(name);
            self.report(&shown(name), Some(&Origin::File), format!("unknown key outside of any section{hint}"));
        }
    }
}
