//! What a lock node is: only an independent master that forgets nothing too early may vote.

use super::NodeAddress;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, InfoDict, RedisError};
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// How long connecting and asking may take together. Nobody who locks ever waits for it.
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
    /// The node would drop locks when its memory is full.
    #[error(
        "its maxmemory-policy is {0}, so it may drop locks that are held; set maxmemory-policy to noeviction, or name a \
         server that keeps nothing but locks"
    )]
    Evicting(String),
    /// Two names lead to one server, which would then have two votes.
    #[error("it is the same server as {0}, and one server has one vote; name independent servers")]
    SameServer(String),
    /// The node answers, but does not say what it is.
    #[error("it does not say whether it is an independent master ({0}); let this user run INFO (ACL: +info)")]
    Unknown(String),
    /// The node cannot be asked.
    #[error("it cannot be reached ({0}); start it, or correct its address, user and password")]
    Unreachable(String),
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The server's version.
    pub version: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// `master` or `slave`.
    pub role: String,
    /// Another one for every start of every server.
    pub run_id: String,
    /// The time since its start, in whole seconds.
    pub uptime: Duration,
    /// What it does when its memory is full.
    pub eviction_policy: String,
    /// Whether every write is on its disk before it is answered, so that a restart forgets no lock.
    pub is_persistent: bool,
}

impl Identity {
    /// Whether this may vote, looked at alone.
    pub(super) fn judge(&self) -> Result<(), Refusal> {
        match (self.mode.as_str(), self.role.as_str()) {
            ("cluster", _) => Err(Refusal::Cluster),
            ("sentinel", _) => Err(Refusal::Sentinel),
            (_, "replica" | "slave") => Err(Refusal::Replica),
            ("standalone", "master") if self.run_id.is_empty() => Err(Refusal::Unknown("no run id".into())),
            ("standalone", "master") => match self.eviction_policy.as_str() {
                "noeviction" => Ok(()),
                policy => Err(Refusal::Evicting(policy.to_owned())),
            },
            (mode, role) => Err(Refusal::Unknown(format!("mode {mode:?}, role {role:?}"))),
        }
    }

    /// How long the node must not vote yet: it may have forgotten a lock that was held when it ended. What was granted
    /// before its start has run out once it has been up for the longest life of a lock.
    pub(super) fn quarantine(&self, ttl: Duration) -> Duration {
        if self.is_persistent { Duration::ZERO } else { ttl.saturating_sub(self.uptime) }
    }
}

/// What was found out about one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFinding {
    /// The node's name.
    pub name: String,
    /// What it says it is, when it says so.
    pub identity: Option<Identity>,
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

/// Asks all nodes at once, on connections of their own: the answers are about the nodes now, and a node that was never
/// reached says why.
pub(super) async fn inspect(nodes: impl Iterator<Item = &NodeAddress>) -> Vec<NodeFinding> {
    let look = async |node: &NodeAddress| match dial(&node.client).await {
        Ok((_, identity)) => {
            let result = identity.judge();
            NodeFinding { name: node.name.clone(), identity: Some(identity), result }
        }
        Err(refusal) => NodeFinding { name: node.name.clone(), identity: None, result: Err(refusal) },
    };
    let mut findings = futures_util::future::join_all(nodes.map(look)).await;
    let mut seen: HashMap<String, String> = HashMap::new();
    for finding in &mut findings {
        let Some(identity) = &finding.identity else { continue };
        match seen.get(&identity.run_id) {
            Some(first) if finding.result.is_ok() => finding.result = Err(Refusal::SameServer(first.clone())),
            Some(_) => (),
            None => drop(seen.insert(identity.run_id.clone(), finding.name.clone())),
        }
    }
    findings
}

/// Connects to a node and asks what it is.
pub(super) async fn dial(client: &redis::Client) -> Result<(MultiplexedConnection, Identity), Refusal> {
    let attempt = async {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(LIMIT)).set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.map_err(|error| Refusal::Unreachable(error.to_string()))?;
        let identity = identify(&mut connection).await?;
        Ok((connection, identity))
    };
    let silent = || Refusal::Unreachable("it does not answer within a second".into());
    tokio::time::timeout(LIMIT, attempt).await.unwrap_or_else(|_| Err(silent()))
}

