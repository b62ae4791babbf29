//! The lock nodes, as they say they are.

use std::sync::Arc;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::findings::{Findings, Verdict};
use crate::config::Config;
use crate::daemon;
use crate::exit::Exit;
use crate::lock::{Identity, NodeFinding, Refusal, quorum};
use crate::metrics::Metrics;

/// The lock nodes that were asked.
#[derive(Default)]
pub(super) struct Topology(Vec<NodeFinding>);

impl Topology {
    /// Asks every node, and adds to `findings` what is found.
    pub async fn look(config: &Config, findings: &mut Findings) -> Self {
        let metrics = match Metrics::new() {
            Ok(metrics) => Arc::new(metrics),
            Err(error) => {
                findings.add("locks", Verdict::Failed(Exit::BROKEN), error.to_string());
                return Self::default();
            }
        };
        let locks = match daemon::locks(config, metrics) {
            Ok(locks) => locks,
            Err(error) => {
                findings.error("locks", error);
                return Self::default();
            }
        };
        let nodes = locks.inspect().await;
        for NodeFinding { name, result, .. } in &nodes {
            let (verdict, detail) = match result {
                Ok(()) => (Verdict::Ok, "an independent master".to_owned()),
                Err(why @ Refusal::Unreachable(_)) => (Verdict::Failed(Exit::UNAVAILABLE), why.to_string()),
                Err(why) => (Verdict::Failed(Exit::CONFIG), why.to_string()),
            };
            findings.add(format!("lock node {name}"), verdict, detail);
        }
        findings.add("lock mode", Verdict::Ok, mode(nodes.len()));
        Self(nodes)
    }

    /// One row for each node.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        let header =
            ["lock node", "server", "mode", "role", "up for", "when memory is full", "after a restart", "votes"];
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
        for NodeFinding { name, identity, result } in &self.0 {
            let votes = if result.is_ok() { "yes" } else { "NO" };
            table.add_row(match identity {
                Some(identity) => [
                    name.clone(),
                    identity.version.clone(),
                    identity.mode.clone(),
                    identity.role.clone(),
                    humantime::format_duration(identity.uptime).to_string(),
                    identity.eviction_policy.clone(),
                    memory(identity).to_owned(),
                    votes.to_owned(),
                ],
                None => {
                    let [name, votes] = [name.clone(), votes.to_owned()];
                    let unknown = || "?".to_owned();
                    [name, unknown(), unknown(), unknown(), unknown(), unknown(), unknown(), votes]
                }
            });
        }
        table
    }

    /// One object for each node.
    pub fn json(&self) -> impl Iterator<Item = Value> {
        self.0.iter().map(|NodeFinding { name, identity, result }| {
            let identity = identity.as_ref().map(|identity| {
                json!({
                    "version": identity.version, "mode": identity.mode, "role": identity.role, "run_id": identity.run_id,
                    "uptime_seconds": identity.uptime.as_secs(), "eviction_policy": identity.eviction_policy,
                    "persistent": identity.is_persistent,
                })
            });
            json!({ "lock_node": name, "votes": result.is_ok(), "server": identity })
        })
    }
}

fn memory(identity: &Identity) -> &'static str {
    if identity.is_persistent { "forgets nothing, votes at once" } else { "waits for one lock's life" }
}

fn mode(nodes: usize) -> String {
    match nodes {
        1 => {
            "single: one node saves work as long as it is up, and the database decides; a quorum needs three".to_owned()
        }
        nodes => format!("quorum: {} of {nodes} nodes must grant a lock", quorum::quorum(nodes)),
    }
}
