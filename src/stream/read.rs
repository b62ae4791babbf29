//! Reading new entries, and parsing what the broker sends without trusting any of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::holder::Generation;
use super::{Broker, BrokerError};
use crate::job::{Entry, EntryId, Lineage};

/// Reads new entries of all streams, over a connection of its own, which belongs to one generation of the shared one.
///
/// A read that has been sent may have entries assigned to us already, so its future is never dropped: the caller looks at
/// the lifecycle between reads, and keeps the reads short. A read fails when its generation ends. What it may have been
/// assigned is found by [`Broker::assigned`].
pub struct Reader {
    connection: MultiplexedConnection,
    broker: Broker,
    generation: Generation,
    /// The streams that could be read when one was refused, and since when.
    readable: Option<(Vec<String>, Instant)>,
    /// Why one was refused by the last read.
    refusal: Option<BrokerError>,
}

/// How long a stream is left out that could not be read.
const LEFT_OUT: Duration = Duration::from_secs(1);

impl Reader {
    pub(super) fn new(connection: MultiplexedConnection, broker: Broker, generation: Generation) -> Self {
        Self { connection, broker, generation, readable: None, refusal: None }
    }

    /// Whether its generation is the present one. Else another reader is to be opened.
    pub fn is_current(&self) -> bool {
        self.broker.holder.is_current(self.generation.number)
    }

    /// The error of a stream that the last read left out, which stops none of the others.
    pub fn refusal(&mut self) -> Option<BrokerError> {
        self.refusal.take()
    }

    /// Up to `count` new entries per stream, in stream order; empty when none came within the block time. A read is refused as a
    /// whole when one of its streams is; then each is read by itself, and for a while only those that can be.
    pub async fn read(&mut self, count: usize) -> Result<Vec<Entry>, BrokerError> {
        let all = self.broker.settings.names.clone();
        let lately = self.readable.take_if(|(_, since)| since.elapsed() < LEFT_OUT);
        let names = lately.as_ref().map_or(&all, |(names, _)| names);
        let entries = self.ask(names, count, true).await;
        self.readable = lately;
        let entries = match entries {
            Err(error) if all.len() > 1 && (error.is_about_keys() || error.is_group_gone()) => {
                self.apart(&all, count, error).await?
            }
            entries => entries?,
        };
        self.broker.told_apart(entries).await
    }

    /// Reads each of the streams by itself, without waiting. Fails when none can be read, with the error of all.
    async fn apart(&mut self, names: &[String], count: usize, error: BrokerError) -> Result<Vec<Entry>, BrokerError> {
        let (mut brought, mut readable) = (Vec::new(), Vec::new());
        for name in names {
            match self.ask(std::slice::from_ref(name), count, false).await {
                Ok(entries) => {
                    brought.extend(entries);
                    readable.push(name.clone());
                }
                Err(error) => self.refusal = self.refusal.take().or(Some(error)),
            }
        }
        if readable.is_empty() {
            return Err(error);
        }
        self.readable = Some((readable, Instant::now()));
        Ok(brought)
    }

    async fn ask(&mut self, names: &[String], count: usize, waits: bool) -> Result<Vec<Entry>, BrokerError> {
        let settings = &self.broker.settings;
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&settings.group).arg(&*self.broker.consumer).arg("COUNT").arg(count);
        if waits {
            command.arg("BLOCK").arg(settings.block.as_millis() as u64);
        }
        command.arg("STREAMS").arg(names);
        for _ in names {
            command.arg(">");
        }
        let reply: Result<Value, _> = tokio::select! {
            biased;
            reply = command.query_async(&mut self.connection) => reply,
            why = self.generation.ended() => return Err(why.into()),
        };
        if let Err(error) = &reply {
            self.broker.holder.judge(self.generation.number, error);
        }
        Ok(streams(reply?))
    }
}

impl Broker {
    /// Ids of up to `count` entries of `stream` that are assigned to this consumer, oldest first, after `after`: those in
    /// hand, and those of reads whose answers were lost.
    pub async fn assigned(
        &self,
        stream: &str,
        after: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<EntryId>, BrokerError> {
        let mut command = redis::cmd("XPENDING");
        let from = after.map_or("-".to_owned(), |id| format!("({id}"));
        command.arg(stream).arg(&self.settings.group).arg(from).arg("+").arg(count).arg(&*self.consumer);
        let rows: Vec<(String, String, u64, u64)> = command.query_async(&mut self.connection()).await?;
        Ok(rows.iter().filter_map(|(id, ..)| id.parse().ok()).collect())
    }
}

/// The entries of a reply to XREADGROUP or XREAD: a list of pairs, or a map under RESP3.
pub fn streams(reply: Value) -> Vec<Entry> {
    let streams: Vec<(Value, Value)> = match reply {
        Value::Map(streams) => streams,
        Value::Array(streams) => streams.into_iter().filter_map(pair).collect(),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (name, list) in streams {
        let name: Arc<str> = String::from_utf8_lossy(&bytes(name)).into();
        found.extend(entries(&name, list));
    }
    found
}

/// Entries of one stream: each an id and a flat list of names and values. An entry that was deleted while it was pending
/// has nil in place of the list, or of the whole entry, and is left out.
pub(super) fn entries(stream: &Arc<str>, list: Value) -> Vec<Entry> {
    let Value::Array(list) = list else { return Vec::new() };
    list.into_iter()
        .filter_map(|entry| {
            let (id, fields) = pair(entry)?;
            let id: EntryId = std::str::from_utf8(&bytes(id)).ok()?.parse().ok()?;
            Some(Entry {
                stream: stream.clone(),
                id,
                fields: pairs(fields)?,
                deliveries: None,
                lineage: Lineage::default(),
            })
        })
        .collect()
}

/// The fields of an entry: a flat list of names and values.
pub(super) fn pairs(list: Value) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let Value::Array(list) = list else { return None };
    let mut values = list.into_iter().map(bytes);
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.push((name, value));
    }
    Some(pairs)
}

fn pair(value: Value) -> Option<(Value, Value)> {
    let Value::Array(items) = value else { return None };
    let [first, second] = <[Value; 2]>::try_from(items).ok()?;
    Some((first, second))
}

pub(super) fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Int(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}
