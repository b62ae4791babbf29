//! Whether the broker lets us do, and can do, all that the daemon does: asked by doing it, to the very keys, without effect.
//!
//! A right is looked at before a command looks at its arguments. So a command whose effect cannot be ruled out otherwise gets
//! an argument that is refused, and the refusal says that we may. A script is run on an entry that no stream can have.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

mod found;

use redis::{Cmd, RedisError, RedisResult, Script, Value};

pub(super) use found::Probed;
pub use found::{Finding, Lack};

use super::connection::{ACKNOWLEDGE, Broker, BrokerError};
use super::group::{consumers, log, starts};
use super::keys::{dead_letters, finished, fleet, held, owner, paused, retention, scheduled};
use super::lineage::{self, lineage};
use super::settings::Settings;
use super::{lease, letters, members, pause, replies, sample, schedule, settle};

/// A reply stream that nobody waits on.
const NOBODYS_REPLY: &str = "reply:lockkeeper:nobody";

/// No stream has an entry with this id.
const NO_ENTRY: &str = "0-0";

/// More milliseconds than anything takes.
const NEVER: &str = "9007199254740991";

/// What no number and no id looks like.
const WRONG: &str = "wrong";

/// A question to the broker.
struct Ask {
    what: &'static str,
    keys: Vec<String>,
    command: Cmd,
    /// Whether the broker refuses the arguments when it lets us.
    refused: bool,
}

/// The questions about one stream, and those about none.
struct Asks(Vec<Ask>);

impl Asks {
    /// A command that has no effect with these arguments.
    fn harmless(&mut self, what: &'static str, key: &str, arguments: &[&str]) {
        self.command(what, key, arguments, false);
    }

    /// A command that refuses these arguments.
    fn refused(&mut self, what: &'static str, key: &str, arguments: &[&str]) {
        self.command(what, key, arguments, true);
    }

    fn command(&mut self, what: &'static str, key: &str, arguments: &[&str], refused: bool) {
        let mut command = Cmd::new();
        what.split(' ').for_each(|word| {
            command.arg(word);
        });
        arguments.iter().for_each(|argument| {
            command.arg(if *argument == KEY { key } else { argument });
        });
        let keys = if arguments.contains(&KEY) { vec![key.to_owned()] } else { Vec::new() };
        self.0.push(Ask { what, keys, command, refused });
    }

    fn script(&mut self, what: &'static str, script: &Script, keys: &[&str], arguments: &[&str]) {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(keys.len()).arg(keys).arg(arguments);
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.0.push(Ask { what, keys, command, refused: false });
    }
}

/// Stands for the key among a command's arguments.
const KEY: &str = "{key}";

/// Every question, and the scripts that have to be there before.
fn asks(settings: &Settings, consumer: &str, retains: bool) -> (Vec<&'static Script>, Vec<Ask>) {
    let mut asks = Asks(Vec::new());
    asks.harmless("TIME", "", &[]);
    asks.harmless("EVALSHA", "", &[NOTHING.get_hash(), "0"]);
    for stream in &settings.names {
        of_entries(&mut asks, stream, &settings.group, consumer);
        of_side_keys(&mut asks, stream, consumer);
        of_scripts(&mut asks, stream, &settings.group, consumer);
    }
    asks.refused("XADD", NOBODYS_REPLY, &[KEY, NO_ENTRY, "id", ""]);
    // Of a stream with entries it brings the first and the last, which may be large.
    asks.harmless("XINFO STREAM", NOBODYS_REPLY, &[KEY]);
    asks.script("the script that replies", &settle::REPLY, &[NOBODYS_REPLY], &[WRONG, "", "", "", "", "", ""]);
    if let Some(first) = settings.names.first() {
        let fleet = &*fleet(first);
        asks.harmless("HGETALL", fleet, &[KEY]);
        asks.harmless("HDEL", fleet, &[KEY, WRONG]);
        asks.refused("HSET", fleet, &[KEY, WRONG, "", WRONG]);
        asks.script("the script that lists the fleet", &members::ENLIST, &[fleet], &["", "", NEVER]);
    }
    if let Some(first) = settings.names.first().filter(|_| retains) {
        asks.refused("SET", &retention(first), &[KEY, consumer, "PX", "0"]);
        asks.harmless("SCAN", "", &["0", "MATCH", NOBODYS_REPLY, "COUNT", "1", "TYPE", "stream"]);
        asks.harmless("UNLINK", NOBODYS_REPLY, &[KEY]);
        asks.script("the script that deletes replies", &replies::DELETE_STALE, &[NOBODYS_REPLY], &["0", "0"]);
    }
    let scripts: [&Script; 32] = [
        &NOTHING,
        &consumers::REMOVE_CONSUMERS,
        &lease::BEAT,
        &lease::TAKE,
        &letters::PAGE,
        &letters::NEWEST,
        &letters::REQUEUE,
        &letters::DROP,
        &letters::held::GO_BY,
        &letters::held::SWEEP_HELD,
        &letters::held::END_LETTERS,
        &letters::held::SET_LETTER_STARTS,
        &lineage::ASK,
        &lineage::MAKE_GROUP,
        &log::DELIVERED,
        &log::EXORCISE,
        &log::SEIZE,
        &log::SURVEY,
        &members::ENLIST,
        &pause::PAUSE,
        &pause::PAUSED,
        &replies::DELETE_STALE,
        &sample::LOST,
        &schedule::POSTPONE,
        &schedule::PROMOTE,
        &schedule::IN_ORDER,
        &schedule::ALL,
        &schedule::DUE,
        &ACKNOWLEDGE,
        &settle::DEAD_LETTER,
        &settle::REPLY,
        &starts::SET_STARTS,
    ];
    (scripts.to_vec(), asks.0)
}

