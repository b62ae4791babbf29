//! Which statement of a packet failed. Anybody's read models share the packet with our guards, so an error is told first by whose
//! statement it is of, and only then by its number. Pure.

/// The parts of a packet that errors mean different things in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Part {
    /// Settings, START TRANSACTION, COMMIT; and whatever is sent outside of a batch.
    Frame,
    /// Read models and snapshots.
    ReadModels,
    /// The sequence row, and what is checked with it.
    Sequence,
    /// Receipts.
    Receipts,
    /// Events.
    Events,
    /// A subscription's checkpoint.
    Checkpoint,
}

/// Statements before the read models: a setting, and START TRANSACTION.
const OPENING: usize = 2;

impl Part {
    /// The part of a batch's packet whose statement failed when `done` statements had succeeded. The statements of the sequence
    /// row begin at the byte `sequence`.
    pub fn of(packet: &str, sequence: usize, done: usize) -> Self {
        let Some((begins, statement)) = statements(packet).nth(done) else {
            return Self::Frame;
        };
        if begins < sequence {
            return if done < OPENING { Self::Frame } else { Self::ReadModels };
        }
        let begins = |words: &str| statement.starts_with(words);
        if begins("INSERT INTO events ") {
            Self::Events
        } else if begins("INSERT INTO receipts ") {
            Self::Receipts
        } else if begins("COMMIT") || begins("SET SESSION wait_timeout") {
            Self::Frame
        } else {
            Self::Sequence
        }
    }
}

/// The statements of a packet, each with the byte at which it begins. What is only white space is none.
pub(in crate::store) fn statements(packet: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from;
        let end = end_of(packet.as_bytes(), start);
        from = (end + 1).min(packet.len());
        let statement = packet.get(start..end)?;
        let begins = start + (statement.len() - statement.trim_start().len());
        (!statement.trim().is_empty()).then_some((begins, statement.trim()))
    })
}

/// Where the statement ends that begins here.
fn end_of(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b';' => return at,
            quote @ (b'\'' | b'"' | b'`') => at = after_quoted(bytes, at + 1, *quote),
            b'#' => at = after(bytes, at, b"\n"),
            b'-' if bytes[at..].starts_with(b"-- ") => at = after(bytes, at, b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => at = after(bytes, at + 2, b"*/"),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Behind the closing quote. A doubled one closes and opens again, which comes to the same.
fn after_quoted(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quote != b'`' => at += 2,
            _ if *byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn after(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    let found = bytes[from..].windows(end.len()).position(|window| window == end);
    found.map_or(bytes.len(), |place| from + place + end.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::sql::Sql;

    #[test]
    fn each_statement_of_a_packet_has_its_part() {
        let opening = "SET SESSION wait_timeout = 1; START TRANSACTION; ";
        let models = "INSERT INTO items VALUES ('a;b\\'', \"c;\"\";d\"); /* e; */ UPDATE `f;` SET g = 1 -- h;\n; ";
        let rest = "UPDATE event_sequence SET batch = batch + 1; SET SESSION x = 1; SELECT 1; INSERT INTO receipts (a) \
                    VALUES (1); INSERT INTO events (a) VALUES (1); COMMIT; SET SESSION wait_timeout = DEFAULT";
        let packet = format!("{opening}{models}{rest}");
        let parts: Vec<Part> = (0..11).map(|done| Part::of(&packet, opening.len() + models.len(), done)).collect();
        use Part::{Events, Frame, ReadModels, Receipts, Sequence};
        let expected =
            [Frame, Frame, ReadModels, ReadModels, Sequence, Sequence, Sequence, Receipts, Events, Frame, Frame];
        assert_eq!(parts, expected);
        assert_eq!(Part::of(&packet, 0, 99), Frame, "there is no such statement");
    }

    proptest! {
        #[test]
        fn what_a_text_holds_ends_no_statement(texts in prop::collection::vec(any::<String>(), 0..5)) {
            let mut sql = Sql::new();
            for text in &texts {
                sql.raw("INSERT INTO t VALUES (").text(text).raw(");");
            }
            let start = sql.len();
            sql.raw("COMMIT");
            prop_assert_eq!(statements(sql.as_str()).last(), Some((start, "COMMIT")));
        }
    }
}
