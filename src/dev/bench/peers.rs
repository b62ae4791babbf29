//! The peers under `bench/peers/`, built before they are started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use serde::Deserialize;
use tokio::process::Command;

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
    }
}
