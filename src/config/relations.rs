//! Mistakes that show in no single value, only in how two of them go together.

use std::collections::HashMap;

use super::layers::Layers;
use super::secret::Secret;
use super::settings::Config;
use super::url;

/// Reports every relation that does not hold.
pub(super) fn check(config: &Config, layers: &mut Layers) {
    check_lock(config, layers);
    check_first(config, layers);
    check_capacity(config, layers);
    check_signs_of_life(config, layers);
    check_retention(config, layers);
    check_certificate(config, layers);
}

fn check_lock(config: &Config, layers: &mut Layers) {
    let lock = &config.lock;
    let (limit, ttl) = (lock.node_timeout.as_millis(), lock.ttl.as_millis());
    let too_long = (limit >= ttl).then(|| format!("must be less than lock.ttl_ms, which is {ttl}, not {limit}"));
    layers.relate(&["lock.node_timeout_ms", "lock.ttl_ms"], too_long);

    let count = lock.nodes.len();
    if count == 0 {
        layers.relate(&["lock.nodes"], Some("must name at least one node".to_owned()));
    } else if count.is_multiple_of(2) {
        let (fewer, more) = (count - 1, count + 1);
        let problem = "an even number tolerates no more failures than one fewer";
        layers.reject("lock.nodes", format!("{count} nodes: {problem}; use {fewer} or {more}"));
    }
    for problem in repeated_nodes(&lock.nodes) {
        layers.reject("lock.nodes", problem);
    }
}

/// Two votes of one server are not a majority of anything.
fn repeated_nodes(nodes: &[Secret]) -> Vec<String> {
    let mut seen = HashMap::new();
    let mut problems = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let Some(identity) = url::redis_identity(node.expose()) else {
            continue;
        };
        if let Some(first) = seen.get(&identity) {
            problems.push(format!("node {} is the same as node {first}", index + 1));
        } else {
            seen.insert(identity, index + 1);
        }
    }
    problems
}

fn check_first(config: &Config, layers: &mut Layers) {
    let stream = &config.stream;
    if stream.first.is_empty() {
        return;
    }
    let unknown = stream.first.iter().position(|name| !stream.names.contains(name));
    let waits = stream.names.iter().any(|name| !stream.first.contains(name));
    let problem = match unknown {
        Some(index) => Some(format!("stream {}: must be one of stream.names", index + 1)),
        None => (!waits).then(|| "leaves none that would wait".to_owned()),
    };
    layers.relate(&["stream.first", "stream.names"], problem);
    let needed = 2 * stream.names.len();
    let small = ((stream.prefetch as usize) < needed)
        .then(|| format!("must be at least {needed}, twice the number of streams, when stream.first is set"));
    layers.relate(&["stream.prefetch", "stream.names"], small);
}

fn check_capacity(config: &Config, layers: &mut Layers) {
    let (prefetch, max_jobs) = (config.stream.prefetch, config.batch.max_jobs);
    let starved = (prefetch < max_jobs).then(|| {
        format!("must be at least batch.max_jobs, which is {max_jobs}, or no batch is ever full; not {prefetch}")
    });
    layers.relate(&["stream.prefetch", "batch.max_jobs"], starved);

    let (connections, in_flight) = (config.database.max_connections, config.batch.in_flight);
    let needed = in_flight.saturating_add(2);
    let too_few = (connections < needed).then(|| {
        format!(
            "must be at least batch.in_flight + 2, which is {needed}, or batches wait for each other; not {connections}"
        )
    });
    layers.relate(&["database.max_connections", "batch.in_flight"], too_few);
}

fn check_signs_of_life(config: &Config, layers: &mut Layers) {
    let (lease, look) = (config.fleet.lease.as_millis(), config.fleet.look.as_millis());
    let too_rare = (look * 4 > lease).then(|| {
        format!("must fit four times into fleet.lease_ms, which is {lease}, or a live owner may be missed; not {look}")
    });
    layers.relate(&["fleet.look_ms", "fleet.lease_ms"], too_rare);
}

fn check_retention(config: &Config, layers: &mut Layers) {
    let deliveries = config.stream.deliveries_take();
    let too_soon = config.retention.receipts.filter(|age| *age < deliveries).map(|age| {
        let (age, hours) = (age.as_secs() / 86_400, deliveries.as_secs().div_ceil(3_600));
        format!(
            "must be at least stream.claim_after_ms times stream.max_deliveries, which is {hours} h, or a job that is still \
             delivered has a second effect; not {age}"
        )
    });
    let related = ["retention.receipts_days", "stream.claim_after_ms", "stream.max_deliveries"];
    layers.relate(&related, too_soon);
}

fn check_certificate(config: &Config, layers: &mut Layers) {
    let (set, unset) = match (&config.tls.cert_file, &config.tls.key_file) {
        (Some(_), None) => ("tls.cert_file", "tls.key_file"),
        (None, Some(_)) => ("tls.key_file", "tls.cert_file"),
        _ => return,
    };
    layers.relate(&[set, unset], Some(format!("is of no use without {unset}; set both or neither")));
}
