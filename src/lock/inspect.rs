//! What a lock node is: only an independent master may vote.

use super::NodeAddress;
use redis::{AsyncConnectionConfig, RedisResult, Value};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(1);

/// Why a node may not vote, and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The node belongs to a Redis Cluster.
    #[error(
        "it is a node of a Redis Cluster, which keeps each key on one node: that is a single point of failure and no \
         quorum; name independent servers without cluster mode, the cluster may carry the streams"
    )]
    Cluster,
    /// The node copies another.
    #[error("it is a replica, which cannot grant a lock and is no vote of its own; name an independent master")]
    Replica,
    /// The node watches others.
    #[error("it is a Sentinel, which stores no keys; name the independent masters themselves")]
    Sentinel,
    /// The node answers, but does not say what it is.
    #[error("it does not say whether it is an independent master ({0}); let it answer HELLO, or INFO to this user")]
    Unknown(String),
    /// The node cannot be asked.
    #[error("it cannot be reached ({0}); start it, or correct its address, user and password")]
    Unreachable(String),
}

/// What was found out about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFinding {
    /// The node's name.
    pub name: String,
    /// Whether it may vote.
    pub result: Result<(), Refusal>,
}

impl fmt::Display for NodeFinding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Ok(()) => write!(formatter, "lock node {}: an independent master", self.name),
            Err(refusal) => write!(formatter, "lock node {} is refused: {refusal}", self.name),
        }
    }
}

/// Asks a node, on a connection of its own: the answer is about the node now and not about an earlier connection, and
/// a node that was never reached says why.
pub(super) async fn inspect(node: &NodeAddress) -> NodeFinding {
    let answer = tokio::time::timeout(LIMIT, ask(&node.client)).await;
    let answer = answer.unwrap_or_else(|_| Err(Refusal::Unreachable("it does not answer within a second".into())));
    NodeFinding { name: node.name.clone(), result: answer.and_then(|identity| judge(&identity)) }
}

/// What a node says it is.
struct Identity {
    mode: String,
    role: String,
}

async fn ask(client: &redis::Client) -> Result<Identity, Refusal> {
    let unreachable = |error: redis::RedisError| Refusal::Unreachable(error.to_string());
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(Some(LIMIT));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(unreachable)?;
    let hello: RedisResult<HashMap<String, Value>> = redis::cmd("HELLO").query_async(&mut connection).await;
    if let Ok(hello) = hello {
        let field = |name| hello.get(name).cloned().and_then(|value| redis::from_redis_value(value).ok());
        return Ok(Identity { mode: field("mode").unwrap_or_default(), role: field("role").unwrap_or_default() });
    }
    let info: RedisResult<redis::InfoDict> = redis::cmd("INFO").query_async(&mut connection).await;
    let info = info.map_err(|error| Refusal::Unknown(error.to_string()))?;
    Ok(Identity { mode: info.get("redis_mode").unwrap_or_default(), role: info.get("role").unwrap_or_default() })
}

fn judge(identity: &Identity) -> Result<(), Refusal> {
    match (identity.mode.as_str(), identity.role.as_str()) {
        ("cluster", _) => Err(Refusal::Cluster),
        ("sentinel", _) => Err(Refusal::Sentinel),
        (_, "replica" | "slave") => Err(Refusal::Replica),
        ("standalone", "master") => Ok(()),
        (mode, role) => Err(Refusal::Unknown(format!("mode {mode:?}, role {role:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_standalone_master_may_vote() {
        let judged = |mode: &str, role: &str| judge(&Identity { mode: mode.into(), role: role.into() });
        assert_eq!(judged("standalone", "master"), Ok(()));
        assert_eq!(judged("cluster", "master"), Err(Refusal::Cluster));
        assert_eq!(judged("sentinel", "sentinel"), Err(Refusal::Sentinel));
        assert_eq!(judged("standalone", "replica"), Err(Refusal::Replica));
        assert_eq!(judged("standalone", "slave"), Err(Refusal::Replica));
        assert!(matches!(judged("", ""), Err(Refusal::Unknown(_))));
    }
}
