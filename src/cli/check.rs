//! `check`: every server that the configuration names, looked at once.

use std::sync::Arc;

use comfy_table::{Table, presets};

use super::{Failed, exit};
use crate::app::{self, StartError};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::SchemaState;

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Failed(u8),
}

/// A line of the answer.
struct Finding {
    subject: String,
    verdict: Verdict,
    detail: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, subject: impl Into<String>, verdict: Verdict, detail: impl Into<String>) {
        self.0.push(Finding { subject: subject.into(), verdict, detail: detail.into() });
    }

    fn error(&mut self, subject: &str, error: impl Into<StartError>) {
        let Failed { code, text } = Failed::from(error.into());
        self.add(subject, Verdict::Failed(code), text);
    }

    /// The worst of all: a wrong configuration counts more than a server that is away.
    fn exit_code(&self) -> u8 {
        let codes = self.0.iter().filter_map(|finding| match finding.verdict {
            Verdict::Failed(code) => Some(code),
            Verdict::Ok | Verdict::Warning => None,
        });
        codes.max().unwrap_or(exit::OK)
    }
}

/// Looks at everything and prints what it finds.
pub async fn check(config: &Config, json: bool) -> Result<u8, Failed> {
    let mut findings = Findings::default();
    findings.add("configuration", Verdict::Ok, "every value is in its range");
    let (database, broker, locks) = tokio::join!(database(config), broker(config), locks(config));
    findings.0.extend(database.0.into_iter().chain(broker.0).chain(locks.0));
    if json {
        for Finding { subject, verdict, detail } in &findings.0 {
            println!("{}", serde_json::json!({ "check": subject, "verdict": word(*verdict), "detail": detail }));
        }
    } else {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["check", "verdict", "detail"]);
        for Finding { subject, verdict, detail } in &findings.0 {
            table.add_row([subject.as_str(), word(*verdict), detail.as_str()]);
        }
        println!("{table}");
    }
    Ok(findings.exit_code())
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failed(_) => "FAILED",
    }
}

async fn database(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let store = match app::store(config).await {
        Ok(store) => store,
        Err(error) => {
            findings.error("database", error);
            return findings;
        }
    };
    match store.server().await {
        Ok(server) if server.read_only => {
            findings.add("database", Verdict::Failed(exit::UNAVAILABLE), format!("{}: read-only", server.version));
        }
        Ok(server) => findings.add("database", Verdict::Ok, server.version),
        Err(error) => findings.error("database", error),
    }
    match store.schema().await {
        Ok(SchemaState::Current) => match store.check_grants().await {
            Ok(()) => findings.add("schema", Verdict::Ok, "current, and the account may write it"),
            Err(error) => findings.error("schema", error),
        },
        Ok(SchemaState::Behind(missing)) if config.database.migrate => {
            findings.add("schema", Verdict::Warning, format!("{missing} migrations are pending; `run` applies them"));
        }
        Ok(SchemaState::Behind(missing)) => {
            let detail = format!("{missing} migrations are pending: run `lockkeeper migrate`");
            findings.add("schema", Verdict::Failed(exit::CONFIG), detail);
        }
        Ok(SchemaState::Ahead) => {
            findings.add("schema", Verdict::Failed(exit::CONFIG), "newer than this program");
        }
        Err(error) => findings.error("schema", error),
    }
    findings
}

async fn broker(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let broker = match app::broker(config).await {
        Ok(broker) => broker,
        Err(error) => {
            findings.error("broker", error);
            return findings;
        }
    };
    match broker.eviction_policy().await {
        Ok(Some(policy)) if policy != "noeviction" => {
            let detail = format!("maxmemory-policy is {policy}: jobs may be evicted; set it to noeviction");
            findings.add("broker", Verdict::Failed(exit::CONFIG), detail);
        }
        Ok(Some(_)) => findings.add("broker", Verdict::Ok, "answers, and evicts nothing"),
        Ok(None) => findings.add("broker", Verdict::Warning, "answers; it does not say whether it evicts keys"),
        Err(error) => findings.error("broker", error),
    }
    for stream in &config.stream.names {
        match broker.other_groups(stream).await {
            Ok(others) if others.is_empty() => findings.add(format!("stream {stream}"), Verdict::Ok, "ours alone"),
            Ok(others) => {
                let others = others.join(", ");
                let detail = format!("another group reads it ({others}), and would miss what this daemon deletes");
                findings.add(format!("stream {stream}"), Verdict::Failed(exit::CONFIG), detail);
            }
            Err(error) => findings.error(&format!("stream {stream}"), error),
        }
    }
    findings
}

async fn locks(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let metrics = match Metrics::new() {
        Ok(metrics) => Arc::new(metrics),
        Err(error) => {
            findings.add("locks", Verdict::Failed(exit::BROKEN), error.to_string());
            return findings;
        }
    };
    let locks = match app::locks(config, metrics) {
        Ok(locks) => locks,
        Err(error) => {
            findings.error("locks", error);
            return findings;
        }
    };
    for finding in locks.inspect().await {
        let subject = format!("lock node {}", finding.name);
        match finding.result {
            Ok(()) => findings.add(subject, Verdict::Ok, "a master of its own"),
            Err(why @ crate::lock::Refusal::Unreachable(_)) => {
                findings.add(subject, Verdict::Failed(exit::UNAVAILABLE), why.to_string());
            }
            Err(why) => findings.add(subject, Verdict::Failed(exit::CONFIG), why.to_string()),
        }
    }
    if config.lock.nodes.len() == 1 {
        let detail = "one node: the lock only saves work, as the database decides; a quorum needs three";
        findings.add("lock mode", Verdict::Ok, detail);
    }
    findings
}
