//! The effective configuration as text that may be shown to anyone.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::keys::{self, Key};
use super::{Config, Secret};

/// Every key with the value that counts, in the order of the default file.
pub(super) fn redacted_toml(config: &Config) -> String {
    let mut text = String::new();
    for (section, keys) in sections(config, Secret::to_string) {
        text += &format!("[{section}]\n");
        for (name, value) in keys {
            text += &format!("{name} = {value}\n");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The keys whose values differ, in the order of the default file.
pub(super) fn changes(one: &Config, other: &Config) -> Vec<&'static Key> {
    let whole = |config| sections(config, |secret| secret.expose().to_owned());
    let pairs = whole(one).into_iter().zip(whole(other));
    let keys = pairs.flat_map(|((section, one), (_, other))| {
        let differing = one.into_iter().zip(other).filter(|((_, one), (_, other))| one != other);
        differing.filter_map(|((name, _), _)| keys::find(&format!("{section}.{name}"))).collect::<Vec<_>>()
    });
    keys.collect()
}

type Section = (&'static str, Vec<(&'static str, Value)>);

fn sections(config: &Config, secret: impl Fn(&Secret) -> String) -> Vec<Section> {
    let Config {
        database,
        stream,
        fleet,
        lock,
        batch,
        subscriptions,
        http,
        drain,
        retention,
        log,
        tls,
        despite_schemas: _,
    } = config;
    let nodes: Vec<String> = lock.nodes.iter().map(&secret).collect();
    vec![
        (
            "database",
            vec![
                ("url", Value::from(secret(&database.url))),
                ("migrate", Value::from(database.migrate)),
                ("max_connections", Value::from(database.max_connections)),
                ("timeout_ms", millis(database.timeout)),
            ],
        ),
        (
            "stream",
            vec![
                ("url", Value::from(secret(&stream.url))),
                ("names", Value::from(stream.names.clone())),
                ("spread", Value::from(stream.spread)),
                ("first", Value::from(stream.first.clone())),
                ("group", text(&stream.group)),
                ("block_ms", millis(stream.block)),
                ("read_count", Value::from(stream.read_count)),
                ("prefetch", Value::from(stream.prefetch)),
                ("prefetch_bytes", Value::from(stream.prefetch_bytes)),
                ("heartbeat_ms", millis(stream.heartbeat)),
                ("claim_after_ms", millis(stream.claim_after)),
                ("max_deliveries", Value::from(stream.max_deliveries)),
                ("hold_after_dead", Value::from(stream.hold_after_dead)),
                ("unknown_types_wait_ms", millis(stream.unknown_types_wait)),
                ("max_data_bytes", Value::from(stream.max_data_bytes)),
                ("reply_length", Value::from(stream.reply_length)),
            ],
        ),
        ("fleet", vec![("lease_ms", millis(fleet.lease)), ("look_ms", millis(fleet.look))]),
        (
            "lock",
            vec![
                ("nodes", Value::from(nodes)),
                ("ttl_ms", millis(lock.ttl)),
                ("retry_count", Value::from(lock.retry_count)),
                ("retry_delay_ms", millis(lock.retry_delay)),
                ("node_timeout_ms", millis(lock.node_timeout)),
            ],
        ),
        (
            "batch",
            vec![
                ("max_jobs", Value::from(batch.max_jobs)),
                ("max_bytes", Value::from(batch.max_bytes)),
                ("in_flight", Value::from(batch.in_flight)),
                ("cache_bytes", Value::from(batch.cache_bytes)),
                ("decide_timeout_ms", millis(batch.decide_timeout)),
            ],
        ),
        (
            "subscriptions",
            vec![
                ("run", Value::from(subscriptions.run)),
                ("poll_ms", millis(subscriptions.poll)),
                ("pace_ms", millis(subscriptions.pace)),
                ("lease_ms", millis(subscriptions.lease)),
                ("page_events", Value::from(subscriptions.page_events)),
                ("page_bytes", Value::from(subscriptions.page_bytes)),
            ],
        ),
        ("http", vec![("listen", text(&http.listen))]),
        ("drain", vec![("timeout_ms", millis(drain.timeout))]),
        (
            "retention",
            vec![
                ("receipts_days", days(retention.receipts)),
                ("dead_letters_days", days(retention.dead_letters)),
                ("replies_days", days(retention.replies)),
                ("interval_ms", millis(retention.interval)),
            ],
        ),
        ("log", vec![("level", text(&log.level)), ("format", text(&log.format.as_str()))]),
        (
            "tls",
            vec![
                ("ca_file", path(tls.ca_file.as_ref())),
                ("cert_file", path(tls.cert_file.as_ref())),
                ("key_file", path(tls.key_file.as_ref())),
            ],
        ),
    ]
}

fn text(value: &impl ToString) -> Value {
    Value::from(value.to_string())
}

fn millis(value: Duration) -> Value {
    Value::from(i64::try_from(value.as_millis()).unwrap_or(i64::MAX))
}

fn days(value: Option<Duration>) -> Value {
    Value::from(value.map_or(0, |value| i64::try_from(value.as_secs() / (24 * 60 * 60)).unwrap_or(i64::MAX)))
}

fn path(value: Option<&PathBuf>) -> Value {
    Value::from(value.map(|path| path.display().to_string()).unwrap_or_default())
}

impl Config {
    /// The effective values as a TOML document, with passwords as `***`.
    pub fn redacted_toml(&self) -> String {
        redacted_toml(self)
    }

    /// The keys whose values differ in `other`, in the order of the default file.
    pub fn changes(&self, other: &Config) -> Vec<&'static Key> {
        changes(self, other)
    }
}
