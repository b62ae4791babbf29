//! The streams, and who owns them.

use std::time::Duration;

use crate::config::layers::Layers;
use crate::config::secret::Secret;
use crate::config::url;

/// `[stream]`: where jobs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The Redis that carries the jobs.
    pub url: Secret,
    /// The streams to read.
    pub names: Vec<String>,
    /// Whether they are shared out among the fleet.
    pub spread: bool,
    /// Those of them that must be empty before jobs of the others are begun.
    pub first: Vec<String>,
    /// The consumer group.
    pub group: String,
    /// How long a read waits on an idle stream.
    pub block: Duration,
    /// Most entries taken by one read.
    pub read_count: u32,
    /// Most jobs in hand.
    pub prefetch: u32,
    /// About how many bytes the jobs in hand may have together.
    pub prefetch_bytes: u32,
    /// Without effect.
    pub heartbeat: Duration,
    /// Silence after which instances of earlier versions took a job over.
    pub claim_after: Duration,
    /// Started attempts before a job is dead-lettered.
    pub max_deliveries: u32,
    /// Whether jobs that share an aggregate with a dead letter go behind it.
    pub hold_after_dead: bool,
    /// How long a job that only another version of this program may know waits for a daemon of that version.
    pub unknown_types_wait: Duration,
    /// Largest `data` of a job, in bytes.
    pub max_data_bytes: u32,
    /// Most outcomes kept in a reply stream.
    pub reply_length: u32,
}

impl Stream {
    pub(in crate::config) fn read(layers: &mut Layers) -> Self {
        let missing = "is required: set REDIS_URL, LOCKKEEPER_STREAM_URL, or url in [stream] (REDIS_URL_1 and so on \
                       name lock nodes only)";
        Stream {
            url: layers.url("stream.url", missing, url::check_redis),
            names: read_stream_names(layers),
            spread: layers.flag("stream.spread"),
            first: read_first(layers),
            group: layers.parsed("stream.group", NAME_RULE, name).unwrap_or_default(),
            block: layers.millis("stream.block_ms", 1..=150),
            read_count: layers.count("stream.read_count", 1..=10_000),
            prefetch: layers.count("stream.prefetch", 1..=1_000_000),
            prefetch_bytes: layers.bytes("stream.prefetch_bytes", 65_536..=1 << 30),
            heartbeat: layers.millis("stream.heartbeat_ms", 0..=86_400_000),
            claim_after: layers.millis("stream.claim_after_ms", 10..=86_400_000),
            max_deliveries: layers.count("stream.max_deliveries", 1..=1_000),
            hold_after_dead: layers.flag("stream.hold_after_dead"),
            unknown_types_wait: layers.millis("stream.unknown_types_wait_ms", 0..=86_400_000),
            max_data_bytes: layers.bytes("stream.max_data_bytes", 64..=16 << 20),
            reply_length: layers.count("stream.reply_length", 1..=10_000_000),
        }
    }
}

impl Stream {
    /// How long the deliveries of a job that never comes to its end may take together.
    pub fn deliveries_take(&self) -> Duration {
        self.claim_after.saturating_mul(self.max_deliveries)
    }
}

fn read_stream_names(layers: &mut Layers) -> Vec<String> {
    const KEY: &str = "stream.names";
    let Some(names) = layers.list(KEY) else { return Vec::new() };
    if names.is_empty() {
        layers.reject(KEY, "must name at least one stream".to_owned());
    }
    for (index, stream) in names.iter().enumerate() {
        let problem = if name(stream).is_none() {
            NAME_RULE
        } else if OWN_ENDINGS.iter().any(|end| stream.ends_with(end)) {
            OWN_ENDINGS_RULE
        } else if stream.starts_with("lock:") || stream.starts_with("reply:") {
            "must not start with lock: or reply:, which locks and replies are named by"
        } else if names[..index].contains(stream) {
            "must not be named twice"
        } else {
            continue;
        };
        layers.reject(KEY, format!("stream {}: {problem}", index + 1));
    }
    names
}

/// A variable that is empty names none of them.
fn read_first(layers: &mut Layers) -> Vec<String> {
    let names = layers.list("stream.first").unwrap_or_default();
    if names == [""] { Vec::new() } else { names }
}

/// What the names of keys beside a stream end in.
const OWN_ENDINGS: [&str; 9] =
    [":dead", ":held", ":scheduled", ":finished", ":lineage", ":owner", ":fleet", ":paused", ":retention"];
const OWN_ENDINGS_RULE: &str = "must not end in :dead, :held, :scheduled, :finished, :lineage, :owner, :fleet, :paused or :retention, which are the daemon's own";

const NAME_RULE: &str = "must be 1 to 128 bytes of text without white space, control characters or ://";

/// Names appear in logs and metrics, so a URL that strayed in here is refused before it can.
fn name(text: &str) -> Option<String> {
    let is_name = (1..=128).contains(&text.len())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        && !text.contains("://");
    is_name.then(|| text.to_owned())
}

/// `[fleet]`: who owns the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// The silence of an owner after which another instance takes its streams over.
    pub lease: Duration,
    /// Time between two looks at its signs of life.
    pub look: Duration,
}

impl Fleet {
    pub(in crate::config) fn read(layers: &mut Layers) -> Self {
        Fleet {
            lease: layers.millis("fleet.lease_ms", 300..=60_000),
            look: layers.millis("fleet.look_ms", 10..=10_000),
        }
    }
}
