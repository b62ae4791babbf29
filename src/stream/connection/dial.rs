//! Connecting to the broker, and what has to be shown before a connection is used.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, InfoDict, RedisError, RedisResult, ServerErrorKind, Value};

use super::proof::ask_for_proof;
use super::trouble::Trouble;
use crate::stream::settings::{ANSWER_LIMIT, Settings};

/// How long connecting and looking may take together, so that one attempt that leads nowhere does not hold up the next.
const DIAL_LIMIT: Duration = Duration::from_millis(2500);

/// A connection that leads to a writable master, and which server that is.
pub(in crate::stream) struct Dialled {
    pub connection: MultiplexedConnection,
    /// Another one for every start of every server; `None` where an ACL hides it.
    pub run_id: Option<Arc<str>>,
}

/// Connects, and makes sure that the server is a master which takes our writes. `wait` is how long its commands may block.
pub(in crate::stream) async fn dial(
    client: &redis::Client,
    settings: &Settings,
    wait: Duration,
) -> RedisResult<Dialled> {
    let work = async {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(wait + ANSWER_LIMIT))
            .set_connection_timeout(Some(DIAL_LIMIT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        // One round trip, however far away the server is. A right that is missing is missing on every connection: whoever needs
        // it says so.
        let mut questions = redis::pipe();
        questions.cmd("ROLE").cmd("INFO").arg("replication").cmd("INFO").arg("server");
        ask_for_proof(&mut questions, settings);
        let answers: Vec<RedisResult<Value>> = questions.ignore_errors().query_async(&mut connection).await?;
        let useless = answers.iter().find(|answer| is_useless(answer)).cloned();
        let mut answers = answers.into_iter().map(Result::ok);
        let (role, replication, server) = (answers.next(), answers.next(), answers.next().flatten());
        match useless {
            // Whoever connects first looks at its nature, and refuses it with the reason, whether it serves its slots or not.
            _ if info(server.clone(), "redis_mode").as_deref() == Some("cluster") => {}
            Some(Err(error)) => return Err(error),
            _ => {}
        }
        judge_role(role.flatten().and_then(first).or(info(replication.flatten(), "role")))?;
        let run_id = info(server, "run_id").map(Arc::from);
        Ok(Dialled { connection, run_id })
    };
    let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(DIAL_LIMIT, work).await.map_err(late)?
}

fn is_useless(answer: &RedisResult<Value>) -> bool {
    answer.as_ref().is_err_and(|error| Trouble::of(error).ends_connection())
}

/// What the server says it is; `None` where neither ROLE nor INFO is allowed.
pub(in crate::stream) async fn role(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    match redis::cmd("ROLE").query_async(connection).await {
        Ok(answer) => return Ok(first(answer)),
        Err(error) if Trouble::of(&error).ends_connection() => return Err(error),
        Err(_) => {}
    }
    match redis::cmd("INFO").arg("replication").query_async(connection).await {
        Ok(answer) => Ok(info(Some(answer), "role")),
        Err(error) if Trouble::of(&error).ends_connection() => Err(error),
        Err(_) => Ok(None),
    }
}

/// The first of a list.
fn first(answer: Value) -> Option<String> {
    let answer: Vec<Value> = redis::from_redis_value(answer).ok()?;
    redis::from_redis_value(answer.into_iter().next()?).ok()
}

/// One line of an answer to INFO.
fn info(answer: Option<Value>, name: &str) -> Option<String> {
    let answer: InfoDict = redis::from_redis_value(answer?).ok()?;
    answer.get(name)
}

/// Refuses what says that it is no master.
pub(in crate::stream) fn judge_role(role: Option<String>) -> RedisResult<()> {
    match role {
        Some(role) if role != "master" => {
            let text = "it is a replica, so what is written to it is refused or lost; its role";
            Err((ErrorKind::Server(ServerErrorKind::ReadOnly), text, role).into())
        }
        _ => Ok(()),
    }
}
