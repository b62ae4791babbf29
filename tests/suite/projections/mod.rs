//! Read models that are filled anew, compared, mended, shown and let go, beside daemons that write them.

mod alone;
mod builds;
mod later;
mod programs;

use support::lockkeeper;
use support::world::World;

/// What a command about read models says, which has to end like this.
async fn command(world: &World, words: &str, ends: i32) -> String {
    let words: Vec<&str> = ["projections"].into_iter().chain(words.split(' ')).collect();
    let (code, output) = lockkeeper(&words, &world.environment()).await;
    assert_eq!(code, Some(ends), "{words:?}: {output}");
    output
}

/// The lines of a command as JSON.
async fn json(world: &World, words: &str, ends: i32) -> Vec<serde_json::Value> {
    let output = command(world, &format!("{words} --json"), ends).await;
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The state of each build: `items@1 kept`.
async fn states(world: &World) -> Vec<String> {
    let listed = json(world, "list", 0).await;
    let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    listed.iter().map(|one| format!("{}@{} {}", text(one, "projection"), one["build"], text(one, "state"))).collect()
}
