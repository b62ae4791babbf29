//! What the demo shows of read models: two of them are filled anew from the first event while it sells.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde::Deserialize;
use tokio::task::JoinHandle;

use lockkeeper::audit::Line;
use throwaway::servers::Servers;

/// The share of jobs that have answered when it begins.
const BEGINS_AT: f64 = 0.3;

/// The read models: one that is written with the events, and one that is read from the log.
const NAMES: [&str; 2] = ["items", "sales_per_day"];

/// What `projections rebuild --json` says.
#[derive(Debug, Deserialize)]
struct Built {
    projection: String,
    build: u16,
    events: u64,
    seconds: f64,
    held_ms: Option<f64>,
}

/// What `projections verify --json` says.
#[derive(Debug, Deserialize)]
struct Verified {
    compared: u64,
    unit: String,
    differences: u64,
}

/// The filling, once it has begun.
#[derive(Debug, Default)]
pub struct Rebuild(Option<JoinHandle<anyhow::Result<Vec<Built>>>>);

impl Rebuild {
    /// Begins when this share of the jobs has answered, and says so.
    pub fn step(&mut self, share: f64, servers: &Servers) -> anyhow::Result<Option<String>> {
        if self.0.is_some() || share < BEGINS_AT {
            return Ok(None);
        }
        let (program, variables) = (throwaway::program()?, throwaway::client_environment(servers));
        self.0 = Some(tokio::spawn(build_all(program, variables)));
        Ok(Some(format!("{} are filled anew from the first event", NAMES.join(" and "))))
    }

    /// What came of it, compared once more with the events.
    pub async fn judge(&mut self, servers: &Servers) -> anyhow::Result<Line> {
        self.step(1.0, servers)?;
        let built = self.0.take().context("it has begun")?.await?;
        let (program, variables) = (throwaway::program()?, throwaway::client_environment(servers));
        let line = |passed, detail| Line { name: "read models filled anew while it sells", passed, detail };
        let built = match built {
            Ok(built) => built,
            Err(error) => return Ok(line(false, format!("{error:#}"))),
        };
        let (_, text) = command(&program, &variables, &["projections", "verify", "--json"]).await?;
        let verified: Vec<Verified> = text.lines().filter_map(|text| serde_json::from_str(text).ok()).collect();
        ensure!(!verified.is_empty(), "nothing was compared: {text}");
        let wrong: u64 = verified.iter().map(|one| one.differences).sum();
        let aggregates: u64 = verified.iter().filter(|one| one.unit == "aggregates").map(|one| one.compared).sum();
        let each = built.iter().map(|Built { projection, build, events, seconds, held_ms }| {
            let held = held_ms.map_or(String::new(), |held| format!(", commits held for {held:.0} ms"));
            format!("{projection}@{build}: {events} events in {seconds:.1} s{held}")
        });
        let detail =
            format!("{}; {aggregates} aggregates compared, {wrong} rows differ", each.collect::<Vec<_>>().join("; "));
        Ok(line(wrong == 0 && built.len() == NAMES.len(), detail))
    }
}

async fn build_all(program: PathBuf, variables: Vec<(String, String)>) -> anyhow::Result<Vec<Built>> {
    let mut built = Vec::new();
    for name in NAMES {
        let (code, text) = command(&program, &variables, &["projections", "rebuild", name, "--yes", "--json"]).await?;
        ensure!(code == Some(0), "{name} is not filled: {text}");
        let line = text.lines().find_map(|line| serde_json::from_str(line).ok());
        built.push(line.with_context(|| format!("{name} is filled, and says {text}"))?);
    }
    Ok(built)
}

async fn command(
    program: &PathBuf,
    variables: &[(String, String)],
    arguments: &[&str],
) -> anyhow::Result<(Option<i32>, String)> {
    let mut command = tokio::process::Command::new(program);
    // What is set for the demo's own servers is all that counts.
    throwaway::servers::own_variables().for_each(|name| {
        command.env_remove(name);
    });
    let variables = variables.iter().map(|(name, value)| (name, value));
    let output = command.args(arguments).envs(variables).kill_on_drop(true).output().await?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&printed).into_owned()))
}
