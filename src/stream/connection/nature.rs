//! What kind of server the broker is.

use super::broker::Broker;
use super::error::BrokerError;

/// What the broker says of itself; what it does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// What it does when its memory is full.
    pub eviction_policy: Option<String>,
    /// How much memory it may use, in bytes; 0 is all there is.
    pub max_memory: Option<u64>,
    mode: Option<String>,
    cluster: bool,
    role: Option<String>,
}

/// Why the broker cannot be one, or not now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A node of a cluster.
    #[error(
        "it is a node of a cluster, which has the keys of one stream on several nodes, so that nothing could be acknowledged; \
         name a server without cluster mode"
    )]
    Cluster,
    /// A Sentinel.
    #[error("it is a Sentinel, which keeps no streams; name the server that it watches")]
    Sentinel,
    /// A replica.
    #[error("it is a replica, so what is written to it is refused or lost; name its master")]
    Replica,
    /// Jobs may be dropped.
    #[error("maxmemory-policy is {0}: jobs may be evicted; set it to noeviction")]
    Evicts(String),
}

impl Nature {
    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(value.trim().to_owned())
        };
        Self {
            eviction_policy: field("maxmemory_policy"),
            max_memory: field("maxmemory").and_then(|bytes| bytes.parse().ok()),
            mode: field("redis_mode"),
            cluster: field("cluster_enabled").is_some_and(|enabled| enabled == "1"),
            role: field("role"),
        }
    }

    /// Whether the daemon may work with it, as far as it is known.
    pub fn judge(&self) -> Result<(), Unfit> {
        match (self.mode.as_deref(), self.role.as_deref()) {
            (Some("sentinel"), _) => Err(Unfit::Sentinel),
            _ if self.cluster => Err(Unfit::Cluster),
            (Some("cluster"), _) => Err(Unfit::Cluster),
            (_, Some("slave" | "replica")) => Err(Unfit::Replica),
            _ => match &self.eviction_policy {
                Some(policy) if policy != "noeviction" && self.max_memory.is_some_and(|bytes| bytes > 0) => {
                    Err(Unfit::Evicts(policy.clone()))
                }
                _ => Ok(()),
            },
        }
    }
}

impl Broker {
    /// What the broker says of itself; nothing when it keeps that from us.
    pub async fn nature(&self) -> Result<Nature, BrokerError> {
        match redis::cmd("INFO").query_async::<String>(&mut self.connection()).await {
            Ok(info) => Ok(Nature::parse(&info)),
            Err(error) if matches!(error.code(), Some("NOPERM" | "ERR")) => Ok(Nature::default()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_master_without_a_cluster_that_evicts_nothing_is_fit() {
        let judged = |lines: &str| Nature::parse(&lines.replace(' ', "\r\n")).judge();
        let fit = "redis_mode:standalone role:master cluster_enabled:0 maxmemory:0 maxmemory_policy:allkeys-lru";
        assert_eq!(judged(fit), Ok(()), "without a bound nothing is evicted");
        assert_eq!(judged(""), Ok(()), "what it does not say is not held against it");
        assert_eq!(judged(&fit.replace("maxmemory:0", "maxmemory:1")), Err(Unfit::Evicts("allkeys-lru".into())));
        assert_eq!(judged(&fit.replace("enabled:0", "enabled:1")), Err(Unfit::Cluster));
        assert_eq!(judged(&fit.replace("standalone", "cluster")), Err(Unfit::Cluster));
        assert_eq!(judged(&fit.replace("standalone", "sentinel")), Err(Unfit::Sentinel));
        assert_eq!(judged(&fit.replace("master", "slave")), Err(Unfit::Replica));
    }
}
