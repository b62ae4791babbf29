//! `dev`: throwaway servers and a daemon, kept running.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use lockkeeper::cli::Exit;
use lockkeeper::cli::output;
use throwaway::servers::{DATABASE, Options, Servers, own_variables};
use throwaway::{Daemon, program};

/// The exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// The configuration file that `dev` writes into the servers' folder, for commands in another terminal.
const CONFIG_FILE: &str = "lockkeeper.toml";

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Keep the data in this folder, and go on with what is there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Keeps servers and a daemon running until Ctrl-C or SIGTERM, and then ends with 0; 70 when the daemon dies.
pub async fn dev(arguments: Dev) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stopped);
    let (mut daemon, servers) = tokio::select! {
        started = start(&arguments) => started?,
        () = &mut stopped => return Ok(INTERRUPTED),
    };
    output::told(welcome(&servers, &daemon)?)?;
    let exit_report = tokio::select! {
        text = death(&mut daemon) => Some(text),
        () = stopped => None,
    };
    if let Some(text) = exit_report {
        output::notice(text);
        servers.stop().await;
        return Ok(Exit::BROKEN);
    }
    if servers.folder().is_kept()
        && let Err(text) = daemon.drain().await
    {
        output::notice(text);
    }
    drop(daemon);
    servers.stop().await;
    Ok(Exit::OK)
}

async fn start(arguments: &Dev) -> anyhow::Result<(Daemon, Servers)> {
    output::notice("starting a broker, three lock nodes and a database");
    let servers = Servers::start(Options { keep: arguments.keep.clone(), ..Options::default() }).await?;
    let daemon = Daemon::start(&servers, "daemon", &[]).await?;
    let file = servers.path().join(CONFIG_FILE);
    let text = configuration(&servers, &daemon);
    fs::write(&file, text).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok((daemon, servers))
}

/// Returns when the daemon has ended by itself.
async fn death(daemon: &mut Daemon) -> String {
    loop {
        if let Some(text) = daemon.exit_report() {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The file with which other commands find these servers.
fn configuration(servers: &Servers, daemon: &Daemon) -> String {
    let nodes: Vec<String> = servers.lock_nodes.iter().map(|node| format!("{:?}", node.url())).collect();
    format!(
        "# Written by `lockkeeper dev`: where its servers are.\n\
         [database]\nurl = {:?}\n\n[stream]\nurl = {:?}\n\n[lock]\nnodes = [{}]\n\n[http]\nlisten = \"{}\"\n",
        servers.database.url(DATABASE),
        servers.broker.url(),
        nodes.join(", "),
        daemon.http(),
    )
}

/// What is running where, and lines to paste into another terminal.
fn welcome(servers: &Servers, daemon: &Daemon) -> anyhow::Result<String> {
    let nodes: Vec<String> = servers.lock_nodes.iter().map(|node| node.url()).collect();
    let program = format!("{}{}", without_variables(), quoted(&program()?));
    let config = quoted(&servers.path().join(CONFIG_FILE));
    let log = quoted(&servers.folder().log("daemon"));
    let kept = match servers.folder().is_kept() {
        true => format!("the data is kept in {}; Ctrl-C stops the servers", servers.path().display()),
        false => "throwaway: Ctrl-C deletes everything".to_owned(),
    };
    let (broker, database) = (servers.broker.url(), servers.database.url(DATABASE));
    let (http, port) = (daemon.http(), servers.broker.port());
    Ok(format!(
        "broker      {broker}
lock nodes  {}
database    {database}
metrics     http://{http}/metrics
log         {log}

From another terminal, push a job and wait for its outcome:

  {program} --config {config} enqueue item.register pen --wait --data '{PEN}'
  {program} --config {config} events item/pen

By hand, any text as its id (a second time it is a duplicate and has no effect):

  redis-cli -p {port} XADD jobs '*' type item.restock key pen id delivery-1 data '{{\"quantity\": 5}}'
  redis-cli -p {port} XADD jobs '*' type item.register key ink id new-1 data '{INK}'

{kept}",
        nodes.join(" ")
    ))
}

const PEN: &str =
    r#"{"name": "Pen", "supply_price": "1.000", "vat": "0.100", "is_tax_free": false, "stock": 50, "member_id": 1}"#;
const INK: &str =
    r#"{"name": "Ink", "supply_price": "4.500", "vat": "0.450", "is_tax_free": false, "stock": 20, "member_id": 1}"#;

/// The environment beats a configuration file. Where it names servers of its own, the lines to paste have to be kept from
/// them.
fn without_variables() -> String {
    let unset: String = own_variables().map(|name| format!(" -u {}", name.to_string_lossy())).collect();
    if unset.is_empty() { unset } else { format!("env{unset} ") }
}

/// The path as a word of a shell's command line.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop::Shop;
    use lockkeeper::domain::Domain;

    #[test]
    fn what_is_to_be_pasted_is_well_formed() {
        for data in [PEN, INK] {
            Shop::command("item.register", "pen", 1, data).unwrap();
        }
        assert_eq!(quoted(Path::new("/tmp/a-b/c.toml")), "/tmp/a-b/c.toml");
        assert_eq!(quoted(Path::new("/tmp/it's")), r"'/tmp/it'\''s'");
    }
}