/// What is done with a stream and its group.
fn of_entries(asks: &mut Asks, stream: &str, group: &str, consumer: &str) {
    asks.refused("XREADGROUP", stream, &["GROUP", group, consumer, "COUNT", "1", "STREAMS", KEY, WRONG]);
    asks.refused("XGROUP CREATE", stream, &[KEY, group, WRONG]);
    asks.harmless("XGROUP DELCONSUMER", stream, &[KEY, group, WRONG]);
    asks.refused("XCLAIM", stream, &[KEY, group, consumer, WRONG, NO_ENTRY, "JUSTID"]);
    asks.harmless("XPENDING", stream, &[KEY, group]);
    asks.harmless("XACK", stream, &[KEY, group, NO_ENTRY]);
    asks.harmless("XDEL", stream, &[KEY, NO_ENTRY]);
    asks.refused("XADD", stream, &[KEY, NO_ENTRY, "id", ""]);
    asks.harmless("XRANGE", stream, &[KEY, NO_ENTRY, NO_ENTRY]);
    asks.harmless("XLEN", stream, &[KEY]);
    asks.harmless("XINFO GROUPS", stream, &[KEY]);
    asks.harmless("XINFO CONSUMERS", stream, &[KEY, group]);
    asks.harmless("EXISTS", stream, &[KEY]);
}

/// What is done with the keys beside a stream.
fn of_side_keys(asks: &mut Asks, stream: &str, consumer: &str) {
    let dead = &dead_letters(stream);
    asks.refused("XADD", dead, &[KEY, NO_ENTRY, "id", ""]);
    asks.harmless("XRANGE", dead, &[KEY, NO_ENTRY, NO_ENTRY]);
    asks.harmless("XREVRANGE", dead, &[KEY, NO_ENTRY, NO_ENTRY]);
    asks.harmless("XDEL", dead, &[KEY, NO_ENTRY]);
    asks.harmless("XLEN", dead, &[KEY]);
    let holds = &held(stream);
    asks.harmless("HGET", holds, &[KEY, WRONG]);
    asks.harmless("HMGET", holds, &[KEY, WRONG]);
    asks.harmless("HGETALL", holds, &[KEY]);
    asks.harmless("HEXISTS", holds, &[KEY, WRONG]);
    asks.harmless("HSCAN", holds, &[KEY, "0", "MATCH", consumer, "COUNT", "1"]);
    asks.harmless("HDEL", holds, &[KEY, WRONG]);
    asks.refused("HSET", holds, &[KEY, WRONG, "", WRONG]);
    asks.refused("HINCRBY", holds, &[KEY, WRONG, WRONG]);
    let schedule = &scheduled(stream);
    asks.refused("ZADD", schedule, &[KEY, WRONG, ""]);
    asks.harmless("ZREM", schedule, &[KEY, consumer]);
    asks.harmless("ZRANGEBYSCORE", schedule, &[KEY, "1", "0"]);
    asks.harmless("ZREVRANGEBYSCORE", schedule, &[KEY, "0", "1"]);
    asks.harmless("ZSCAN", schedule, &[KEY, "0", "MATCH", consumer, "COUNT", "1"]);
    asks.harmless("ZCARD", schedule, &[KEY]);
    let count = &finished(stream);
    asks.refused("INCRBY", count, &[KEY, WRONG]);
    asks.harmless("GET", count, &[KEY]);
    asks.refused("SET", count, &[KEY, "", "PX", "0"]);
    let lease = &owner(stream);
    asks.harmless("HGET", lease, &[KEY, WRONG]);
    asks.harmless("HMGET", lease, &[KEY, WRONG]);
    asks.refused("HSET", lease, &[KEY, WRONG, "", WRONG]);
    asks.refused("HINCRBY", lease, &[KEY, WRONG, WRONG]);
    let pause = &paused(stream);
    asks.harmless("HMGET", pause, &[KEY, WRONG]);
    asks.harmless("HDEL", pause, &[KEY, WRONG]);
    asks.refused("HSET", pause, &[KEY, WRONG, "", WRONG]);
    let lineage = &lineage(stream);
    asks.harmless("GET", lineage, &[KEY]);
    asks.refused("SET", lineage, &[KEY, "", "PX", "0"]);
}

