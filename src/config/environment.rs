//! The environment layer: one variable per key, the names other services already use, and `*_FILE` for secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::keys::{self, ENV_PREFIX, KEYS};
use super::layers::{Layers, Origin, Value};
use super::problem::shown;

/// Variables with our prefix that are somebody else's.
///
/// Kubernetes tells every pod of a service named `lockkeeper` its address in the last three.
const IGNORED: &[&str] = &["LOCKKEEPER_TEST_", "LOCKKEEPER_SERVICE_", "LOCKKEEPER_PORT_"];

/// Numbered lock nodes, as the original service names them.
const NUMBERED: &str = "REDIS_URL_";

/// Adds what the environment gives.
pub(super) fn add(
    layers: &mut Layers,
    env: impl Iterator<Item = (String, String)>,
    read_secret: impl Fn(&str) -> io::Result<String>,
) {
    let ours = |name: &str| [ENV_PREFIX, "DATABASE_URL", "REDIS_URL"].iter().any(|prefix| name.starts_with(prefix));
    let variables = env.filter(|(name, _)| ours(name)).collect();
    let mut environment = Environment { variables, read_secret, layers };
    environment.report_unknown();
    environment.add_plain();
    environment.add_secrets();
}

struct Environment<'a, F> {
    variables: BTreeMap<String, String>,
    read_secret: F,
    layers: &'a mut Layers,
}

/// A secret's value or values, and the variable or variables that gave it.
struct Found {
    origin: String,
    texts: Vec<String>,
}

impl<F: Fn(&str) -> io::Result<String>> Environment<'_, F> {
    fn report_unknown(&mut self) {
        let secrets = KEYS.iter().filter(|key| key.secret).map(|key| format!("{}_FILE", key.env_name()));
        let known: BTreeSet<String> = KEYS.iter().map(keys::Key::env_name).chain(secrets).collect();
        for name in self.variables.keys() {
            let ignored = name == "LOCKKEEPER_PORT" || IGNORED.iter().any(|prefix| name.starts_with(prefix));
            if let Some(own) = name.strip_prefix(ENV_PREFIX)
                && !ignored
                && !known.contains(name)
            {
                let names = known.iter().filter_map(|known| known.strip_prefix(ENV_PREFIX));
                let hint = keys::suggest(ENV_PREFIX, own, names);
                self.layers.report(&shown(name), None, format!("unknown variable{hint}"));
            }
        }
    }

    fn add_plain(&mut self) {
        for key in KEYS.iter().filter(|key| !key.secret) {
            let name = key.env_name();
            if let Some(text) = self.variables.get(&name) {
                self.layers.set(key.path, Value::Text(text.clone()), Origin::Variable(name));
            }
        }
    }

    fn add_secrets(&mut self) {
        let database = self.find("database.url", "DATABASE_URL");
        self.add_secret("database.url", database);

        let redis = self.find("stream.url", "REDIS_URL");
        let only_node = redis.as_ref().map(|redis| (redis.texts.clone(), redis.origin.clone()));
        self.add_secret("stream.url", redis);

        let nodes = self.find_numbered();
        self.add_secret("lock.nodes", nodes);
        if let Some((texts, origin)) = only_node
            && self.layers.get("lock.nodes").is_none()
        {
            self.layers.set("lock.nodes", Value::Texts(texts), Origin::Variable(origin));
        }
    }

    /// Sets a secret from the key's own variable, or else from `alias`. Both are fine as long as they agree.
    fn add_secret(&mut self, path: &'static str, alias: Option<Found>) {
        let own = keys::find(path).and_then(|key| self.find(path, &key.env_name()));
        let own = own.map(|found| match path {
            "lock.nodes" => Found { texts: split(&found.texts.concat()), ..found },
            _ => found,
        });
        if let (Some(own), Some(alias)) = (&own, &alias)
            && own.texts != alias.texts
        {
            let problem = format!("{} and {} are set to different values; unset one", own.origin, alias.origin);
            self.layers.report(path, None, problem);
        }
        if let Some(Found { origin, texts }) = own.or(alias) {
            self.layers.set(path, Value::Texts(texts), Origin::Variable(origin));
        }
    }

    /// The value of `name`, or the content of the file that `name`_FILE names.
    fn find(&mut self, path: &str, name: &str) -> Option<Found> {
        let file_name = format!("{name}_FILE");
        match (self.get(name), self.get(&file_name)) {
            (Some(text), Some(_)) => {
                let found = Found { origin: name.to_owned(), texts: vec![text.to_owned()] };
                let problem = format!("{name} and {file_name} are both set; unset one");
                self.layers.report(path, None, problem);
                Some(found)
            }
            (Some(text), None) => Some(Found { origin: name.to_owned(), texts: vec![text.to_owned()] }),
            (None, Some(file)) => {
                let content = (self.read_secret)(file);
                self.found_in_file(path, file_name, content)
            }
            (None, None) => None,
        }
    }

    /// The file's name is not repeated: whoever put the secret itself into the variable would find it in the log.
    fn found_in_file(&mut self, path: &str, origin: String, content: io::Result<String>) -> Option<Found> {
        let problem = match content {
            Ok(text) if !text.trim().is_empty() => {
                return Some(Found { origin, texts: vec![text.trim().to_owned()] });
            }
            Ok(_) => "the file it names is empty".to_owned(),
            Err(error) => format!("the file it names cannot be read: {}", error.kind()),
        };
        self.layers.report(path, Some(&Origin::Variable(origin)), problem);
        None
    }

    fn find_numbered(&mut self) -> Option<Found> {
        let numbers = self.numbers();
        if let Some((missing, next)) = (1..).zip(&numbers).find(|(expected, number)| expected != *number) {
            let problem = format!("{NUMBERED}{missing} is missing although {NUMBERED}{next} is set");
            self.layers.report("lock.nodes", None, problem);
        }
        let mut texts = Vec::new();
        for number in &numbers {
            texts.extend(
                self.find("lock.nodes", &format!("{NUMBERED}{number}")).into_iter().flat_map(|node| node.texts),
            );
        }
        let (first, last) = (numbers.first()?, numbers.last()?);
        let origin =
            if first == last { format!("{NUMBERED}{first}") } else { format!("{NUMBERED}{first} to {NUMBERED}{last}") };
        Some(Found { origin, texts })
    }

    /// The numbers in use. Names such as `REDIS_URL_CACHE` are somebody else's.
    fn numbers(&mut self) -> BTreeSet<u32> {
        let mut numbers = BTreeSet::new();
        for (name, text) in &self.variables {
            let Some(digits) = name.strip_prefix(NUMBERED).map(|rest| rest.strip_suffix("_FILE").unwrap_or(rest))
            else {
                continue;
            };
            if text.trim().is_empty() || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            match digits.parse::<u32>() {
                Ok(number) if number > 0 && !digits.starts_with('0') => {
                    numbers.insert(number);
                }
                _ => {
                    let problem = format!("{} is not one of {NUMBERED}1, {NUMBERED}2 and so on", shown(name));
                    self.layers.report("lock.nodes", None, problem);
                }
            }
        }
        numbers
    }

    /// A secret's variable without the white space around it. An empty one is not set: container files pass those on.
    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }
}

/// The parts of comma-separated text; a file may put each on a line of its own.
pub(super) fn split(text: &str) -> Vec<String> {
    text.trim().split([',', '\n']).map(|part| part.trim().to_owned()).collect()
}
