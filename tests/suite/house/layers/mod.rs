//! The folder tree tells the architecture; this holds it to that.

mod graph;

use std::path::{Path, PathBuf};

use graph::Graph;

/// Ranks, lowest first: a module imports only from its own rank's earlier modules' ranks.
const RANKS: [&[&str]; 5] = [
    &["domain", "job", "plan", "fleet", "config", "metrics", "lifecycle", "fail", "exit"],
    &["store", "projection", "stream", "lock", "spans", "testing"],
    &["batch", "page"],
    &["worker", "retention", "subscription", "rebuild", "audit"],
    &["cli", "connect", "daemon", "http", "reload", "signals", "telemetry", "view", "lib"],
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
        if name.starts_with("bin/") {
            continue;
        }
        let module = name.split(['/', '.']).next().unwrap_or_default();
        let own = rank(module).unwrap_or_else(|| panic!("{name} has no rank: give {module} one"));
        let text = std::fs::read_to_string(&path).expect("the source is read");
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for other in line.split("crate::").skip(1) {
                let other = other.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                // Tests use the kit for tests, whatever it is about.
                let Some(other_rank) = rank(other).filter(|_| !(other == "testing" && name.ends_with("tests.rs")))
                else {
                    continue;
                };
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
        // Words of JSON Schema.
        let code =
            ["\"items\":", "\"minItems\":", "\"maxItems\":"].iter().fold(code, |code, word| code.replace(word, ""));
        // An operator's commands say in their help what an aggregate may be called.
        let room = name.split(['/', '.']).next().unwrap_or_default();
        if !["bin", "cli", "config"].contains(&room) && !name.contains("tests") {
            for word in ["Shop", "shop::", "\"item", "\"order", "Item", "order_items", "migrations/shop"] {
                let found = code.contains(word) && !(word == "Item" && code.contains("Item ="));
                assert!(!found, "{name} names the shop: {word}");
            }
        }
    }
}

/// The files of the library, relative to its folder, without tests.
fn library(root: &Path) -> Vec<String> {
    let paths = sources(root).into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let names = paths.map(|path| path.strip_prefix(root).expect("below src").to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with("bin/") && !name.contains("tests")).collect()
}

#[test]
fn no_file_imports_from_one_that_imports_from_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let graph = Graph::read(&root, &library(&root));
    assert!(graph.edges.values().map(|targets| targets.len()).sum::<usize>() > 300, "hardly any import was seen");
    // A lock is taken by its nodes and extended through them: one idea, whose files know each other.
    for circle in graph.circles() {
        let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        assert!(circle.iter().all(|module| module[0] == "lock"), "a circle: {names:#?}");
    }
}

#[test]
fn no_file_is_longer_than_350_lines_and_no_folder_has_more_than_twelve_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut seen) = (std::collections::BTreeMap::<PathBuf, usize>::new(), 0);
    for path in ["src", "crates", "bench/src", "tests"].iter().flat_map(|folder| sources(&root.join(folder))) {
        if path.extension().is_none_or(|end| end != "rs") {
            continue;
        }
        seen += 1;
        *folders.entry(path.parent().expect("a folder").to_owned()).or_default() += 1;
        let lines = std::fs::read_to_string(&path).expect("the source is read").lines().count();
        assert!(lines <= 350, "{} has {lines} lines", path.display());
    }
    let full: Vec<_> = folders.iter().filter(|(_, files)| **files > 12).collect();
    assert!(full.is_empty() && seen > 200, "of {seen} files: {full:?}");
}
