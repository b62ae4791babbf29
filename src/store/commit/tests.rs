//! The text of a batch's packet: what everything rests on, to be read and not only run.

use uuid::Uuid;

use super::super::sql::Sql;
use super::*;
use crate::domain::{AggregateId, EncodedEvent};
use crate::job::{Fingerprint, JobId, Outcome};

/// Two jobs, one of which is rejected, decided on a batch that had not committed; with a read model and a snapshot.
fn batch() -> (Transaction, AppendCondition) {
    let [placed, refused] = [1, 2].map(|n| JobId(Uuid::from_u128(n)));
    let order = AggregateId::new("order", "o-1");
    let event = EncodedEvent { event_type: "order.placed", schema_version: 1, payload: r#"{"lines":[]}"#.to_owned() };
    let append = EventToAppend {
        aggregate: order.clone(),
        version: 1,
        job: placed,
        index: 0,
        event,
        metadata: r#"{"try":1}"#.to_owned(),
    };
    let mut projections = Sql::new();
    projections.raw("INSERT INTO orders (id, version) VALUES (").text("o-1").raw(",").number(1u64).raw("); ");
    let snapshot = Snapshot {
        aggregate: order,
        version: 1,
        event_id: append.event_id(),
        schema_version: 1,
        state: b"{}".to_vec(),
    };
    let transaction = Transaction {
        projections,
        generation: Some(7),
        snapshots: vec![snapshot],
        receipts: vec![
            Receipt { job: placed, outcome: Outcome::applied(Some((0, 0))), fingerprint: Fingerprint([1; 16]) },
            Receipt {
                job: refused,
                outcome: Outcome::rejected("stock_insufficient"),
                fingerprint: Fingerprint([2; 16]),
            },
        ],
        events: vec![append],
        read_only: vec![(AggregateId::new("item", "pen"), 7)],
    };
    let anchors = vec![Anchor { position: 40, event_id: Uuid::from_u128(40) }];
    let aggregate = AggregateId::new("item", "pen");
    let expected = vec![Expected { aggregate, version: 7, metadata: r#"{"try":0}"#.to_owned() }];
    (transaction, AppendCondition { anchors, expected })
}

#[test]
fn the_packet_is_the_one_that_the_documentation_shows() {
    let (transaction, basis) = batch();
    let packet = transaction.packet(1 << 24).expect("it fits");
    let text = packet.text_for(&basis, Some(41));
    let lines: String = part::statements(&text).map(|(_, statement)| format!("{statement};\n")).collect();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/commit/packet.sql");
    if std::env::var_os("LOCKKEEPER_BLESS").is_some() {
        std::fs::write(golden, &lines).expect("the golden file is written");
    }
    assert_eq!(lines, include_str!("packet.sql"), "LOCKKEEPER_BLESS=1 writes the file anew");
}
