//! `check`: every server that the configuration names, looked at once.

mod findings;
mod read_models;
mod topology;

use comfy_table::{Table, presets};
use findings::{Finding, Findings, Verdict};
use topology::Topology;

use crate::cli::failed::Failed;
use crate::cli::output::told;
use crate::config::Config;
use crate::daemon::{self, ReadModels, unread_events};
use crate::domain::Domain;
use crate::exit::Exit;
use crate::fleet::Tenancy;
use crate::rebuild::Models;
use crate::store::{Checkpoint, CheckpointState, SchemaState, Sequence, Store};
use crate::stream::{Broker, BrokerError, Lack};

/// Looks at everything and prints what it finds.
pub async fn check<D: Domain>(config: &Config, brought: &ReadModels<D>, json: bool) -> Result<u8, Failed> {
    let mut findings = Findings::default();
    findings.add("configuration", Verdict::Ok, "every value is in its range");
    let mut locks = Findings::default();
    let (database, broker, topology) =
        tokio::join!(database::<D>(config, brought), broker(config), Topology::look(config, &mut locks));
    findings.0.extend(database.0.into_iter().chain(broker.0).chain(locks.0));
    if json {
        for Finding { subject, verdict, detail } in &findings.0 {
            told(serde_json::json!({ "check": subject, "verdict": word(*verdict), "detail": detail }))?;
        }
        topology.json().try_for_each(told)?;
    } else {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY).set_header(["check", "verdict", "detail"]);
        for Finding { subject, verdict, detail } in &findings.0 {
            table.add_row([subject.as_str(), word(*verdict), detail.as_str()]);
        }
        told(format_args!("{table}\n{}", topology.table()))?;
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

async fn database<D: Domain>(config: &Config, brought: &ReadModels<D>) -> Findings {
    let mut findings = Findings::default();
    let store = match daemon::store(config).await.map(|store| store.with_migrations(brought.migrations)) {
        Ok(store) => store,
        Err(error) => {
            findings.error("database", error);
            return findings;
        }
    };
    match store.server().await {
        Ok(server) if server.read_only => {
            findings.add("database", Verdict::Failed(Exit::UNAVAILABLE), format!("{}: read-only", server.version));
        }
        Ok(server) => findings.add("database", Verdict::Ok, server.version),
        Err(error) => findings.error("database", error),
    }
    match store.schema().await {
        Ok(SchemaState::Current) => match store.check_grants(config.retention.receipts.is_some()).await {
            Ok(()) => {
                findings.add("schema", Verdict::Ok, "current, and the account may write it");
                match unread_events::<D>(&store).await {
                    Ok(None) => findings.add("events", Verdict::Ok, "this program reads all that the log may have"),
                    Ok(Some(unread)) => findings.add("events", Verdict::Failed(Exit::CONFIG), unread),
                    Err(error) => findings.error("events", error),
                }
                match store.sequence_and_log().await.and_then(Sequence::check) {
                    Ok(end) => findings.add("sequence", Verdict::Ok, format!("the log ends at {end}")),
                    Err(error) => findings.error("sequence", error),
                }
                let models = Models { states: &brought.projections, log: &brought.log_projections };
                read_models::read_models(&store, config, models, &mut findings).await;
                subscriptions(&store, &mut findings).await;
            }
            Err(error) => findings.error("schema", error),
        },
        Ok(SchemaState::Behind(missing)) if config.database.migrate => {
            findings.add("schema", Verdict::Warning, format!("{missing} migrations are pending; `run` applies them"));
        }
        Ok(SchemaState::Behind(missing)) => {
            let detail = format!("{missing} migrations are pending: run `lockkeeper migrate`");
            findings.add("schema", Verdict::Failed(Exit::CONFIG), detail);
        }
        Ok(SchemaState::Ahead) => {
            findings.add("schema", Verdict::Failed(Exit::CONFIG), "newer than this program");
        }
        Err(error) => findings.error("schema", error),
    }
    findings
}

/// Says how far each reader of the log is, and why one does not go on.
async fn subscriptions(store: &Store, findings: &mut Findings) {
    let checkpoints = match store.checkpoints().await {
        Ok(checkpoints) => checkpoints,
        Err(error) => return findings.error("subscriptions", error),
    };
    for Checkpoint { name, position, state, reason, token, head, .. } in checkpoints {
        let behind = head.saturating_sub(position);
        let why = reason.unwrap_or_default();
        let (verdict, detail) = match state {
            CheckpointState::Running if token.is_some() || behind == 0 => {
                (Verdict::Ok, format!("at position {position}, {behind} events behind"))
            }
            CheckpointState::Running => {
                (Verdict::Warning, format!("{behind} events behind, and nobody reads it {why}"))
            }
            CheckpointState::Building => (Verdict::Ok, format!("it is filled, {behind} events are left")),
            CheckpointState::Paused => (Verdict::Warning, format!("paused {behind} events behind: {why}")),
            CheckpointState::Stopped | CheckpointState::Dropped => {
                (Verdict::Failed(Exit::NO), format!("{} {behind} events behind: {why}", state.as_str()))
            }
        };
        findings.add(format!("subscription {name}"), verdict, detail);
    }
}

async fn broker(config: &Config) -> Findings {
    let mut findings = Findings::default();
    let broker = match daemon::broker(config).await {
        Ok(broker) => broker,
        Err(error) => {
            findings.error("broker", error);
            return findings;
        }
    };
    let mut fit = true;
    match broker.nature().await {
        Ok(nature) => match (nature.judge(), nature.eviction_policy) {
            (Err(unfit), _) => {
                fit = false;
                findings.error("broker", unfit);
            }
            (_, Some(policy)) if policy != "noeviction" => {
                let detail = format!("maxmemory-policy is {policy}: jobs may be evicted; set it to noeviction");
                findings.add("broker", Verdict::Failed(Exit::CONFIG), detail);
            }
            (_, Some(_)) => findings.add("broker", Verdict::Ok, "answers, and evicts nothing"),
            (_, None) => findings.add("broker", Verdict::Warning, "answers; it does not say whether it evicts keys"),
        },
        Err(error) => findings.error("broker", error),
    }
    match broker.probe(config.retention.is_on()).await {
        // A server that is none to work with refuses nearly everything.
        _ if !fit => {}
        Ok(found) if found.is_empty() => {
            findings.add("broker rights", Verdict::Ok, "every command and script works on every key");
        }
        Ok(found) => found.iter().for_each(|finding| {
            let code = if finding.lack == Lack::Right { Exit::DENIED } else { Exit::CONFIG };
            findings.add("broker rights", Verdict::Failed(code), finding.to_string());
        }),
        Err(error) => findings.error("broker rights", error),
    }
    owners(config, &broker, &mut findings).await;
    for stream in &config.stream.names {
        match broker.other_groups(stream).await {
            Ok(others) if others.is_empty() => findings.add(format!("stream {stream}"), Verdict::Ok, "ours alone"),
            Ok(others) => {
                let others = others.join(", ");
                let detail = format!("another group reads it ({others}), and would miss what this daemon deletes");
                findings.add(format!("stream {stream}"), Verdict::Failed(Exit::CONFIG), detail);
            }
            Err(error) => findings.error(&format!("stream {stream}"), error),
        }
    }
    findings
}

/// Says who owns each stream, and whether it gives signs of life: two looks, as far apart as the signs are at most.
async fn owners(config: &Config, broker: &Broker, findings: &mut Findings) {
    let names = &config.stream.names;
    let looks = async {
        let before = broker.leases(names).await?;
        if before.iter().any(|lease| lease.tenancy != Tenancy::Free) {
            tokio::time::sleep(config.fleet.lease / 3).await;
        }
        Ok::<_, BrokerError>((before, broker.leases(names).await?))
    };
    let (before, now) = match looks.await {
        Ok(looks) => looks,
        Err(error) => return findings.error("owners", error),
    };
    for ((stream, before), now) in names.iter().zip(&before).zip(&now) {
        let owner = format!("{} (epoch {})", now.host, now.epoch);
        let (verdict, detail) = match now.tenancy {
            Tenancy::Free => (Verdict::Ok, "nobody owns it: a daemon that starts takes it".to_owned()),
            _ if (&before.id, before.beats) == (&now.id, now.beats) => {
                let detail =
                    format!("{owner} owns it and gives no sign of life: a daemon that stands by takes it over");
                (Verdict::Warning, detail)
            }
            Tenancy::Draining => (Verdict::Ok, format!("{owner} leaves it")),
            Tenancy::Owned => (Verdict::Ok, format!("{owner} owns it and gives signs of life")),
        };
        findings.add(format!("owner of {stream}"), verdict, detail);
    }
}
