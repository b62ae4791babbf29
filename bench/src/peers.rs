//! The peers under `bench/peers/`, built before they are started.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::process::Command;

/// What the peer in Node is made of.
const NODE_PACKAGES: [&str; 4] = ["bullmq", "redlock", "mysql2", "ioredis"];

/// The crates of the peers in Rust that matter.
const CRATES: [&str; 4] = ["redis", "rslock", "sqlx", "tokio"];

/// All peers, as far as they are wanted.
#[derive(Debug)]
pub struct Peers {
    pub rust: Option<RustPeers>,
    /// The folder of the peer in Node.
    pub node: Option<PathBuf>,
    pub versions: BTreeMap<String, String>,
}

impl Peers {
    /// Builds the peers in Rust, and looks for the one in Node.
    pub async fn find(peers: &Path, with_rust: bool, with_node: bool) -> anyhow::Result<Peers> {
        let mut versions = BTreeMap::new();
        let rust = if with_rust { Some(rust(peers).await?) } else { None };
        for name in CRATES {
            let version = rust.as_ref().and_then(|rust| rust.versions.get(name));
            versions.extend(version.map(|version| (format!("crate {name}"), version.clone())));
        }
        let node = if with_node { Some(node(peers, &mut versions).await?) } else { None };
        Ok(Peers { rust, node, versions })
    }
}

/// The folder of the peer in Node, and the versions of what it is made of.
async fn node(peers: &Path, versions: &mut BTreeMap<String, String>) -> anyhow::Result<PathBuf> {
    let folder = peers.join("node");
    for name in NODE_PACKAGES {
        let file = folder.join("node_modules").join(name).join("package.json");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("there is no {}: make setup-bench (or npm ci in its folder)", file.display()))?;
        let package: serde_json::Value = serde_json::from_str(&text)?;
        versions.insert(format!("npm {name}"), package["version"].as_str().unwrap_or_default().to_owned());
    }
    let output = Command::new("node").arg("--version").stdin(Stdio::null()).output().await;
    let output = output.context("node, which runs a peer, cannot be run")?;
    versions.insert("node".to_owned(), String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Ok(folder)
}

/// The peers in Rust: one program.
#[derive(Debug)]
pub struct RustPeers {
    pub program: PathBuf,
    /// Of every package in it, by name.
    pub versions: BTreeMap<String, String>,
}

/// A line that cargo writes about something it has built or found built.
#[derive(Deserialize)]
struct Artifact {
    #[serde(default)]
    package_id: String,
    executable: Option<PathBuf>,
}

/// Builds the peers in Rust, in a release build, and says what went into them.
pub async fn rust(peers: &Path) -> anyhow::Result<RustPeers> {
    let manifest = peers.join("rust/Cargo.toml");
    if !manifest.exists() {
        bail!(
            "there is no {}: run this in a source tree (make bench), or tell --peers where it is",
            manifest.display()
        );
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--message-format=json-render-diagnostics", "--manifest-path"]);
    let output = cargo.arg(&manifest).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = output.await.context("cargo, which builds the peers, cannot be run")?;
    if !output.status.success() {
        bail!("the peers at {} cannot be built", manifest.display());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let artifacts: Vec<Artifact> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let versions = artifacts.iter().filter_map(|artifact| package(&artifact.package_id)).collect();
    let program = artifacts.into_iter().filter(is_peer).find_map(|artifact| artifact.executable);
    Ok(RustPeers { program: program.context("cargo does not say where the peers are")?, versions })
}

/// Build scripts are programs as well, of other packages.
fn is_peer(artifact: &Artifact) -> bool {
    artifact.package_id.contains("bench/peers/rust")
}

/// Name and version out of `registry+https://…#redis@1.8.1`.
fn package(id: &str) -> Option<(String, String)> {
    let (name, version) = id.rsplit_once('#')?.1.split_once('@')?;
    Some((name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_id_names_its_version() {
        let id = "registry+https://github.com/rust-lang/crates.io-index#redis@1.8.1";
        assert_eq!(package(id), Some(("redis".into(), "1.8.1".into())));
        assert_eq!(package("path+file:///x#0.1.0"), None);
    }

    #[tokio::test]
    async fn a_missing_source_tree_is_told_with_the_cure() {
        let error = rust(Path::new("/nowhere")).await.unwrap_err().to_string();
        assert!(error.contains("/nowhere/rust/Cargo.toml") && error.contains("--peers"), "{error}");
        let error = format!("{:#}", Peers::find(Path::new("/nowhere"), false, true).await.unwrap_err());
        assert!(error.contains("/nowhere/node/node_modules/bullmq") && error.contains("npm ci"), "{error}");
    }
}
