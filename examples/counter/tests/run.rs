//! The program on servers of its own, as a stranger runs it.

use lockkeeper::testing::TestDaemon;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_run_and_the_audit_passes_with_the_engine_s_tables_alone() {
    let daemon = TestDaemon::start(env!("CARGO_BIN_EXE_counter")).await;
    let (code, output) = daemon.run(&["enqueue", "counter.add", "visits", "--data", r#"{"by":7}"#, "--wait"]).await;
    assert!(code == Some(0) && output.contains("applied"), "{output}");
    let (code, output) = daemon.run(&["enqueue", "counter.add", "visits", "--data", r#"{"by":"7"}"#]).await;
    assert!(code == Some(1) && output.contains("data.by"), "{output}");
    let (code, output) = daemon.run(&["audit"]).await;
    assert_eq!(code, Some(0), "{output}");
    daemon.drain().await;
}
