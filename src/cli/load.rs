//! The configuration, from what this process was given.

use std::net::SocketAddr;
use std::path::Path;

use clap::ArgMatches;

use super::failed::Failed;
use crate::config::{self, Config, Problems};
use crate::exit::Exit;

/// Loads it from `file`, the environment and the flags; every problem is in the error.
pub fn config(file: Option<&Path>, matches: &ArgMatches) -> Result<Config, Failed> {
    given(file, matches, |file, environment, flags| {
        config::load(file, environment, flags, |path| std::fs::read_to_string(path))
    })
}

/// Just `http.listen`, for who asks a daemon and needs none of its servers.
pub fn listen(file: Option<&Path>, matches: &ArgMatches) -> Result<SocketAddr, Failed> {
    given(file, matches, config::listen)
}

type Pairs<K> = std::vec::IntoIter<(K, String)>;

fn given<T>(
    file: Option<&Path>,
    matches: &ArgMatches,
    load: impl FnOnce(Option<&str>, Pairs<String>, Pairs<&'static str>) -> Result<T, Problems>,
) -> Result<T, Failed> {
    let text = match file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Failed::new(Exit::CONFIG, format!("the configuration file {} cannot be read: {error}", path.display()))
        })?),
        None => None,
    };
    // Variables that are not UTF-8 are none of ours.
    let environment: Vec<_> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name != "LOCKKEEPER_CONFIG")
        .collect();
    let matches = deepest(matches);
    let flags = config::KEYS.iter().filter_map(|key| Some((key.path, matches.get_one::<String>(key.path)?.clone())));
    let flags: Vec<_> = flags.collect();
    load(text.as_deref(), environment.into_iter(), flags.into_iter())
        .map_err(|problems| Failed::new(Exit::CONFIG, problems))
}

/// Global flags may stand before or after the command's name; the innermost matches have them all.
fn deepest(matches: &ArgMatches) -> &ArgMatches {
    matches.subcommand().map_or(matches, |(_, inner)| deepest(inner))
}