async fn identify(connection: &mut MultiplexedConnection) -> Result<Identity, Refusal> {
    let info: Result<InfoDict, RedisError> = redis::cmd("INFO").query_async(connection).await;
    let info = info.map_err(|error| match error.is_io_error() {
        true => Refusal::Unreachable(error.to_string()),
        false => Refusal::Unknown(error.to_string()),
    })?;
    let text = |name: &str| info.get::<String>(name).unwrap_or_default();
    // Valkey 9 names its mode otherwise.
    let mode = Some(text("redis_mode")).filter(|mode| !mode.is_empty()).unwrap_or_else(|| text("server_mode"));
    let version = Some(text("valkey_version")).filter(|version| !version.is_empty());
    // A user who may not read the settings is told nothing, and the node counts as one that forgets.
    let settings: Result<HashMap<String, String>, RedisError> =
        redis::cmd("CONFIG").arg("GET").arg("append*").query_async(connection).await;
    let settings = settings.unwrap_or_default();
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|setting| setting == value);
    Ok(Identity {
        version: version.unwrap_or_else(|| text("redis_version")),
        mode,
        role: text("role"),
        run_id: text("run_id"),
        uptime: Duration::from_secs(info.get("uptime_in_seconds").unwrap_or_default()),
        eviction_policy: text("maxmemory_policy"),
        is_persistent: is("appendonly", "yes") && is("appendfsync", "always"),
    })
}

impl super::Redlock {
    /// Asks every node what it is, all at once and for a second at most. What would break the promise of a lock is refused:
    /// a cluster node, a replica, a Sentinel, a server that evicts keys, the same server twice. The same is asked at every
    /// reconnect, when a node that is refused does not vote.
    pub async fn inspect(&self) -> Vec<NodeFinding> {
        inspect(self.nodes.iter().map(|node| &node.address)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(mode: &str, role: &str, policy: &str) -> Identity {
        let (mode, role, eviction_policy) = (mode.into(), role.into(), policy.into());
        Identity { mode, role, eviction_policy, run_id: "1".into(), ..Identity::default() }
    }

    #[test]
    fn only_a_standalone_master_that_evicts_nothing_may_vote() {
        let judged = |mode: &str, role: &str, policy: &str| identity(mode, role, policy).judge();
        assert_eq!(judged("standalone", "master", "noeviction"), Ok(()));
        assert_eq!(judged("cluster", "master", "noeviction"), Err(Refusal::Cluster));
        assert_eq!(judged("sentinel", "", ""), Err(Refusal::Sentinel));
        assert_eq!(judged("standalone", "replica", "noeviction"), Err(Refusal::Replica));
        assert_eq!(judged("standalone", "slave", "noeviction"), Err(Refusal::Replica));
        assert_eq!(judged("standalone", "master", "allkeys-lru"), Err(Refusal::Evicting("allkeys-lru".into())));
        assert!(matches!(judged("", "", ""), Err(Refusal::Unknown(_))));
        let nameless = Identity { run_id: String::new(), ..identity("standalone", "master", "noeviction") };
        assert!(matches!(nameless.judge(), Err(Refusal::Unknown(_))));
    }

    #[test]
    fn a_node_that_forgets_votes_once_it_has_been_up_for_a_locks_life() {
        let ttl = Duration::from_millis(2500);
        let up = |seconds, is_persistent| {
            Identity { uptime: Duration::from_secs(seconds), is_persistent, ..Identity::default() }.quarantine(ttl)
        };
        assert_eq!(up(0, false), ttl);
        assert_eq!(up(2, false), Duration::from_millis(500));
        assert_eq!(up(3, false), Duration::ZERO);
        assert_eq!(up(0, true), Duration::ZERO);
    }
}
