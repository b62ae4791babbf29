use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::testing::account::Accounts;

const LIMIT: usize = 1 << 20;

fn entry(fields: &[(&str, &str)]) -> Entry {
    let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
    Entry::new("jobs".into(), EntryId { ms: 5, seq: 1 }, fields)
}

fn reason(fields: &[(&str, &str)]) -> String {
    decode::<Accounts>(&entry(fields), LIMIT).work.expect_err("the job is dead").reason()
}

const DEPOSIT: [(&str, &str); 3] = [("type", "account.deposit"), ("key", "a"), ("data", r#"{"amount":1}"#)];

#[test]
fn a_job_needs_three_fields() {
    let job = decode::<Accounts>(&entry(&DEPOSIT), LIMIT);
    assert!(job.work.is_ok(), "{:?}", job.work);
    assert_eq!(job.subject, Some(AggregateId::new("account", "a")));
    assert_eq!(job.id, decode::<Accounts>(&entry(&DEPOSIT), LIMIT).id, "every delivery has the same id");
    for missing in ["type", "key", "data"] {
        let rest: Vec<_> = DEPOSIT.into_iter().filter(|(name, _)| *name != missing).collect();
        assert_eq!(reason(&rest), format!("malformed: {missing} is missing"));
    }
}

#[test]
fn a_uuid_is_the_id_and_other_text_is_mapped() {
    let uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    assert_eq!(JobId::from_text(uuid).to_string(), uuid);
    // UUIDv5(UUIDv5(DNS, "lockkeeper"), "order-17"), as any language's library computes it.
    let mapped = Uuid::new_v5(&Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"lockkeeper"), b"order-17");
    assert_eq!(JobId::from_text("order-17").0, mapped);
}

#[test]
fn a_job_without_an_id_gets_one_that_no_other_stream_gives() {
    let of = |stream: &str, ms, lineage| {
        let entry =
            Entry { stream: stream.into(), id: EntryId { ms, seq: 1 }, lineage: Lineage(lineage), ..entry(&DEPOSIT) };
        decode::<Accounts>(&entry, LIMIT).id
    };
    let (one, other) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
    assert_eq!(of("jobs", 5, one), of("jobs", 5, one), "every delivery has the same id");
    let all = [of("jobs", 5, one), of("jobs", 5, other), of("jobs", 5, None), of("jobs", 6, one), of("more", 5, one)];
    assert_eq!(std::collections::BTreeSet::from(all).len(), all.len(), "{all:?}");
    assert_eq!(of("jobs", 5, None), JobId::from_text("jobs/5-1"), "the id that it had before streams had a lineage");
}

#[test]
fn every_wrong_field_is_named() {
    let with = |name, value| {
        let mut fields = DEPOSIT.to_vec();
        fields.retain(|(given, _)| *given != name);
        fields.push((name, value));
        reason(&fields)
    };
    let long = "x".repeat(129);
    assert_eq!(with("key", ""), "malformed: key must be 1 to 128 bytes of text without control characters");
    assert_eq!(with("key", "a\nb"), "malformed: key must be 1 to 128 bytes of text without control characters");
    assert_eq!(with("key", &long), "malformed: key has 129 bytes, more than 128");
    assert_eq!(with("id", &long), "malformed: id has 129 bytes, more than 128");
    assert_eq!(with("expect", "-1"), "malformed: expect must be an unsigned whole number");
    assert_eq!(with("exp", "+1"), "malformed: exp must be an unsigned whole number");
    assert_eq!(with("at", "soon"), "malformed: at must be an unsigned whole number");
    for name in ["at", "exp"] {
        let text = with(name, "1790000000000000");
        assert_eq!(
            text,
            format!("malformed: {name} must be Unix milliseconds; 1790000000000000 looks like microseconds")
        );
    }
    assert_eq!(with("v", "0"), "malformed: v must be from 1 to 65535");
    assert_eq!(with("corr", &long), "malformed: corr has 129 bytes, more than 128");
    assert_eq!(with("reply", "jobs"), "malformed: reply must name a stream that begins with `reply:`");
    assert_eq!(
        with("type", "account.x\u{1b}"),
        "unknown_type: type `account.x\\u{1b}` is not a job type of this daemon"
    );
    let twice = [DEPOSIT.as_slice(), &[("key", "b")]].concat();
    assert_eq!(reason(&twice), "malformed: key is given twice");
}

#[test]
fn data_over_the_limit_is_refused_unparsed() {
    let data = format!(r#"{{"amount":1,"pad":"{}"}}"#, "x".repeat(LIMIT));
    let fields = [("type", "account.deposit"), ("key", "a"), ("data", data.as_str())];
    assert!(reason(&fields).starts_with("too_large: data has "), "{}", reason(&fields));
}

#[test]
fn nesting_is_bounded_in_every_field_and_counted_outside_of_text() {
    let nested = |levels: usize| format!(r#"{{"amount":1,"x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let with = |data: &str| decode::<Accounts>(&entry(&[DEPOSIT[0], DEPOSIT[1], ("data", data)]), LIMIT).work;
    assert!(with(&nested(99)).is_ok());
    let dead = with(&nested(200)).expect_err("it is nested too deep");
    assert_eq!(dead.reason(), "malformed: data is nested deeper than 100 levels");
    assert_eq!(depth(r#"{"a\"[[[":"\\","b":[{}]}"#), 3);
}

#[test]
fn a_fingerprint_tells_fields_apart() {
    assert_ne!(Fingerprint::of([b"ab", b"c", b""]), Fingerprint::of([b"a", b"bc", b""]));
}

#[test]
fn a_reason_fits_its_column() {
    let dead = Dead::new(DeadCode::CannotCommit, "é".repeat(1000));
    assert!(dead.reason().len() <= REASON_BYTES);
}

proptest! {
    #[test]
    fn no_entry_makes_decode_panic(fields in proptest::collection::vec(
        (prop_oneof![Just(b"type".to_vec()), Just(b"key".to_vec()), Just(b"data".to_vec()), Just(b"id".to_vec()),
            Just(b"v".to_vec()), Just(b"reply".to_vec()), any::<Vec<u8>>()],
         prop_oneof![Just(b"account.deposit".to_vec()), Just(b"order.place".to_vec()), any::<Vec<u8>>()]), 0..10)) {
        let entry = Entry::new("jobs".into(), EntryId { ms: 1, seq: 0 }, fields);
        let job = decode::<Accounts>(&entry, LIMIT);
        if let Err(dead) = job.work {
            prop_assert!(!dead.detail.is_empty());
        }
    }

    #[test]
    fn an_entry_id_survives_its_text(ms: u64, seq: u64) {
        let id = EntryId { ms, seq };
        prop_assert_eq!(id.to_string().parse::<EntryId>().ok(), Some(id));
    }
}
