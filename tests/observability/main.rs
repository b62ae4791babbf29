//! Metrics, dashboard and alerts against a live fleet and a real Prometheus: `make observability`.
//!
//! One story, since everything in it needs the same fleet under load: each of its scenes fails on its own account, and the
//! table at the end says what was asked and answered. With `LOCKKEEPER_PICTURE=FILE` it draws the dashboard at the end.

mod ask;
mod fleet;
mod load;
mod prometheus;
mod scenes;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

use futures_util::FutureExt;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if runtime.block_on(story()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays every scene; true when all went well.
async fn story() -> bool {
    let mut rows = Vec::new();
    play(&mut rows, "files", async { scenes::files() }).await;
    let mut fleet = fleet::Fleet::start().await;
    play(&mut rows, "live /metrics under load", scenes::metrics(&fleet)).await;
    play(&mut rows, "every expression answered", scenes::expressions(&fleet)).await;
    play(&mut rows, "no alert without a fault", scenes::silence(&fleet)).await;
    play(&mut rows, "a drain", scenes::drain(&mut fleet)).await;
    play(&mut rows, "a lock node is killed", scenes::lock_node(&mut fleet)).await;
    play(&mut rows, "the database is stopped", scenes::database(&mut fleet)).await;
    play(&mut rows, "the consumers stop, with a backlog", scenes::consumers(&fleet)).await;
    play(&mut rows, "a job is dead-lettered", scenes::dead_letter(&fleet)).await;
    play(&mut rows, "one of two daemons is frozen", scenes::frozen(&fleet)).await;
    play(&mut rows, "every daemon is killed", scenes::down(&mut fleet)).await;
    play(&mut rows, "10,000 types, 10,000 aggregates", scenes::cardinality(&mut fleet)).await;
    fleet.resume_load();
    play(&mut rows, "an unread entry is deleted", scenes::lost(&fleet)).await;
    play(&mut rows, "code = Prometheus", scenes::names(&fleet)).await;
    if let Ok(file) = std::env::var("LOCKKEEPER_PICTURE") {
        play(&mut rows, "picture", async { scenes::picture(&fleet, &file) }).await;
    }
    fleet.stop().await;
    println!("\n{:<36} {:>6}  what was seen", "scene", "time");
    for (scene, seconds, seen) in &rows {
        let seen = seen.as_ref().map_or_else(|why| format!("FAILED: {why}"), String::clone);
        println!("{scene:<36} {seconds:>5.1}s  {seen}");
    }
    rows.iter().all(|(_, _, seen)| seen.is_ok())
}

type Rows = Vec<(&'static str, f64, Result<String, String>)>;

async fn play(rows: &mut Rows, scene: &'static str, acts: impl Future<Output = String>) {
    let since = Instant::now();
    let seen = AssertUnwindSafe(acts).catch_unwind().await.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    });
    println!("{scene}: {}", if seen.is_ok() { "ok" } else { "FAILED" });
    rows.push((scene, since.elapsed().as_secs_f64(), seen));
}
