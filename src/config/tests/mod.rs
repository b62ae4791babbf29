//! What the configuration promises, layer by layer. Every URL carries a canary in place of its password.

mod aliases;
mod layering;
mod mistakes;
mod relations;
mod secrecy;

use std::io;

use super::*;

const DATABASE: &str = "mysql://shop:canary@db:3306/shop";
const REDIS: &str = "redis://:canary@broker:6379";
const REQUIRED: &[(&str, &str)] = &[("DATABASE_URL", DATABASE), ("REDIS_URL", REDIS)];

/// Loads with files named `database`, `redis` and `nodes`.
fn load_all(file: Option<&str>, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Problems> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    load(file, env.iter().map(owned), flags.iter().map(owned), |path| match path {
        "database" => Ok(format!("{DATABASE}\n")),
        "redis" => Ok(REDIS.to_owned()),
        "nodes" => Ok("redis://:canary@a\nredis://:canary@b\nredis://:canary@c\n".to_owned()),
        "empty" => Ok("\n".to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{path}: canary"))),
    })
}

fn with(env: &[(&str, &str)]) -> Result<Config, Problems> {
    load_all(None, &[REQUIRED, env].concat(), &[])
}

/// The problems as printed; no secret is among them.
fn problems(file: Option<&str>, env: &[(&str, &str)], flags: &[(&str, &str)]) -> String {
    let problems = load_all(file, env, flags).expect_err("a configuration with something wrong");
    assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
    problems.to_string()
}

/// Asserts that one variable on top of the required ones is one problem, printed as `expected`.
#[track_caller]
fn assert_problem(name: &str, value: &str, expected: &str) {
    assert_eq!(problems(None, &[REQUIRED, &[(name, value)]].concat(), &[]), expected);
}

fn exposed(nodes: &[Secret]) -> Vec<&str> {
    nodes.iter().map(Secret::expose).collect()
}
