//! No command minds a reader that has gone, and each tells when its output cannot be written.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use support::{eventually, lockkeeper, world::World};

/// Where output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sink {
    /// A pipe whose reader has gone.
    Closed,
    /// A device without room.
    Full,
}

impl Sink {
    fn open(self) -> Stdio {
        match self {
            Sink::Closed => {
                let (_, writer) = std::io::pipe().expect("a pipe");
                writer.into()
            }
            Sink::Full => OpenOptions::new().write(true).open("/dev/full").expect("/dev/full").into(),
        }
    }
}

/// Runs a command whose standard output is `sink`: its exit code, and what it said on standard error.
async fn into(sink: Sink, arguments: &[String], environment: &HashMap<String, String>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    command.args(arguments).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).envs(environment);
    command.stdin(Stdio::null()).stdout(sink.open()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("the command ends");
    let output = output.expect("the binary runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Every command that the help names, with those below it.
async fn commands() -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![String::new()];
    while let Some(command) = left.pop() {
        let words: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let (code, help) = lockkeeper(&words, &HashMap::new()).await;
        assert_eq!(code, Some(0), "{help}");
        let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
        let listed =
            listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
        let below: Vec<String> =
            listed.filter(|name| *name != "help").map(|name| format!("{command} {name}").trim().to_owned()).collect();
        if below.is_empty() {
            found.push(command);
        }
        left.extend(below);
    }
    found
}

/// Arguments with which a command prints something and ends, the `time`th time; `None` for those that do not end by themselves.
fn arguments(command: &str, listen: &str, pen: &str, time: usize) -> Option<String> {
    let more = match command {
        "run" | "dev" => return None,
        "migrate" | "check" | "audit" | "schema" | "schemas" | "dead-letters list" | "scheduled list"
        | "streams list" | "subscriptions list" => String::new(),
        "streams pause" => "--all --reason late --until 1h".to_owned(),
        "streams resume" => "--all".to_owned(),
        "subscriptions pause" => "sales_per_day --reason late".to_owned(),
        "subscriptions resume" => "sales_per_day".to_owned(),
        "subscriptions parked drop" => "sales_per_day --yes sales_per_day".to_owned(),
        // There is nothing to list, and nothing to do.
        "subscriptions parked list" | "subscriptions parked retry" | "subscriptions skip" => return None,
        "projections list" => String::new(),
        "projections status" | "projections rebuild" | "projections verify" => "items".to_owned(),
        "projections switch" => "items@1".to_owned(),
        "projections retire" => "items@2".to_owned(),
        "projections drop" => "items@3 --yes items@3".to_owned(),
        "enqueue" => format!(r#"item.restock {pen} --data {{"quantity":1}}"#),
        "job" => "registered".to_owned(),
        "events" | "state" => format!("item/{pen}"),
        "dead-letters show" => "broken".to_owned(),
        "dead-letters requeue" | "dead-letters drop" => "--all --dry-run".to_owned(),
        "scheduled cancel" => format!("later-{time}"),
        "prune" => "--receipts-older-than 90d --dry-run".to_owned(),
        "top" => format!("--once --url {listen}"),
        "demo" => "--orders 10 --items 2 --producers 1".to_owned(),
        // Measuring takes long, and each of them ends in the same line of code.
        _ if command.starts_with("bench ") => "--help".to_owned(),
        _ => panic!("a new command, `{command}`: say with which arguments it prints something"),
    };
    Some(format!("{command} {more}"))
}

#[tokio::test]
async fn a_closed_pipe_ends_every_command_quietly_and_a_full_device_is_exit_74_with_the_cause() {
    let world = World::new().await;
    let daemon = world.daemon(&[]).await;
    let pen = world.id("pen");
    let data = r#"{"name":"pen","supply_price":"1","vat":"0","is_tax_free":false,"stock":3,"member_id":1}"#;
    let registered = world.push_with("item.register", &pen, data, &[("id", "registered")]).await;
    world.receipt(registered).await;
    let broken = world.push_with("item.none", &pen, "{}", &[("id", "broken")]).await;
    world.receipt(broken).await;
    let tomorrow = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    let tomorrow = tomorrow.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis().to_string();
    for words in ["rebuild items --yes --no-switch", "rebuild items --yes --no-switch", "retire items@3"] {
        let words: Vec<&str> = ["projections"].into_iter().chain(words.split(' ')).collect();
        let (code, said) = lockkeeper(&words, &world.environment()).await;
        assert_eq!(code, Some(0), "{said}");
    }
    for id in ["keep", "later-0", "later-1"] {
        world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &[("id", id), ("at", &tomorrow)]).await;
    }
    let environment = world.environment();
    eventually("all three are in the schedule", async || {
        let (_, listed) = lockkeeper(&["scheduled", "list", "--json"], &environment).await;
        (listed.lines().count() == 3).then_some(())
    })
    .await;
    let mut lines: Vec<String> = commands().await;
    assert!(lines.len() > 15, "{lines:?}");
    lines.extend(["--help", "--version"].map(str::to_owned));
    for command in lines {
        for (time, sink) in [Sink::Closed, Sink::Full].into_iter().enumerate() {
            let line = match command.starts_with("--") {
                true => Some(command.clone()),
                false => arguments(&command, &daemon.listen, &pen, time),
            };
            let Some(line) = line else { continue };
            // Not every command prints JSON, and a job is cancelled once.
            let without = ["migrate", "scheduled cancel", "demo"].contains(&command.as_str());
            let json_too = !(without || line.contains("--help") || line.contains("--version"));
            for json in [false, true].into_iter().take(1 + usize::from(json_too)) {
                let words: Vec<String> =
                    line.split_whitespace().chain(json.then_some("--json")).map(str::to_owned).collect();
                let (code, said) = into(sink, &words, &environment).await;
                let case = format!("{words:?} into {sink:?}: {said}");
                assert!(!said.contains("panicked"), "{case}");
                match sink {
                    Sink::Closed => assert_eq!(code, Some(0), "{case}"),
                    Sink::Full => {
                        assert_eq!(code, Some(74), "{case}");
                        assert!(said.contains("No space left"), "{case}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_daemon_whose_log_cannot_be_written_works_and_drains_and_an_error_keeps_its_exit_code() {
    let world = World::new().await;
    for sink in [Sink::Closed, Sink::Full] {
        let environment = world.environment();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        command.arg("run").env_clear().envs(&environment).stdin(Stdio::null()).stdout(sink.open()).stderr(sink.open());
        let mut process = command.spawn().expect("the daemon starts");
        let pen = world.id(format!("{sink:?}"));
        world.item_on_sale(&pen, 1).await;
        // Each of these is a line of the log.
        for _ in 0..3 {
            let id = process.id().to_string();
            let sent = Command::new("kill").args(["-HUP", &id]).status().expect("kill runs");
            assert!(sent.success(), "it is gone");
        }
        assert_eq!(world.outcome("item.restock", &pen, r#"{"quantity":1}"#).await, "applied", "{sink:?}");
        Command::new("kill").arg(process.id().to_string()).status().expect("kill runs");
        let end = tokio::task::spawn_blocking(move || process.wait()).await.expect("a thread").expect("it ends");
        assert_eq!(end.code(), Some(0), "{sink:?}");

        for (words, expected) in [(["job", "none"], 1), (["fly", "away"], 64), (["events", "none"], 64)] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
            command.args(words).env_clear().envs(&environment).stdout(sink.open()).stderr(sink.open());
            let status = tokio::task::spawn_blocking(move || command.status()).await.expect("a thread");
            assert_eq!(status.expect("it runs").code(), Some(expected), "{words:?} {sink:?}");
        }
    }
}
