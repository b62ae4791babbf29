//! Reading new entries, and parsing what the broker sends without trusting any of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use crate::job::{Entry, EntryId, Server};
use crate::stream::connection::Broker;
use crate::stream::connection::BrokerError;
use crate::stream::connection::{Generation, dial, moved};

/// How long the broker may take to answer a read, whose connection nothing else looks after.
const READ_LIMIT: Duration = Duration::from_secs(4);

/// Reads new entries, over a connection of its own, which belongs to one generation of the shared one, and fails when that ends.
///
/// A read that was dropped or failed may have had entries assigned to us already. So whoever opens another reader reads what was
/// delivered from the head again ([`Broker::delivered`]).
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

/// What a read brought.
#[derive(Debug, Default)]
pub struct Read {
    /// New entries, in stream order.
    pub entries: Vec<Entry>,
    /// Streams of which another consumer had entries pending when the read was done, and the youngest of all that were pending then.
    pub others: Vec<(String, EntryId)>,
}

impl Reader {
    pub(in crate::stream) fn new(connection: MultiplexedConnection, broker: Broker, generation: Generation) -> Self {
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

    /// The server that it reads from.
    pub fn server(&self) -> Server {
        self.generation.server()
    }

    /// Up to `count` new entries of each of `all` these streams; none when none came within the block time. A read is refused as a
    /// whole when one of its streams is; then each is read by itself, and for a while only those that can be.
    pub async fn read(&mut self, all: &[String], count: usize) -> Result<Read, BrokerError> {
        let lately = self.readable.take_if(|(_, since)| since.elapsed() < LEFT_OUT);
        let left_in = |names: &Vec<String>| all.iter().filter(|name| names.contains(name)).cloned().collect();
        let names: Vec<String> = lately.as_ref().map_or_else(|| all.to_vec(), |(names, _)| left_in(names));
        let read = self.ask(&names, count, true).await;
        self.readable = lately;
        let mut read = match read {
            Err(error) if all.len() > 1 && (error.is_about_keys() || error.is_group_gone()) => {
                self.apart(all, count, error).await?
            }
            read => read?,
        };
        read.entries = self.broker.told_apart(read.entries).await?;
        Ok(read)
    }

    /// Reads each of the streams by itself, without waiting. Fails when none can be read, with the error of all.
    async fn apart(&mut self, names: &[String], count: usize, error: BrokerError) -> Result<Read, BrokerError> {
        let (mut brought, mut readable) = (Read::default(), Vec::new());
        for name in names {
            match self.ask(std::slice::from_ref(name), count, false).await {
                Ok(read) => {
                    brought.entries.extend(read.entries);
                    brought.others.extend(read.others);
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

    /// Reads, and looks who has entries pending after that.
    async fn ask(&mut self, names: &[String], count: usize, waits: bool) -> Result<Read, BrokerError> {
        let settings = &self.broker.settings;
        let mut pipeline = redis::pipe();
        let command = pipeline.cmd("XREADGROUP");
        command.arg("GROUP").arg(&settings.group).arg(&*self.broker.consumer).arg("COUNT").arg(count);
        if waits {
            command.arg("BLOCK").arg(settings.block.as_millis() as u64);
        }
        command.arg("STREAMS").arg(names);
        for _ in names {
            command.arg(">");
        }
        for name in names {
            pipeline.cmd("XPENDING").arg(name).arg(&settings.group);
        }
        let reply: RedisResult<Vec<RedisResult<Value>>> = tokio::select! {
            biased;
            reply = pipeline.ignore_errors().query_async(&mut self.connection) => reply,
            why = self.generation.ended() => return Err(why.into()),
        };
        let replies: RedisResult<Vec<Value>> = reply.and_then(|replies| replies.into_iter().collect());
        if let Err(error) = &replies {
            self.broker.holder.judge(self.generation.number, error);
        }
        let mut replies = replies?.into_iter();
        let entries = streams(replies.next().unwrap_or(Value::Nil));
        let others = names.iter().zip(replies).filter_map(|(name, summary)| {
            let (until, holders) = holders(summary)?;
            let is_shared = holders.iter().any(|holder| **holder != *self.broker.consumer);
            is_shared.then(|| (name.clone(), until))
        });
        let others = others.collect();
        Ok(Read { entries, others })
    }
}

/// The last entry and the consumers that a summary of what is pending names: `[count, first, last, [[consumer, count], …]]`.
fn holders(summary: Value) -> Option<(EntryId, Vec<String>)> {
    type Summary = (u64, Option<String>, Option<String>, Option<Vec<(String, String)>>);
    let (_, _, last, holders): Summary = redis::from_redis_value(summary).ok()?;
    Some((last?.parse().ok()?, holders?.into_iter().map(|(consumer, _)| consumer).collect()))
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
pub(in crate::stream) fn entries(stream: &Arc<str>, list: Value) -> Vec<Entry> {
    let Value::Array(list) = list else { return Vec::new() };
    list.into_iter()
        .filter_map(|entry| {
            let (id, fields) = pair(entry)?;
            let id: EntryId = std::str::from_utf8(&bytes(id)).ok()?.parse().ok()?;
            Some(Entry::new(stream.clone(), id, pairs(fields)?))
        })
        .collect()
}

/// The fields of an entry: a flat list of names and values.
pub(in crate::stream) fn pairs(list: Value) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
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

pub(in crate::stream) fn bytes(value: Value) -> Vec<u8> {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.into_bytes(),
        Value::Int(number) => number.to_string().into_bytes(),
        _ => Vec::new(),
    }
}

impl Broker {
    /// A reader with a connection of its own, since it blocks, to the server of the shared one.
    pub async fn reader(&self) -> Result<Reader, BrokerError> {
        let (mut connection, generation) = self.beside().await?;
        connection.set_response_timeout(self.settings.block + READ_LIMIT);
        Ok(Reader::new(connection, self.clone(), generation))
    }

    /// A connection to the server of the shared one, and the generation of that.
    pub(in crate::stream) async fn beside(&self) -> Result<(MultiplexedConnection, Generation), BrokerError> {
        let generation = self.holder.current().await?;
        let dialled = dial(&self.client, &self.settings, self.settings.block).await?;
        if dialled.run_id != generation.run_id {
            let moved = moved();
            self.holder.end(generation.number, moved.clone());
            return Err(moved.into());
        }
        Ok((dialled.connection, generation))
    }
}
