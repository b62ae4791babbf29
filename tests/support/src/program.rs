//! The program under test, as its users run it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use lockkeeper::job::JobId;

/// The file of the program, which cargo builds beside the tests' own folder.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a file");
    let file = own.ancestors().nth(2).expect("it lies in a folder below the program's").join("lockkeeper");
    assert!(file.is_file(), "{} is not there: build it first, with the same profile", file.display());
    file
}

/// Runs a command of the binary with just this environment: its exit code, and all that it printed.
pub async fn lockkeeper(arguments: &[&str], environment: &HashMap<String, String>) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(program());
    command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).envs(environment);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the command ends");
    let std::process::Output { status, stdout, stderr } = output.expect("the binary runs");
    (status.code(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

/// What `audit` needs to know: it only reads the database.
pub(crate) fn audit_environment(url: &str) -> HashMap<String, String> {
    HashMap::from([
        ("DATABASE_URL".to_owned(), url.to_owned()),
        ("REDIS_URL".to_owned(), "redis://127.0.0.1:1".to_owned()),
        ("REDIS_URL_1".to_owned(), "redis://127.0.0.1:1".to_owned()),
    ])
}

/// Audits the database at `url` as an operator does; `pushed` are the jobs that must have a receipt. The error is the verdict.
pub async fn audit(url: &str, pushed: Option<&HashSet<JobId>>) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs").display().to_string();
    let mut arguments = vec!["audit"];
    if let Some(pushed) = pushed {
        let lines: String = pushed.iter().map(|job| format!("{job}\n")).collect();
        std::fs::write(&file, lines).expect("the ids are written");
        arguments.extend(["--jobs", &file]);
    }
    match lockkeeper(&arguments, &audit_environment(url)).await {
        (Some(0), _) => Ok(()),
        (code, output) => Err(format!("the audit ended with {code:?}:\n{output}")),
    }
}
