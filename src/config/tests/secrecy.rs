//! Nothing printed holds a password.

use super::*;

#[test]
fn no_secret_is_printed() {
    let nodes = "redis://canary@a,redis+unix:///run/r.sock?pass=canary,rediss://u:canary@b#canary";
    let config = with(&[("LOCKKEEPER_LOCK_NODES", nodes)]).unwrap();
    for printed in [format!("{config:?}"), format!("{config:#?}"), config.redacted_toml()] {
        assert!(printed.contains("***") && !printed.contains("canary"), "{printed}");
    }
}

#[test]
fn a_url_in_the_wrong_place_is_not_repeated() {
    for key in KEYS.iter().filter(|key| !key.secret) {
        let _ = problems(None, REQUIRED, &[(key.path, "mysql://u:canary@h/d")]);
    }
}

#[test]
fn broken_files_do_not_leak() {
    let files = [
        "url = 'mysql://u:canary@h/d'",
        "'mysql://u:canary@h/d' = 1",
        "['mysql://u:canary@h/d']",
        "[database]\n'mysql://u:canary@h/d' = 1",
        "[database]\nurl = mysql://u:canary@h/d",
        "[database]\nurl = \"mysql://u:canary@h/d",
        "[database]\nurl = \"mysql://u:canary\\q@h/d\"",
        "[database]\nmysql://u:canary@h/d",
        "[database]\nurl = ['mysql://u:canary@h/d']",
        "[database.url]\nx = 'mysql://u:canary@h/d'",
        "[database]\nurl = canary",
        "[database]\nurl = 'x' canary",
        "[lock]\nnodes = ['redis://:canary@a', 3]",
        "[lock]\nnodes = 'redis://:canary@a'",
        "database = 'mysql://u:canary@h/d'",
    ];
    for file in files {
        let _ = problems(Some(file), &[], &[]);
    }
}
