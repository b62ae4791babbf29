//! The peers in Rust of `lockkeeper bench`; the first argument says which.

#![forbid(unsafe_code)]

mod jobs;
mod limit;
mod locks;
mod shop;
mod task;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        None | Some("locks") => locks::contend().await,
        Some("jobs") => jobs::work().await,
        Some("limit") => limit::work().await,
        Some(other) => anyhow::bail!("there is no peer `{other}`"),
    }
}
