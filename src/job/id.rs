//! What entries and jobs are known by.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// An entry's id in its stream: milliseconds of the broker's clock and a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// Unix milliseconds at which the broker took the entry in.
    pub ms: u64,
    /// Counts entries of the same millisecond.
    pub seq: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The text is not of the form `1526919030474-55`.
#[derive(Debug, thiserror::Error)]
#[error("not a stream entry id")]
pub struct NotAnEntryId;

impl FromStr for EntryId {
    type Err = NotAnEntryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').ok_or(NotAnEntryId)?;
        let number = |part: &str| part.parse::<u64>().map_err(|_| NotAnEntryId);
        Ok(Self { ms: number(ms)?, seq: number(seq)? })
    }
}

/// What tells an entry from one with the same id in another broker, or in an earlier stream of the same name: an id that a stream
/// gets when it is first seen, and keeps for as long as it is the same stream. Entries from before streams had one have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage(pub Option<Uuid>);

/// A job's id: what makes two deliveries, or two sends, one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub Uuid);

impl JobId {
    /// The id that a producer's text stands for: a UUID as it is, any other text mapped by UUIDv5 under the namespace
    /// UUIDv5(DNS, `lockkeeper`).
    pub fn from_text(text: &str) -> Self {
        Self(Uuid::try_parse(text).unwrap_or_else(|_| {
            let namespace = Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"lockkeeper");
            Uuid::new_v5(&namespace, text.as_bytes())
        }))
    }

    /// The id of a job whose producer gave none: the same for every delivery of the entry, and for no other entry.
    pub(super) fn of_entry(lineage: Lineage, stream: &str, entry: EntryId) -> Self {
        let text = format!("{stream}/{entry}");
        match lineage.0 {
            Some(lineage) => Self(Uuid::new_v5(&lineage, text.as_bytes())),
            None => Self::from_text(&text),
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a job is recognised by beside its id: a digest of its type, key and data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    pub(super) fn of(fields: [&[u8]; 3]) -> Self {
        let mut text = Vec::with_capacity(fields.iter().map(|field| field.len() + 8).sum());
        for field in fields {
            text.extend_from_slice(&(field.len() as u64).to_be_bytes());
            text.extend_from_slice(field);
        }
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, &text).into_bytes())
    }
}
