//! A transaction as one packet, and its commit.

use std::collections::BTreeMap;
use std::fmt::Write;

use uuid::Uuid;

use super::super::connection::Connection;
use super::super::error::{Outage, StoreError};
use super::super::row::column;
use super::super::session::HOLDER_WAIT_SECONDS;
use super::super::sql::Sql;
use super::condition::{Anchor, AppendCondition, Expected};
use super::event::EventToAppend;
use super::part::Part;

/// A transaction that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The last position before this transaction: its event of index `i` has position `base + 1 + i`.
    pub base: u64,
}

/// A transaction as the server gets it, but for what it rests on and where in the log its events come.
#[derive(Debug)]
pub struct Packet {
    text: String,
    /// What belongs between which bytes of the text.
    gaps: Vec<(usize, Placeholder)>,
    /// The builds of read models that it writes.
    generation: Option<u32>,
    /// How many events it has of which type.
    pub events: BTreeMap<&'static str, u64>,
    /// The last of its events, with its id.
    pub last: Option<(Expected, Uuid)>,
}

/// What a packet lacks until it is sent.
#[derive(Clone, Copy, Debug)]
enum Placeholder {
    /// The statements that take the sequence row and check the basis.
    Sequence,
    /// A number that is added to the last position before the transaction.
    Position(u64),
}

/// A packet under construction.
#[derive(Debug, Default)]
pub(super) struct PacketBuilder {
    pub sql: Sql,
    gaps: Vec<(usize, Placeholder)>,
}

impl PacketBuilder {
    /// The sequence row is taken here.
    pub fn sequence(&mut self) {
        self.gaps.push((self.sql.len(), Placeholder::Sequence));
    }

    /// The position of the transaction's event of this number, of which the first is 1; 0 stands for the last position before.
    pub fn position(&mut self, number: u64) {
        self.gaps.push((self.sql.len(), Placeholder::Position(number)));
    }

    /// Appends a statement that begins with `head` and has a row for each of `items`, if there are any.
    pub fn rows<T>(
        &mut self,
        head: &'static str,
        items: impl IntoIterator<Item = T>,
        mut row: impl FnMut(&mut Self, T),
    ) {
        let before = self.sql.len();
        for item in items {
            self.sql.raw(if self.sql.len() == before { head } else { "," });
            row(self, item);
        }
        self.sql.raw(if self.sql.len() == before { "" } else { "; " });
    }

    /// About how many bytes it will have, and not fewer but for the checks: no position is longer than the largest number.
    pub fn size(&self) -> usize {
        self.sql.len() + 20 * self.gaps.len()
    }

    /// The packet of a transaction with these events.
    pub fn packet(self, events: &[EventToAppend], generation: Option<u32>) -> Packet {
        let mut types = BTreeMap::new();
        events.iter().for_each(|append| *types.entry(append.event.event_type).or_default() += 1);
        let last = events.last().map(|append| {
            let EventToAppend { aggregate, version, metadata, .. } = append.clone();
            (Expected { aggregate, version, metadata }, append.event_id())
        });
        Packet { text: self.sql.into_string(), gaps: self.gaps, generation, events: types, last }
    }
}

/// Whether a packet of so many bytes stays below the server's limit, with room for its checks and for what the protocol adds.
pub(super) fn fits(bytes: usize, max_packet: u64) -> bool {
    bytes as u64 + 4096 <= max_packet
}

impl Packet {
    /// How many events it has.
    pub fn count(&self) -> u64 {
        self.events.values().sum()
    }

    /// The last of its events, now that it is committed.
    pub fn anchor(&self, committed: Committed) -> Option<Anchor> {
        let (_, event_id) = self.last.as_ref()?;
        Some(Anchor { position: committed.base + self.count(), event_id: *event_id })
    }

    /// The statements. When `base` is known, positions are numbers, which cost the server less than sums with a variable; what
    /// is known may be wrong, and is checked like the basis.
    ///
    /// The second is the byte at which the statements of the sequence row begin.
    fn statements(&self, basis: &AppendCondition, base: Option<u64>) -> (String, usize) {
        let mut text = String::with_capacity(self.text.len() + 20 * self.gaps.len() + 1024);
        let (mut copied, mut sequence) = (0, 0);
        for (at, gap) in &self.gaps {
            text.push_str(&self.text[copied..*at]);
            copied = *at;
            match (gap, base) {
                (Placeholder::Sequence, _) => {
                    sequence = text.len();
                    text.push_str(self.sequence(basis, base).as_str());
                }
                // Writing to a string does not fail.
                (Placeholder::Position(number), Some(base)) => drop(write!(text, "{}", base + number)),
                (Placeholder::Position(number), None) => drop(write!(text, "@base+{number}")),
            }
        }
        text.push_str(&self.text[copied..]);
        (text, sequence)
    }

