//! Configuration: flags over environment over file over the embedded defaults.
//!
//! `config/lockkeeper.toml` is both the defaults and the reference of every key. [`load`] collects the four layers,
//! reads each key from the highest layer that gives it, checks how the values relate, and returns either a whole
//! [`Config`] or every [`Problem`] at once, each with the place the value came from.
//!
//! The module is pure. The environment and the files are handed in, so a test needs no process of its own; reading
//! the variables a second time on SIGHUP is a second call. What only a server can tell (whether lock nodes are
//! independent, whether an account may write) is the business of `check`.

mod environment;
mod keys;
mod layers;
mod problem;
mod read;
mod relations;
mod render;
mod secret;
mod sections;
mod settings;
mod url;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

pub use self::keys::{KEYS, Key};
pub use self::problem::{Problem, Problems};
pub use self::secret::Secret;
pub use self::sections::{
    Batch, Database, Drain, Fleet, Http, Lock, Log, LogFormat, Retention, Stream, Subscriptions, Tls,
};
pub use self::settings::Config;

use self::layers::{Layers, Origin, THE_FILE};

/// The embedded default file: every key with its unit, default and reason.
pub const REFERENCE: &str = include_str!("../../config/lockkeeper.toml");

/// Merges the layers and checks the result.
///
/// `file` is the text of the user's file, `flags` are pairs of key path (`lock.ttl_ms`) and value, and `read_secret`
/// reads the file that a `…_FILE` variable names.
pub fn load(
    file: Option<&str>,
    env: impl Iterator<Item = (String, String)>,
    flags: impl Iterator<Item = (impl AsRef<str>, String)>,
    read_secret: impl Fn(&str) -> io::Result<String>,
) -> Result<Config, Problems> {
    let mut layers = collect(file, env, flags, read_secret);
    let config = Config {
        database: Database::read(&mut layers),
        stream: Stream::read(&mut layers),
        fleet: Fleet::read(&mut layers),
        lock: Lock::read(&mut layers),
        batch: Batch::read(&mut layers),
        subscriptions: Subscriptions::read(&mut layers),
        http: Http::read(&mut layers),
        drain: Drain::read(&mut layers),
        retention: Retention::read(&mut layers),
        log: Log::read(&mut layers),
        tls: Tls::read(&mut layers),
        despite_schemas: false,
    };
    relations::check(&config, &mut layers);
    layers.finish(config)
}

/// Just `http.listen`, for who asks a running daemon: whatever else is missing or wrong is not its business.
pub fn listen(
    file: Option<&str>,
    env: impl Iterator<Item = (String, String)>,
    flags: impl Iterator<Item = (impl AsRef<str>, String)>,
) -> Result<SocketAddr, Problems> {
    // A secret's file may be for the daemon's eyes only.
    let mut layers = collect(file, env, flags, |_| Ok(String::new()));
    let listen = Http::read(&mut layers).listen;
    layers.finish_with(&["http.listen", THE_FILE], listen)
}

fn collect(
    file: Option<&str>,
    env: impl Iterator<Item = (String, String)>,
    flags: impl Iterator<Item = (impl AsRef<str>, String)>,
    read_secret: impl Fn(&str) -> io::Result<String>,
) -> Layers {
    let mut layers = Layers::default();
    layers.add_file(REFERENCE, Origin::Default);
    if let Some(text) = file {
        layers.add_file(text, Origin::File);
    }
    environment::add(&mut layers, env, read_secret);
    layers.add_flags(flags);
    layers
}