/// Each script with all of its keys.
fn of_scripts(asks: &mut Asks, stream: &str, group: &str, consumer: &str) {
    let (dead, schedule, count) = (&*dead_letters(stream), &*scheduled(stream), &*finished(stream));
    let holds = &*held(stream);
    let no_entry = [group, NO_ENTRY, "", "", "", "", "", ""];
    let not_due = [group, NO_ENTRY, "", "", ""];
    asks.script("the script that acknowledges", &ACKNOWLEDGE, &[stream, count], &[group, NO_ENTRY]);
    asks.script("the script that dead-letters", &settle::DEAD_LETTER, &[stream, dead, count, holds], &no_entry);
    asks.script("the script that postpones", &schedule::POSTPONE, &[stream, schedule, count, dead, holds], &not_due);
    asks.script("the script that promotes", &schedule::PROMOTE, &[stream, schedule, dead], &["0", "0"]);
    asks.script("the script that lists what was delivered", &log::DELIVERED, &[stream], &[group, "", "0"]);
    asks.script("the script that takes entries over", &log::SEIZE, &[stream], &[group, consumer, "1", NO_ENTRY]);
    asks.script("the script that looks for lost entries", &log::EXORCISE, &[stream], &[group, "", "0"]);
    asks.script("the script that surveys a stream", &log::SURVEY, &[stream], &[group]);
    asks.script("the script that counts starts", &starts::SET_STARTS, &[stream], &[group, consumer, NO_ENTRY, "1"]);
    let removes = &consumers::REMOVE_CONSUMERS;
    asks.script("the script that removes consumers", removes, &[stream], &[group, NEVER, "", ""]);
    let pause = &*paused(stream);
    asks.script("the script that asks for pauses", &pause::PAUSED, &[pause], &[]);
    asks.script("the script that pauses a stream", &pause::PAUSE, &[pause], &["", "", "", ""]);
    let lease = &*owner(stream);
    asks.script("the script that takes a stream", &lease::TAKE, &[lease], &[consumer, WRONG, "", ""]);
    asks.script("the script of a sign of life", &lease::BEAT, &[lease], &["", "", "", "", "", ""]);
    let identity = [stream, &*lineage(stream), count];
    asks.script("the script that makes a group", &lineage::MAKE_GROUP, &identity, &[group, ""]);
    asks.script("the script that tells streams apart", &lineage::ASK, &identity, &[""]);
    asks.script("the script that counts losses", &sample::LOST, &identity, &[""]);
    for key in [stream, dead] {
        asks.script("the script that lists entries", &letters::PAGE, &[key], &[NO_ENTRY, NO_ENTRY, "1", "1"]);
    }
    asks.script("the script that finds the newest letter", &letters::NEWEST, &[dead], &[]);
    asks.script("the script that requeues", &letters::REQUEUE, &[dead, stream, holds], &[NO_ENTRY]);
    asks.script("the script that drops letters", &letters::DROP, &[dead, holds], &[NO_ENTRY]);
    asks.script("the script that ends letters", &letters::held::END_LETTERS, &[dead, holds], &[]);
    asks.script("the script that reads what is held", &letters::held::GO_BY, &[holds], &["", "0"]);
    asks.script("the script that looks for letters that are gone", &letters::held::SWEEP_HELD, &[holds, dead], &["0"]);
    asks.script("the script that counts starts of letters", &letters::held::SET_LETTER_STARTS, &[holds], &[]);
    asks.script("the script that lists the schedule", &schedule::IN_ORDER, &[schedule], &["+inf", "0", "0", "1"]);
    asks.script("the script that scans the schedule", &schedule::ALL, &[schedule], &["0", "1", "1", "0"]);
    asks.script("the script that finds when jobs are due", &schedule::DUE, &[schedule], &["0", "0"]);
}

