//! The folder tree tells the architecture; this holds it to that.

use std::path::{Path, PathBuf};

/// Ranks, lowest first: a module imports only from its own rank's earlier modules' ranks.
const RANKS: [&[&str]; 5] = [
    &["domain", "job", "plan", "config", "metrics", "lifecycle", "fail"],
    &["store", "projection", "stream", "lock", "spans"],
    &["batch"],
    &["worker", "retention"],
    &["app", "cli", "connect", "dev", "http", "reload", "signals", "telemetry", "main", "lib"],
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder is read").flatten();
    let paths = entries.map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn a_module_imports_only_from_earlier_ranks_and_the_pure_ones_do_no_io() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for path in sources(&root).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        let module = name.split(['/', '.']).next().unwrap_or_default();
        let own = rank(module).unwrap_or_else(|| panic!("{name} has no rank: give {module} one"));
        let text = std::fs::read_to_string(&path).expect("the source is read");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for other in line.split("crate::").skip(1) {
                let other = other.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                let Some(other_rank) = rank(other) else { continue };
                assert!(other_rank <= own, "{name} imports {other}, which is of a later rank: {line}");
                seen += 1;
            }
            if own == 0 {
                for io in ["sqlx::", "redis::", "std::net::Tcp", "std::fs", "SystemTime", "tokio::time", "rand::"] {
                    assert!(!line.contains(io), "{name} is pure and must not use {io}: {line}");
                }
            }
        }
    }
    assert!(seen > 50, "the check has looked at hardly any import: {seen}");
}

#[test]
fn the_engine_does_not_know_the_shop_and_nothing_changes_an_event() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in sources(&root).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("the source is read");
        let code: Vec<&str> = text.split("#[cfg(test)]").next().unwrap_or_default().lines().collect();
        let code: String =
            code.into_iter().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for statement in ["UPDATE events", "DELETE FROM events", "REPLACE INTO events", "INSERT IGNORE"] {
            assert!(!code.to_uppercase().contains(&statement.to_uppercase()), "{name} contains {statement}");
        }
        let engine = ["plan", "batch", "store", "stream", "lock", "worker"];
        if engine.contains(&name.split(['/', '.']).next().unwrap_or_default()) && !name.ends_with("tests.rs") {
            for word in ["Shop", "shop::", "\"item", "\"order", "Item", "order_items"] {
                let found = code.contains(word) && !(word == "Item" && code.contains("Item ="));
                assert!(!found, "{name} names the shop: {word}");
            }
        }
    }
}
