//! The program on servers of its own, as a stranger runs it.

use lockkeeper::testing::TestDaemon;

#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_run_and_the_audit_compares_the_read_model() {
    let mut daemon = TestDaemon::start(env!("CARGO_BIN_EXE_accounts")).await;
    for (job, data, outcome) in [
        ("account.deposit", r#"{"amount":9}"#, "applied"),
        ("account.transfer", r#"{"to":"bob","amount":4}"#, "applied"),
        ("account.transfer", r#"{"to":"bob","amount":6}"#, "overdraft"),
    ] {
        let (_, output) = daemon.run(&["enqueue", job, "ada", "--data", data, "--wait"]).await;
        assert!(output.contains(outcome), "{output}");
        daemon.kill_and_restart().await;
    }
    let (code, output) = daemon.run(&["audit"]).await;
    assert!(code == Some(0) && output.contains("2 accounts, every column"), "{output}");
    daemon.drain().await;
}
