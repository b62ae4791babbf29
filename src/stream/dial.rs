//! Connecting to the broker, and what has to be shown before a connection is used.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, InfoDict, RedisError, RedisResult, ServerErrorKind, Value};

use super::settle::prove_acknowledge;
use super::trouble::Trouble;
use super::{ANSWER_LIMIT, Settings};

/// How long connecting and looking may take together, so that one attempt that leads nowhere does not hold up the next.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// A connection that leads to a writable master, and which server that is.
pub(super) struct Dialled {
    pub connection: MultiplexedConnection,
    /// Another one for every start of every server; `None` where an ACL hides it.
    pub run_id: Option<Arc<str>>,
}

/// Connects, and makes sure that the server is a master which takes our writes. `wait` is how long its commands may block.
pub(super) async fn dial(client: &redis::Client, settings: &Settings, wait: Duration) -> RedisResult<Dialled> {
    let work = async {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(Some(wait + ANSWER_LIMIT))
            .set_connection_timeout(Some(DIAL_LIMIT));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        judge_role(role(&mut connection).await?)?;
        for stream in &settings.names {
            match prove_acknowledge(&mut connection, stream, &settings.group).await {
                // A right that is missing is missing on every connection; whoever needs it says so.
                Err(error) if Trouble::of(&error).ends_connection() => return Err(error),
                _ => {}
            }
        }
        let run_id = run_id(&mut connection).await?;
        Ok(Dialled { connection, run_id })
    };
    let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
    tokio::time::timeout(DIAL_LIMIT, work).await.map_err(late)?
}

/// What the server says it is; `None` where neither ROLE nor INFO is allowed.
pub(super) async fn role(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    match redis::cmd("ROLE").query_async::<Vec<Value>>(connection).await {
        Ok(answer) => return Ok(answer.into_iter().next().and_then(|role| redis::from_redis_value(role).ok())),
        Err(error) if Trouble::of(&error).ends_connection() => return Err(error),
        Err(_) => {}
    }
    Ok(info(connection, "replication").await?.and_then(|info| info.get("role")))
}

/// Refuses what says that it is no master.
pub(super) fn judge_role(role: Option<String>) -> RedisResult<()> {
    match role {
        Some(role) if role != "master" => {
            let text = "what answers is not a master, so it cannot be written to; its role";
            Err((ErrorKind::Server(ServerErrorKind::ReadOnly), text, role).into())
        }
        _ => Ok(()),
    }
}

async fn run_id(connection: &mut MultiplexedConnection) -> RedisResult<Option<Arc<str>>> {
    let run_id = info(connection, "server").await?.and_then(|info| info.get::<String>("run_id"));
    Ok(run_id.map(Arc::from))
}

async fn info(connection: &mut MultiplexedConnection, section: &str) -> RedisResult<Option<InfoDict>> {
    match redis::cmd("INFO").arg(section).query_async(connection).await {
        Ok(info) => Ok(Some(info)),
        Err(error) if Trouble::of(&error).ends_connection() => Err(error),
        Err(_) => Ok(None),
    }
}
