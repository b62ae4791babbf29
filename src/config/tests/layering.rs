//! What each layer gives, and which one wins.

use std::time::Duration;

use super::*;

#[test]
fn the_defaults_load_with_the_required_urls() {
    let config = with(&[]).unwrap();
    assert_eq!(config.database.url.expose(), DATABASE);
    assert_eq!(exposed(&config.lock.nodes), [REDIS]);
    assert!(config.database.migrate);
    assert_eq!(config.stream.names, ["jobs"]);
    assert_eq!(config.stream.claim_after, Duration::from_secs(30));
    assert_eq!(config.lock.ttl, Duration::from_secs(2));
    assert_eq!(config.lock.node_timeout, Duration::from_millis(100));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.drain.timeout, Duration::from_secs(25));
    assert_eq!(config.log.format, LogFormat::Auto);
    assert_eq!(config.tls.ca_file, None);
}

#[test]
fn the_default_file_and_the_key_list_agree() {
    let mut section = "";
    let mut in_file = Vec::new();
    for line in REFERENCE.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        }
        // A required key stands there as a comment: `# url = "…"`.
        let example = line.strip_prefix("# ").filter(|line| line.contains(" = \"") || line.contains(" = ["));
        if let Some((name, _)) = example.unwrap_or(line).split_once(" = ")
            && (example.is_some() || !line.starts_with('#'))
        {
            in_file.push(format!("{section}.{name}"));
        }
    }
    assert_eq!(in_file, KEYS.iter().map(|key| key.path).collect::<Vec<_>>());
}

#[test]
fn the_examples_of_the_required_keys_are_valid() {
    let uncommented = REFERENCE.replace("# url = ", "url = ").replace("# nodes = ", "nodes = ");
    assert_eq!(load_all(Some(&uncommented), &[], &[]).unwrap().lock.nodes.len(), 3);
}

#[test]
fn each_layer_beats_the_one_below() {
    let file = Some("[lock]\nttl_ms = 3000\n");
    let env = [REQUIRED, &[("LOCKKEEPER_LOCK_TTL_MS", "4000")]].concat();
    let ttl = |config: Result<Config, Problems>| config.unwrap().lock.ttl.as_millis();
    assert_eq!(ttl(load_all(None, REQUIRED, &[])), 2000);
    assert_eq!(ttl(load_all(file, REQUIRED, &[])), 3000);
    assert_eq!(ttl(load_all(file, &env, &[])), 4000);
    assert_eq!(ttl(load_all(file, &env, &[("lock.ttl_ms", "5000")])), 5000);
}

#[test]
fn a_key_has_one_name_in_every_layer() {
    let key = KEYS.iter().find(|key| key.path == "lock.ttl_ms").unwrap();
    assert_eq!((key.section(), key.name()), ("lock", "ttl_ms"));
    assert_eq!(key.env_name(), "LOCKKEEPER_LOCK_TTL_MS");
    assert_eq!(key.flag_name(), "lock-ttl-ms");
}

#[test]
fn every_key_can_be_set_by_its_variable_and_by_its_flag() {
    let effective: toml::Table = with(&[]).unwrap().redacted_toml().parse().unwrap();
    for key in KEYS.iter().filter(|key| !key.secret && key.section() != "tls") {
        let value = &effective[key.section()][key.name()];
        let text = match value.as_array() {
            Some(list) => list.first().and_then(|first| first.as_str()).unwrap_or_default().to_owned(),
            None => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        };
        assert_eq!(with(&[(&key.env_name(), &text)]), with(&[]), "{}", key.path);
        assert_eq!(load_all(None, REQUIRED, &[(key.path, &text)]), with(&[]), "{}", key.path);
        let wrong = problems(None, &[REQUIRED, &[(&key.env_name(), "://")]].concat(), &[]);
        assert!(wrong.starts_with(&format!("{} (from {}): ", key.path, key.env_name())), "{wrong}");
        let wrong = problems(None, REQUIRED, &[(key.path, "://")]);
        assert!(wrong.starts_with(&format!("{} (from --{}): ", key.path, key.flag_name())), "{wrong}");
    }
}

#[test]
fn lists_are_arrays_in_the_file_and_comma_separated_elsewhere() {
    let file = Some("[stream]\nnames = [\"a\", \"b\"]\n");
    assert_eq!(load_all(file, REQUIRED, &[]).unwrap().stream.names, ["a", "b"]);
    assert_eq!(with(&[("LOCKKEEPER_STREAM_NAMES", "c, d")]).unwrap().stream.names, ["c", "d"]);
    let file = Some("[stream]\nnames = \"a,b\"\n");
    assert_eq!(problems(file, REQUIRED, &[]), "stream.names (from the file): must be a list of texts, not `a,b`");
}

#[test]
fn the_effective_values_load_again() {
    let env = [("LOCKKEEPER_TLS_CA_FILE", "/etc/ca.pem"), ("LOCKKEEPER_LOCK_NODES", "redis://a,redis://b,unix:///c")];
    let config = with(&env).unwrap();
    let text = config.redacted_toml();
    assert!(text.contains("url = \"mysql://shop:***@db:3306/shop\""), "{text}");
    let keys = text.parse::<toml::Table>().unwrap().into_iter().flat_map(|(section, keys)| {
        keys.as_table().unwrap().keys().map(|name| format!("{section}.{name}")).collect::<Vec<_>>()
    });
    let mut expected: Vec<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    expected.sort();
    let mut keys: Vec<_> = keys.collect();
    keys.sort();
    assert_eq!(keys, expected);
    let again = load_all(Some(&text), REQUIRED, &[]).unwrap();
    assert_eq!(again, config);
}

#[test]
fn changes_name_the_keys_that_differ_also_those_of_secrets() {
    let before = with(&[]).unwrap();
    assert!(before.changes(&before.clone()).is_empty());
    let other = [
        ("DATABASE_URL", "mysql://shop:other@db:3306/shop"),
        ("REDIS_URL", REDIS),
        ("LOCKKEEPER_LOG_LEVEL", "debug"),
        ("LOCKKEEPER_STREAM_NAMES", "a,b"),
    ];
    let after = load_all(None, &other, &[]).unwrap();
    let paths: Vec<_> = before.changes(&after).into_iter().map(|key| key.path).collect();
    assert_eq!(paths, ["database.url", "stream.names", "log.level"], "{before:?}");
}

#[test]
fn listen_needs_nothing_else_and_minds_only_itself() {
    let listen_of = |file: Option<&str>, env: &[(&str, &str)]| {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        listen(file, env, std::iter::empty::<(&str, String)>()).map_err(|problems| problems.to_string())
    };
    let text = |result: Result<std::net::SocketAddr, String>| result.map(|address| address.to_string());
    assert_eq!(text(listen_of(None, &[])), Ok("127.0.0.1:9464".to_owned()));
    let file = "[http]\nlisten = '0.0.0.0:1'\n[lock]\nttl_ms = 'x'\n";
    assert_eq!(text(listen_of(Some(file), &[("LOCKKEEPER_NONSENSE", "1")])), Ok("0.0.0.0:1".to_owned()));
    let wrong = listen_of(None, &[("LOCKKEEPER_HTTP_LISTEN", "everywhere")]).unwrap_err();
    assert!(wrong.starts_with("http.listen") && !wrong.contains('\n'), "{wrong}");
    assert!(listen_of(Some("[http"), &[]).unwrap_err().starts_with("the file"));
}
