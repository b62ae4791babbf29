//! Entries that can never be run: each gets a receipt and a dead letter that names the field, and delays nobody.

use support::world::{Field, World};

#[tokio::test]
async fn malformed_entries_are_dead_lettered_with_the_field_and_the_jobs_around_them_are_applied() {
    let world = World::new().await;
    let pen = world.id("pen");
    let register = br#"{"name":"pen","supply_price":"1","vat":"0","is_tax_free":true,"stock":0,"member_id":1}"#;
    let key = pen.as_bytes();
    world.push_raw(&[(b"type", b"item.register"), (b"key", key), (b"data", register)]).await;
    let deep = format!("{{\"quantity\":1,\"x\":{}{}}}", "[".repeat(200), "]".repeat(200)).into_bytes();
    let large = format!("{{\"quantity\":1,\"pad\":\"{}\"}}", "x".repeat(1 << 20)).into_bytes();
    let long_key = "k".repeat(10_000).into_bytes();
    let good: &[u8] = br#"{"quantity":1}"#;
    let cases: Vec<(Vec<Field<'_>>, &str)> = vec![
        (vec![(b"key", key), (b"data", good)], "malformed: type is missing"),
        (vec![(b"type", b"item.paint"), (b"key", key), (b"data", good)], "unknown_type: type `item.paint`"),
        (vec![(b"type", b"item.restock"), (b"data", good)], "malformed: key is missing"),
        (vec![(b"type", b"item.restock"), (b"key", key)], "malformed: data is missing"),
        (
            vec![(b"type", b"item.restock"), (b"key", key), (b"data", b"{\"quantity\":")],
            "malformed: data is not valid JSON",
        ),
        (vec![(b"type", b"item.restock"), (b"key", key), (b"data", &deep)], "malformed: data is nested deeper"),
        (
            vec![(b"type", b"item.restock"), (b"key", key), (b"data", b"{\"quantity\":1,\"\xff\":2}")],
            "malformed: data is not UTF-8",
        ),
        (vec![(b"type", b"item.restock"), (b"key", b"\xff\xfe"), (b"data", good)], "malformed: key is not UTF-8"),
        (vec![(b"type", b"item.restock"), (b"key", key), (b"data", &large)], "too_large: data has"),
        (
            vec![(b"type", b"item.restock"), (b"key", key), (b"data", b"{\"quantity\":0}")],
            "malformed: data.quantity must be",
        ),
        (vec![(b"type", b"item.restock"), (b"key", &long_key), (b"data", good)], "malformed: key has 10000 bytes"),
        (vec![(b"\xff", b"\xff"), (b"type", b"\xff"), (b"key", key), (b"data", good)], "unknown_type: type"),
    ];
    for (fields, _) in &cases {
        world.push_raw(fields).await;
        world.push_raw(&[(b"type", b"item.restock"), (b"key", key), (b"data", good)]).await;
    }
    let daemon = world.daemon(&[]).await;
    world.drained().await;
    let mut letters = world.entries(&format!("{}:dead", world.stream)).await;
    // Batches beside each other end in any order.
    letters.sort_by_key(|letter| letter["source"].parse::<lockkeeper::job::EntryId>().expect("an entry's id"));
    assert_eq!(letters.len(), cases.len(), "each malformed entry has one letter: {letters:#?}");
    for (letter, (_, expected)) in letters.iter().zip(&cases) {
        let reason = &letter["reason"];
        assert!(reason.starts_with(expected), "expected `{expected}…`, the letter says `{reason}`");
        assert!(
            letter["source"].contains('-') && letter["time"].len() == 13 && letter["deliveries"] == "1",
            "{letter:?}"
        );
        let id = lockkeeper::job::JobId::from_text(&letter["id"]);
        assert_eq!(world.receipt(id).await.outcome, "dead");
    }
    assert_eq!(world.history("item", &pen).await.len(), 1 + cases.len(), "every job around them is applied");
    let dead = format!(r#"lockkeeper_jobs_dead_lettered_total{{queue="{}",reason="too_large"}}"#, world.stream);
    assert_eq!(daemon.metric(&dead).await, Some(1.0));
}

/// Ids are any text, and ids that look alike are different aggregates. Another daemon goes on with them, so what it knows of
/// them is what the database says.
#[tokio::test]
async fn every_id_is_one_aggregate_whatever_its_characters() {
    let world = World::new().await;
    let wide = "ß".repeat(50);
    let ids = ["plain", "Plain", "plain ", "münz", "mu\u{308}nz", "雪😀", "it's", "a\"b\\c", "%_x'27'", "[1,2]", &wide];
    let ids = ids.map(|id| world.id(id));
    let register = r#"{"name":"x","supply_price":"1","vat":"0","is_tax_free":true,"stock":1,"member_id":1}"#;
    for round in 1..=2 {
        let daemon = world.daemon(&[]).await;
        for id in &ids {
            if round == 1 {
                world.push("item.register", id, register).await;
            }
            world.push("item.restock", id, r#"{"quantity":1}"#).await;
        }
        world.drained().await;
        // It is there already: nothing but the look at its head guards this no.
        let mut again = Vec::new();
        for id in &ids {
            again.push(world.push("item.register", id, register).await);
        }
        world.drained().await;
        for (id, job) in ids.iter().zip(again) {
            let receipt = world.receipt(job).await;
            assert_eq!(receipt.reason.as_deref(), Some("item_exists"), "{id} is known in round {round}");
            assert_eq!(world.history("item", id).await.len(), 1 + round, "{id} has its own history in round {round}");
        }
        drop(daemon);
    }
}
