//! Throwaway servers, and what is shown on them: `dev` and `demo`.

pub mod audit;
pub mod servers;

use clap::Args;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct Demo {}

/// Arguments of `dev`.
#[derive(Debug, Args)]
pub struct Dev {}

/// stub
pub async fn demo(_: Demo) -> anyhow::Result<u8> {
    Ok(0)
}

/// stub
pub async fn dev(_: Dev) -> anyhow::Result<u8> {
    Ok(0)
}
