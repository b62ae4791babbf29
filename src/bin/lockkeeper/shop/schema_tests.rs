//! What the schemas take is what the decoder takes, but for what JSON Schema cannot say.

use serde_json::{Value, json};

use super::Shop;
use lockkeeper::domain::Domain;
use lockkeeper::testing::golden;

/// For each job type, data with every field.
fn samples() -> [(&'static str, Value); 7] {
    let register = json!({
        "name": "Pen", "supply_price": "1.000", "vat": 0.1, "is_tax_free": false, "stock": 5, "member_id": 7,
    });
    let lines = json!([{ "item_id": "pen", "quantity": 2 }, { "item_id": "ink", "quantity": 1 }]);
    [
        ("item.register", register),
        ("item.restock", json!({ "quantity": 3 })),
        ("item.reprice", json!({ "supply_price": 2, "vat": "0.25" })),
        ("item.allow_sale", json!({})),
        ("item.deny_sale", json!({})),
        ("order.place", json!({ "member_id": 9, "lines": lines })),
        ("order.cancel", json!({ "reason": "late" })),
    ]
}

/// What a field may be by mistake. Numbers are as serde writes them, without a point where they are whole.
fn slips() -> Vec<Value> {
    let texts = ["", "x", "7.500", "7.1234", "-1", ".5", "line one\nline two", "\u{85}", "true"];
    let long = [254, 255, 256].map(|length| json!("é".repeat(length)));
    let lists = [0, 1, 100, 101].map(|length| {
        (0..length).map(|number| json!({ "item_id": number.to_string(), "quantity": 1 })).collect::<Value>()
    });
    let numbers = [json!(0), json!(1), json!(-1), json!(u64::MAX), json!(0.5), json!(7.125), json!(7.0625)];
    let others = [Value::Null, json!(true), json!({}), json!([7]), json!([["pen", 1]]), json!([null])];
    texts.map(Value::from).into_iter().chain(long).chain(lists).chain(numbers).chain(others).collect()
}

/// Paths of all values inside.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| paths(inner, &format!("{at}/{name}"), found)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| paths(inner, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

#[test]
fn a_schema_takes_what_the_decoder_takes() {
    assert_eq!(samples().map(|(job_type, _)| job_type), Shop::JOBS, "every job has its sample");
    let (mut taken, mut refused) = (0, 0);
    for (job_type, sample) in samples() {
        let schema = Shop::job_schema(job_type).expect("every job has one").to_value();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let mut compare = |data: &Value| {
            let decoded = Shop::command(job_type, "key", 1, &data.to_string());
            assert_eq!(validator.is_valid(data), decoded.is_ok(), "{job_type} {data}: {decoded:?}; {schema:#}");
            *(if decoded.is_ok() { &mut taken } else { &mut refused }) += 1;
        };
        compare(&sample);
        let mut all = Vec::new();
        paths(&sample, "", &mut all);
        for path in &all {
            for slip in slips() {
                let mut data = sample.clone();
                *data.pointer_mut(path).expect("it is there") = slip;
                compare(&data);
            }
            let Some((parent, name)) = path.rsplit_once('/') else { continue };
            let mut data = sample.clone();
            if let Some(Value::Object(fields)) = data.pointer_mut(parent) {
                fields.remove(name);
                fields.insert("unknown".to_owned(), json!([1]));
                compare(&data);
            }
        }
    }
    assert!(taken > 80 && refused > 300, "{taken} were taken and {refused} refused");
}

#[test]
fn every_event_has_a_schema_that_takes_it_as_it_was_first_written() {
    for golden::Stored { event_type, payload, now, .. } in golden::stored(super::GOLDEN) {
        let payload = now.unwrap_or(payload);
        let schema = Shop::event_schema(event_type).expect("every event has one").to_value();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let payload: Value = serde_json::from_str(payload).expect("JSON");
        assert!(validator.is_valid(&payload), "{event_type} {payload}: {schema:#}");
        assert!(!validator.is_valid(&json!(7)), "{event_type} is an object");
    }
}