/// Uses what a server that has only some of Lua may lack.
static NOTHING: std::sync::LazyLock<Script> = std::sync::LazyLock::new(|| {
    Script::new("return #cmsgpack.unpack(cmsgpack.pack({unpack({'a', 'b'})})) + (pcall(error) and 1 or 0)")
});

impl Broker {
    /// Tries every command and every script with the keys in use, without effect, and returns what is refused; with `retains`
    /// also what the deletion of old things needs. An error says that the broker cannot be asked now.
    pub async fn probe(&self, retains: bool) -> Result<Vec<Finding>, BrokerError> {
        self.probed.in_doubt.store(false, Ordering::Relaxed);
        let (scripts, asks) = asks(&self.settings, &self.consumer, retains);
        let mut pipeline = redis::pipe();
        scripts.iter().for_each(|script| {
            pipeline.load_script(script);
        });
        asks.iter().for_each(|ask| {
            pipeline.add_command(ask.command.clone());
        });
        let answers: Vec<RedisResult<Value>> = pipeline.ignore_errors().query_async(&mut self.connection()).await?;
        let (loaded, answers) = answers.split_at(scripts.len().min(answers.len()));
        let mut found = Vec::new();
        // One that cannot be loaded says it for all.
        if let Some(error) = loaded.iter().find_map(|answer| answer.as_ref().err()) {
            found.extend(judge("SCRIPT LOAD", &[], error, false)?);
        }
        for (ask, answer) in asks.iter().zip(answers) {
            if let Err(error) = answer {
                found.extend(judge(ask.what, &ask.keys, error, ask.refused)?);
            }
        }
        if found.iter().any(|finding| finding.what == "EVALSHA") {
            found.retain(|finding| !finding.what.starts_with("the script"));
        }
        *self.probed.found.lock().unwrap_or_else(PoisonError::into_inner) = found.clone();
        Ok(found)
    }

    /// Something was refused, so the next look comes soon.
    pub fn doubt(&self) {
        self.probed.in_doubt.store(true, Ordering::Relaxed);
    }

    /// Whether something was refused since the last probe, or in it.
    pub fn is_in_doubt(&self) -> bool {
        self.probed.in_doubt.load(Ordering::Relaxed) || self.permits().is_err()
    }

    /// Whether the last probe found nothing missing; the error names what is.
    pub fn permits(&self) -> Result<(), String> {
        let found = self.probed.found.lock().unwrap_or_else(PoisonError::into_inner);
        match found.as_slice() {
            [] => Ok(()),
            [only] => Err(only.to_string()),
            [first, others @ ..] => Err(format!("{first}; and {} more, which `lockkeeper check` names", others.len())),
        }
    }
}

/// What an error says of the question. An error of the connection, or of the server's state, is none of its answers.
fn judge(what: &str, keys: &[String], error: &RedisError, refused: bool) -> Result<Option<Finding>, BrokerError> {
    let finding = |lack| {
        let (what, keys, answer) = (what.to_owned(), keys.to_vec(), error.to_string());
        Ok(Some(Finding { what, keys, lack, answer }))
    };
    let words = error.to_string().to_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| words.contains(text));
    match error.code() {
        None => Err(error.clone().into()),
        Some("NOPERM") => finding(Lack::Right),
        // The daemon makes the group. A script that is not there could not be loaded. Memory that is full says nothing of us.
        Some("NOGROUP" | "NOSCRIPT" | "OOM") => Ok(None),
        Some("MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN" | "TRYAGAIN" | "WRONGTYPE") => finding(Lack::Ability),
        Some("LOADING" | "READONLY" | "MASTERDOWN" | "BUSY" | "MISCONF" | "NOREPLICAS" | "NOAUTH" | "WRONGPASS") => {
            Err(error.clone().into())
        }
        // What a script may not do is told as any error of the script.
        _ if says(&["can't run this command", "can't access at least one"]) => finding(Lack::Right),
        _ if says(&["unknown command", "unknown subcommand", "not supported", "not allowed", "disabled"]) => {
            finding(Lack::Ability)
        }
        _ if refused || says(&["no such key", "requires the key to exist"]) => Ok(None),
        _ => finding(Lack::Ability),
    }
}

#[cfg(test)]
mod tests;
