//! Reading one key: the type, the range, and a message that says what would have been right.
//!
//! A wrong value is reported and something harmless is returned in its place, so that reading goes on to the next
//! problem. `Layers::finish` sees to it that no such stand-in is ever used.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::environment::split;
use super::layers::{Layers, Value};
use super::problem::shown;
use super::secret::Secret;

impl Layers {
    /// A plain number.
    pub(super) fn count(&mut self, key: &str, range: RangeInclusive<u32>) -> u32 {
        self.whole(key, "", range)
    }

    /// A size in bytes.
    pub(super) fn bytes(&mut self, key: &str, range: RangeInclusive<u32>) -> u32 {
        self.whole(key, " of bytes", range)
    }

    /// A time in milliseconds.
    pub(super) fn millis(&mut self, key: &str, range: RangeInclusive<u32>) -> Duration {
        Duration::from_millis(self.whole(key, " of milliseconds", range).into())
    }

    /// A time in days.
    pub(super) fn days(&mut self, key: &str, range: RangeInclusive<u32>) -> Duration {
        Duration::from_secs(u64::from(self.whole(key, " of days", range)) * 24 * 60 * 60)
    }

    fn whole(&mut self, key: &str, unit: &str, range: RangeInclusive<u32>) -> u32 {
        let number = match self.value(key) {
            Some(Value::Toml(toml::Value::Integer(number))) => u32::try_from(*number).ok(),
            Some(Value::Text(text)) => text.trim().parse().ok(),
            _ => None,
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.refuse(key, &format!("must be a whole number{unit} from {least} to {most}"));
            *least
        })
    }

    /// A truth value.
    pub(super) fn flag(&mut self, key: &str) -> bool {
        let flag = match self.value(key) {
            Some(Value::Toml(toml::Value::Boolean(flag))) => Some(*flag),
            Some(Value::Text(text)) => text.trim().parse().ok(),
            _ => None,
        };
        flag.unwrap_or_else(|| {
            self.refuse(key, "must be true or false");
            false
        })
    }

    /// Text with a meaning: what `parse` makes of it, or a report that the value breaks `rule`.
    pub(super) fn parsed<T>(&mut self, key: &str, rule: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let parsed = match self.value(key) {
            Some(Value::Toml(toml::Value::String(text)) | Value::Text(text)) => parse(text),
            _ => None,
        };
        if parsed.is_none() {
            self.refuse(key, rule);
        }
        parsed
    }

    /// A list of texts: an array in a file, comma-separated elsewhere.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let list = self.texts(key);
        if list.is_none() {
            self.refuse(key, "must be a list of texts");
        }
        list
    }

    /// The URL of a required secret. `check` says what is wrong with it, without repeating it.
    pub(super) fn url(&mut self, key: &str, missing: &str, check: fn(&str) -> Result<(), &'static str>) -> Secret {
        let url = match self.value(key) {
            Some(Value::Toml(toml::Value::String(url)) | Value::Text(url)) => Some(url.trim().to_owned()),
            Some(Value::Texts(urls)) => Some(urls.concat()),
            Some(Value::Toml(_)) => None,
            None => {
                self.report_missing(key, missing);
                return Secret::new("");
            }
        };
        match url.as_deref().map_or(Err("must be a text"), check) {
            Ok(()) => {}
            Err(problem) => self.reject(key, problem.to_owned()),
        }
        Secret::new(url.unwrap_or_default())
    }

    /// The URLs of a required list of secrets.
    pub(super) fn urls(
        &mut self,
        key: &str,
        missing: &str,
        check: fn(&str) -> Result<(), &'static str>,
    ) -> Vec<Secret> {
        if self.value(key).is_none() {
            self.report_missing(key, missing);
            return Vec::new();
        }
        let urls = self.texts(key);
        if urls.is_none() {
            self.reject(key, "must be a list of texts".to_owned());
        }
        let urls = urls.unwrap_or_default();
        for (index, url) in urls.iter().enumerate() {
            if let Err(problem) = check(url) {
                self.reject(key, format!("node {}: {problem}", index + 1));
            }
        }
        urls.into_iter().map(Secret::new).collect()
    }

    fn texts(&self, key: &str) -> Option<Vec<String>> {
        match self.value(key)? {
            Value::Text(text) => Some(split(text)),
            Value::Texts(texts) => Some(texts.clone()),
            Value::Toml(toml::Value::Array(items)) => {
                items.iter().map(|item| item.as_str().map(|text| text.trim().to_owned())).collect()
            }
            Value::Toml(_) => None,
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.get(key).map(|given| &given.value)
    }

    /// Rejects a value that is no secret, and repeats it.
    pub(super) fn refuse(&mut self, key: &str, rule: &str) {
        let actual = match self.value(key) {
            Some(Value::Text(text) | Value::Toml(toml::Value::String(text))) => format!("`{}`", shown(text)),
            Some(Value::Toml(toml::Value::Array(_))) => "an array".to_owned(),
            Some(Value::Toml(toml::Value::Table(_))) => "a table".to_owned(),
            Some(Value::Toml(value)) => format!("`{}`", shown(&value.to_string())),
            Some(Value::Texts(_)) | None => "nothing".to_owned(),
        };
        self.reject(key, format!("{rule}, not {actual}"));
    }
}
