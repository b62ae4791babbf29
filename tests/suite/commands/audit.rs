//! `audit`: a database in use passes, a damaged one does not, and what is missing is named.

use std::collections::HashSet;

use lockkeeper::job::JobId;
use sqlx::Executor;

use support::{audit, lockkeeper, world::World};

const PEN: &str = r#"{"name":"Pen","supply_price":"1.000","vat":"0.100","is_tax_free":false,"stock":0,"member_id":7}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_written_to_passes_as_it_was_when_the_audit_began() {
    let world = World::new().await;
    let _daemon = world.daemon(&[]).await;
    assert_eq!(world.outcome("item.register", &world.id("pen"), PEN).await, "applied");
    let mut audits = 0;
    let pushing = async {
        for _ in 0..40 {
            assert_eq!(world.outcome("item.restock", &world.id("pen"), r#"{"quantity":1}"#).await, "applied");
        }
    };
    let auditing = async {
        loop {
            assert_eq!(audit(&world.database, None).await, Ok(()));
            audits += 1;
        }
    };
    tokio::select! {
        () = pushing => {}
        () = auditing => unreachable!("it never ends"),
    }
    assert!(audits > 0, "no audit came to its end while jobs were run");
}

#[tokio::test]
async fn what_is_wrong_is_exit_1_with_its_promise_and_a_job_without_a_receipt_is_wrong() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    assert_eq!(world.outcome("item.register", &world.id("pen"), PEN).await, "applied");
    drop(daemon);
    let never = JobId::from_text("never-run");
    let verdict = audit(&world.database, Some(&HashSet::from([never]))).await.expect_err("it has no receipt");
    assert!(verdict.contains("Some(1)") && verdict.contains(&never.to_string()), "{verdict}");
    world.sql().await.execute("UPDATE items SET stock = stock + 1").await.expect("the read model is damaged");
    let mut environment = world.environment();
    let (code, output) = lockkeeper(&["audit", "--json"], &environment).await;
    assert_eq!(code, Some(1), "{output}");
    let failed: Vec<serde_json::Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let failed: Vec<_> = failed.iter().filter(|line| line["passed"] == false).collect();
    assert_eq!(failed.len(), 1, "{output}");
    assert_eq!(failed[0]["name"], "read models = fold of the events");
    assert!(failed[0]["detail"].as_str().is_some_and(|detail| detail.contains("stock is 1, should be 0")), "{output}");
    let (code, output) = lockkeeper(&["audit", "--jobs", "/nowhere"], &environment).await;
    assert!(code == Some(64) && output.contains("--jobs: /nowhere cannot be read"), "{code:?} {output}");
    environment.insert("DATABASE_URL".into(), "mysql://nobody@127.0.0.1:1/none".into());
    let (code, output) = lockkeeper(&["audit"], &environment).await;
    assert_eq!(code, Some(69), "{output}");
}
