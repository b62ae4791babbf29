//! What is wrong, in a sentence that says what to do. Pure.

use super::fleet::{Daemon, Finding, Locks, Node, Queue, Severity, Store, Subscription, View};

/// An entry that waits for longer is a backlog.
const OLD_SECONDS: f64 = 10.0;

/// Jobs in hand of which none ends for longer stand still.
const STALLED_SECONDS: f64 = 30.0;

/// Everything wrong in `view`, worst first.
pub fn findings(view: &View) -> Vec<Finding> {
    let mut found = Found::default();
    view.daemons.iter().for_each(|daemon| found.daemon(daemon));
    found.locks(&view.locks);
    found.store(&view.store);
    let stands_still = view.jobs.ended_per_second == Some(0.0);
    view.queues.iter().for_each(|queue| found.queue(queue, stands_still));
    if view.members.is_some_and(|members| members < 1.5) {
        found.add(Severity::Info, "no daemon stands by: a crash stops the work until something starts one");
    }
    view.subscriptions.iter().for_each(|subscription| found.subscription(subscription));
    found.0.sort_by_key(|finding| finding.severity);
    found.0
}

#[derive(Default)]
struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, severity: Severity, text: impl Into<String>) {
        self.0.push(Finding { severity, text: text.into() });
    }

    fn subscription(&mut self, subscription: &Subscription) {
        let name = &subscription.name;
        match subscription.state.as_deref() {
            Some("stopped") => {
                let text = format!("subscription {name} is stopped: `lockkeeper subscriptions list` says why");
                self.add(Severity::Critical, text);
            }
            Some("paused") => self.add(Severity::Info, format!("subscription {name} is paused")),
            _ => {
                if let Some(lag) = subscription.lag_seconds.filter(|lag| *lag > OLD_SECONDS) {
                    let nobody = if subscription.readers == Some(0.0) { ", and nobody reads it" } else { "" };
                    let text = format!("subscription {name} is {} behind{nobody}", seconds(lag));
                    self.add(Severity::Warning, text);
                }
            }
        }
    }

    fn daemon(&mut self, daemon: &Daemon) {
        let url = &daemon.url;
        if let Some(why) = &daemon.away {
            let away = daemon.away_seconds.unwrap_or(0.0);
            let text = format!("{url} has not answered for {} ({why}): start it, or give its --url", seconds(away));
            return self.add(Severity::Critical, text);
        }
        if daemon.state == "draining" {
            let jobs = daemon.in_flight.map_or(String::new(), |jobs| format!(", {} in flight", count(jobs)));
            self.add(Severity::Info, format!("{url} drains{jobs}: it ends when they are done"));
        }
        let stalled = |time: Option<f64>| time.filter(|time| *time > STALLED_SECONDS);
        if let Some(time) = stalled(daemon.commit_stalled_seconds) {
            let text = format!(
                "{url} has had jobs in hand for {} and committed none: see its /readyz and its log",
                seconds(time)
            );
            self.add(Severity::Critical, text);
        } else if let Some(time) = stalled(daemon.acknowledge_stalled_seconds) {
            let text = format!(
                "{url} has had jobs in hand for {} and acknowledged none, so they run again and again as duplicates: \
                 see its /readyz and its log",
                seconds(time)
            );
            self.add(Severity::Critical, text);
        }
        // What stands still has been told, with its time.
        let told = ["lifecycle", "progress"];
        for check in daemon.failing_checks.iter().filter(|check| !told.contains(&check.as_str())) {
            self.add(Severity::Critical, format!("{url} is not ready, {check} fails: see its /readyz"));
        }
        if daemon.reload_failed {
            let text = format!("{url} was told to reload a broken configuration: its log names the keys");
            self.add(Severity::Warning, text);
        }
    }

    fn locks(&mut self, locks: &Locks) {
        let granting: Vec<&Node> = locks.nodes.iter().filter(|node| node.up_for == node.known_to).collect();
        let granting = granting.iter().filter(|node| !node.breaker_open && !node.quarantined).count();
        let all = locks.nodes.len();
        let gone: Vec<&str> =
            locks.nodes.iter().filter(|node| node.up_for == 0).map(|node| node.name.as_str()).collect();
        if let Some(quorum) = locks.quorum.filter(|quorum| (all - gone.len()) as f64 + 0.5 < *quorum) {
            let text = format!(
                "lock quorum lost: {} of {all} nodes are up and {quorum} must be, so nothing runs: start {}",
                all - gone.len(),
                gone.join(", ")
            );
            return self.add(Severity::Critical, text);
        }
        for node in &locks.nodes {
            let Node { name, up_for, known_to, .. } = node;
            if *up_for == 0 {
                self.add(Severity::Warning, format!("lock node {name} is down: start it; {granting} of {all} grant"));
            } else if up_for < known_to {
                let text = format!(
                    "lock node {name} is down for {} of {known_to} daemons: look at their network",
                    known_to - up_for
                );
                self.add(Severity::Warning, text);
            } else if node.quarantined {
                self.add(
                    Severity::Info,
                    format!("lock node {name} has restarted and is kept out for a while; {granting} of {all} grant"),
                );
            } else if node.breaker_open {
                let text =
                    format!("lock node {name} answers too late or not at all: look at it; {granting} of {all} grant");
                self.add(Severity::Warning, text);
            }
        }
        if is_some(locks.no_quorum_per_second) {
            let text = "locks find no quorum: nodes answer too late or refuse; `lockkeeper check` names them";
            self.add(Severity::Critical, text);
        }
        if is_some(locks.lost_per_second) {
            let text = "batches outlive their locks: find what is slow, or raise lock.ttl_ms";
            self.add(Severity::Warning, text);
        }
    }

    fn store(&mut self, store: &Store) {
        for class in store.errors_per_second.keys() {
            let text = match class.as_str() {
                "read_only" => "the database is read-only: jobs wait until it can be written".to_owned(),
                "denied" => "the database refuses our user: `lockkeeper check` names the grant".to_owned(),
                "too_many_connections" => "the database has too many connections: raise its limit, or lower \
                                           database.max_connections"
                    .to_owned(),
                other => format!("the database cannot be used ({other}): jobs wait; see its log and ours"),
            };
            self.add(Severity::Critical, text);
        }
        if let (Some(used), Some(max)) = (store.connections_used, store.connections_max)
            && used >= max
            && max > 0.0
        {
            let text = format!("all {} database connections are in use: raise database.max_connections", count(max));
            self.add(Severity::Warning, text);
        }
        if is_some(store.commit_unknown_per_second) {
            self.add(Severity::Warning, "answers to commits get lost: look at the network to the database");
        }
        if let Some(rate) = store.conflicts_per_second.filter(|rate| *rate >= 1.0) {
            let text =
                format!("{} conflicts a second: somebody writes the same aggregates past the locks", count(rate));
            self.add(Severity::Warning, text);
        }
    }

    fn queue(&mut self, queue: &Queue, stands_still: bool) {
        let name = &queue.name;
        if let Some(lost) = queue.lost.filter(|lost| *lost > 0.0) {
            let text = format!(
                "{} entries of {name} vanished before they were run: find who passes MAXLEN or deletes",
                count(lost)
            );
            self.add(Severity::Critical, text);
        }
        if let Some(orphaned) = queue.orphaned.filter(|orphaned| *orphaned > 0.0) {
            let text = format!(
                "{} entries of {name} were in no list and have been taken in: find who acknowledges, or moves the group",
                count(orphaned)
            );
            self.add(Severity::Warning, text);
        }
        if queue.is_age_known == Some(false) {
            let text = format!(
                "the ids of entries of {name} are no times, so nobody knows how old they are: have them be `*`"
            );
            self.add(Severity::Warning, text);
        }
        if queue.is_paused == Some(true) {
            let text = format!("{name} is paused: `lockkeeper streams list` says by whom and why");
            self.add(Severity::Warning, text);
        }
        if queue.has_unknown_types == Some(true) {
            let text = format!(
                "jobs of {name} are of a type or version that no daemon knows: start a newer program, or see the log"
            );
            self.add(Severity::Warning, text);
        }
        match queue.owners.as_deref() {
            Some([]) if queue.length.is_some_and(|length| length > 0.0) => {
                let text =
                    format!("nobody owns {name}: resume a daemon that is quiet, or see what `lockkeeper check` says");
                self.add(Severity::Critical, text);
            }
            Some(owners @ [_, _, ..]) => {
                let owners = owners.join(" and ");
                let text = format!(
                    "{owners} say they own {name}: one of them is frozen, or has not heard yet that it lost it"
                );
                self.add(Severity::Warning, text);
            }
            _ => {}
        }
        let old = queue.oldest_seconds.filter(|age| *age > OLD_SECONDS);
        if let Some(age) = old {
            let age = seconds(age);
            let length = queue.length.map_or(String::new(), |length| format!(" of {}", count(length)));
            if stands_still && queue.is_paused != Some(true) {
                let text = format!("{name} stands still: the oldest{length} waits {age} and no job ends");
                self.add(Severity::Critical, text);
            } else {
                let grows = queue.growth_per_second.is_some_and(|growth| growth > 0.0);
                let (what, advice) = if grows {
                    ("backlog grows", ": more comes than is committed")
                } else {
                    ("backlog", ", which gets less")
                };
                self.add(Severity::Warning, format!("{what} in {name}: the oldest{length} waits {age}{advice}"));
            }
        }
        if let Some(letters) = queue.dead_letters.filter(|letters| *letters > 0.0) {
            let text = format!("dead letters of {name}: {}, see `lockkeeper dead-letters list`", count(letters));
            self.add(Severity::Warning, text);
        }
        if let Some(overdue) = queue.overdue_seconds.filter(|overdue| *overdue > OLD_SECONDS) {
            let text = format!("scheduled jobs of {name} are {} overdue: does a daemon run?", seconds(overdue));
            self.add(Severity::Warning, text);
        }
        if queue.lag.is_none() {
            let text = format!("the broker cannot tell how many wait in {name}: go by the oldest");
            self.add(Severity::Info, text);
        }
    }
}

fn is_some(rate: Option<f64>) -> bool {
    rate.is_some_and(|rate| rate > 0.0)
}

/// A whole number with its thousands apart.
pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |digits| ("-", digits));
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// A duration as people say it: `40 ms`, `1.5 s`, `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`.
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match value {
        value if value < 0.0005 => "0 ms".to_owned(),
        value if value < 0.01 => format!("{:.1} ms", value * 1e3),
        value if value < 0.9995 => format!("{:.0} ms", value * 1e3),
        value if value < 9.95 => format!("{value:.1} s"),
        value if value < 119.5 => format!("{value:.0} s"),
        value if value < 3570.0 => format!("{:.0} min", value / 60.0),
        _ if whole < 48 * 3600 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}