    /// The statements alone.
    #[cfg(test)]
    pub(super) fn text_for(&self, basis: &AppendCondition, base: Option<u64>) -> String {
        self.statements(basis, base).0
    }

    /// Takes the sequence row, with the checks that the log ends at `base` and has the basis. A column that cannot be NULL turns
    /// to NULL if not, which ends the packet before its COMMIT.
    ///
    /// Loads and commits may go to different servers, and the one that was failed over to may lack what was loaded. And what is
    /// expected may have failed, which can only be looked for when whoever had the row before has committed or failed.
    fn sequence(&self, AppendCondition { anchors, expected }: &AppendCondition, base: Option<u64>) -> Sql {
        let mut sql = Sql::new();
        sql.raw("UPDATE event_sequence SET batch = batch + 1, ");
        if let Some(generation) = self.generation {
            sql.raw("generation = IF(generation = ").number(generation).raw(", ").number(generation).raw(", NULL), ");
        }
        sql.raw("position = ");
        match base {
            Some(base) => {
                sql.raw("IF(position = ").number(base).raw(", ").number(base + self.count()).raw(", NULL)");
            }
            None => {
                sql.raw("LAST_INSERT_ID(position + ").number(self.count()).raw(")");
            }
        }
        if !anchors.is_empty() {
            sql.raw(", unchanged = IF(TRUE");
            for Anchor { position, event_id } in anchors {
                sql.raw(" AND EXISTS(SELECT 1 FROM events WHERE position = ").number(*position);
                sql.raw(" AND event_id = ").bytes(event_id.as_bytes()).raw(")");
            }
            sql.raw(", 1, NULL)");
        }
        // Without the row nothing may be committed, and no server takes another word for how a COMMIT ends. (A number that is
        // NULL would be taken for 0.)
        sql.raw(" WHERE id = 1; SET SESSION completion_type = IF(ROW_COUNT() = 1, 'NO_CHAIN', 'no row')");
        sql.raw(", innodb_lock_wait_timeout = ").number(HOLDER_WAIT_SECONDS);
        if base.is_none() {
            sql.raw(", @base = LAST_INSERT_ID() - ").number(self.count());
        }
        sql.raw("; ");
        if !expected.is_empty() {
            sql.raw("UPDATE event_sequence SET unchanged = IF(TRUE");
            for Expected { aggregate, version, metadata } in expected {
                sql.raw(" AND EXISTS(SELECT 1 FROM events WHERE aggregate_type = ").text(aggregate.kind);
                sql.raw(" AND aggregate_id = ").text(&aggregate.id).raw(" AND version = ").number(*version);
                sql.raw(" AND metadata = ").text(metadata).raw(")");
            }
            sql.raw(", 1, NULL) WHERE id = 1; ");
        }
        sql
    }
}

impl Connection {
    /// Commits a transaction as a whole, or fails with nothing of it done, except after [`StoreError::Unknown`]. What it was
    /// decided on rests on the `basis`: nothing is committed unless the log has it. `base` is where the log will end before it,
    /// if that can be foreseen; when it is wrong, the transaction has to be [repeated](super::super::Repeat::Position). `is_next` is
    /// told where it does end, once it has the sequence row and rests on what is so: from then on no other
    /// transaction comes before this one.
    pub async fn commit(
        self,
        packet: &Packet,
        basis: &AppendCondition,
        base: Option<u64>,
        mut is_next: impl FnMut(u64) + Send,
    ) -> Result<Committed, StoreError> {
        let seen = |row: &_| {
            if let Ok(base) = column(row, 0) {
                is_next(base);
            }
        };
        let (statements, sequence) = packet.statements(basis, base);
        let part = |done| Part::of(&statements, sequence, done);
        let rows = self.rows(&statements, true, part, seen).await?;
        let row =
            rows.last().ok_or_else(|| StoreError::Unavailable(Outage::Other, "COMMIT gave no position".into()))?;
        Ok(Committed { base: column(row, 0)? })
    }
}
