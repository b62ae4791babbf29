use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;

fn all() -> (Vec<&'static Script>, Vec<Ask>) {
    let settings = Settings {
        names: vec!["jobs".to_owned(), "more".to_owned()],
        group: "group".to_owned(),
        block: Duration::ZERO,
        claim_after: Duration::ZERO,
        reply_length: 1,
    };
    asks(&settings, "consumer", true)
}

/// The sources that talk to the broker: all of this room's but the probe's own.
fn sources() -> Vec<String> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/stream");
    let folders = [room.clone(), room.join("connection"), room.join("group"), room.join("letters")];
    let paths = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    let paths = paths.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "rs"));
    paths.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// The commands of this folder's sources: what stands in quotes after `call(`, `pcall(`, `cmd(`.
fn commands_of_the_sources() -> BTreeSet<String> {
    let mut commands = BTreeSet::new();
    for text in sources() {
        for opening in ["redis.call('", "redis.pcall('", "cmd(\""] {
            for rest in text.split(opening).skip(1) {
                let end = rest.find(['\'', '"']).unwrap();
                let (command, rest) = rest.split_at(end);
                // A container command goes by its second word.
                let second = rest[1..].split(['\'', '"']).nth(1).filter(|_| ["XINFO", "XGROUP"].contains(&command));
                commands.insert(second.map_or(command.to_owned(), |second| format!("{command} {second}")));
            }
        }
    }
    commands
}

#[test]
fn every_command_of_the_sources_is_tried() {
    let commands = commands_of_the_sources();
    assert!(commands.len() > 20, "{commands:?}");
    let tried: BTreeSet<String> = all().1.iter().map(|ask| ask.what.to_owned()).collect();
    // What the server is, it may keep to itself.
    let untried: Vec<_> =
        commands.difference(&tried).filter(|command| !["INFO", "ROLE"].contains(&command.as_str())).collect();
    assert!(untried.is_empty(), "no probe tries {untried:?}");
}

#[test]
fn every_script_is_loaded_and_tried_with_as_many_keys_as_it_has() {
    let (scripts, asks) = all();
    let own = include_str!("mod.rs").to_owned();
    let there: usize = sources().iter().chain([&own]).map(|text| text.matches("Script::new(").count()).sum();
    assert_eq!(scripts.len(), there, "a script is forgotten");
    for script in scripts {
        let hash = script.get_hash().as_bytes();
        let is_tried =
            |ask: &Ask| ask.command.args_iter().any(|arg| matches!(arg, redis::Arg::Simple(arg) if arg == hash));
        assert!(asks.iter().any(is_tried), "a script is not tried: {hash:?}");
    }
}

#[test]
fn every_key_of_every_stream_is_tried() {
    let keys: BTreeSet<String> = all().1.into_iter().flat_map(|ask| ask.keys).collect();
    for stream in ["jobs", "more"] {
        for side in ["", ":dead", ":held", ":scheduled", ":finished", ":lineage", ":owner", ":paused"] {
            assert!(keys.contains(&format!("{stream}{side}")), "{stream}{side}: {keys:?}");
        }
    }
    assert!(keys.contains("jobs:fleet") && keys.contains("jobs:retention") && keys.contains(NOBODYS_REPLY), "{keys:?}");
}
