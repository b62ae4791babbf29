//! What an operator needs to know of a fleet, from two answers of each daemon. Pure.
//!
//! What cannot be told is `None` and never 0: a rate needs two answers, a lag needs a broker that knows it. What each daemon
//! says of itself is added up; what all of them say of one server is the worst that any of them says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::exposition::{self, Exposition};
use super::findings::findings;
use super::fleet::{Daemon, Jobs, Locks, Node, Queue, Store, Subscription, View};

/// One answer, and when it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Since this program began.
    pub at: Duration,
    /// What the daemon said.
    pub metrics: Exposition,
}

/// What is known of one daemon.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Where it is asked.
    pub url: String,
    /// The last answer; `None` while it does not answer.
    pub now: Option<Answer>,
    /// The answer before.
    pub before: Option<Answer>,
    /// Why it does not answer, and since when.
    pub away: Option<(String, Duration)>,
}

impl Watched {
    /// A daemon that has not been asked yet.
    pub fn new(url: String) -> Self {
        Self { url, ..Self::default() }
    }

    /// Takes what came of asking it.
    pub fn take(&mut self, at: Duration, result: Result<Exposition, String>) {
        match result {
            Ok(metrics) => {
                self.before = self.now.replace(Answer { at, metrics });
                self.away = None;
            }
            Err(why) => {
                let since = self.away.take().map_or(at, |(_, since)| since);
                (self.now, self.before, self.away) = (None, None, Some((why, since)));
            }
        }
    }

    fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.now.as_ref()?.metrics.sum(name, labels)
    }

    /// How much more a counter is than before, and over how many seconds. A counter that went back began anew with its
    /// process: then nobody knows.
    fn increase(&self, name: &str, labels: &[(&str, &str)]) -> Option<(f64, f64)> {
        let (before, now) = (self.before.as_ref()?, self.now.as_ref()?);
        let seconds = now.at.saturating_sub(before.at).as_secs_f64();
        let now = now.metrics.sum(name, labels)?;
        // A series that was not there yet began at 0.
        let more = now - before.metrics.sum(name, labels).unwrap_or(0.0);
        (more >= 0.0 && seconds > 0.0).then_some((more, seconds))
    }

    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.increase(name, labels).map(|(more, seconds)| more / seconds)
    }
}

/// The view at this moment, which is `at` since this program began and `unix_seconds` for everybody else.
pub fn view(fleet: &[Watched], at: Duration, unix_seconds: f64) -> View {
    let fleet = Fleet(fleet);
    let mut view = View {
        findings: Vec::new(),
        jobs: fleet.jobs(),
        queues: fleet.names("lockkeeper_queue_length", "queue").into_iter().map(|name| fleet.queue(name)).collect(),
        locks: fleet.locks(),
        store: fleet.store(),
        subscriptions: fleet.subscriptions(),
        members: fleet.most(|daemon| daemon.gauge("lockkeeper_fleet_members", &[])),
        daemons: fleet.0.iter().map(|daemon| daemon_view(daemon, at, unix_seconds)).collect(),
    };
    view.findings = findings(&view);
    view
}

struct Fleet<'a>(&'a [Watched]);

impl Fleet<'_> {
    /// The sum of what each daemon knows.
    fn add(&self, value: impl Fn(&Watched) -> Option<f64>) -> Option<f64> {
        self.0.iter().filter_map(value).reduce(|one, other| one + other)
    }

    /// The most that any daemon says.
    fn most(&self, value: impl Fn(&Watched) -> Option<f64>) -> Option<f64> {
        self.0.iter().filter_map(value).reduce(f64::max)
    }

    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.add(|daemon| daemon.rate(name, labels))
    }

    /// A label's values, also those that only a restarted daemon does not have yet.
    fn names(&self, family: &str, label: &str) -> Vec<String> {
        let answers = self.0.iter().filter_map(|daemon| daemon.now.as_ref());
        let names: BTreeMap<String, f64> = answers.flat_map(|answer| answer.metrics.by(family, label)).collect();
        names.into_keys().collect()
    }

    fn jobs(&self) -> Jobs {
        const PROCESSED: &str = "lockkeeper_jobs_processed_total";
        let outcomes = self.names(PROCESSED, "outcome").into_iter();
        let by_outcome = outcomes.filter_map(|outcome| {
            let rate = self.rate(PROCESSED, &[("outcome", &outcome)])?;
            Some((outcome, rate))
        });
        Jobs {
            ended_per_second: self.rate(PROCESSED, &[]),
            outcomes_per_second: by_outcome.collect(),
            fetched_per_second: self.rate("lockkeeper_jobs_fetched_total", &[]),
            put_back_per_second: self.rate("lockkeeper_jobs_put_back_total", &[]),
            in_flight: self.add(|daemon| daemon.gauge("lockkeeper_jobs_in_flight", &[])),
            waiting: self.add(|daemon| daemon.gauge("lockkeeper_jobs_waiting", &[])),
            p50_seconds: self.quantile("lockkeeper_job_end_to_end_seconds", 0.5),
            p99_seconds: self.quantile("lockkeeper_job_end_to_end_seconds", 0.99),
        }
    }

    fn queue(&self, name: String) -> Queue {
        let labels = [("queue", name.as_str())];
        let gauge = |family: &str| self.most(|daemon| daemon.gauge(family, &labels));
        let age = |state: &str| {
            let labels = [("queue", name.as_str()), ("state", state)];
            self.most(|daemon| daemon.gauge("lockkeeper_queue_oldest_age_seconds", &labels))
        };
        let known =
            |daemon: &Watched| daemon.gauge("lockkeeper_queue_lag_known", &labels).is_none_or(|known| known > 0.0);
        let growth = |daemon: &Watched| {
            let (before, now) = (daemon.before.as_ref()?, daemon.now.as_ref()?);
            let length = |answer: &Answer| answer.metrics.sum("lockkeeper_queue_length", &labels);
            Some((length(now)? - length(before)?) / (now.at.saturating_sub(before.at)).as_secs_f64().max(1e-3))
        };
        let lost = |daemon: &Watched| {
            let lost = |family| daemon.gauge(family, &labels);
            let (trimmed, deleted) =
                (lost("lockkeeper_queue_entries_lost_total"), lost("lockkeeper_claim_deleted_total"));
            (trimmed.is_some() || deleted.is_some()).then(|| trimmed.unwrap_or(0.0) + deleted.unwrap_or(0.0))
        };
        let owns = |daemon: &Watched| {
            let owned = daemon.gauge("lockkeeper_stream_owned", &labels)?;
            Some((daemon.url.clone(), owned > 0.0))
        };
        let said: Vec<(String, bool)> = self.0.iter().filter_map(owns).collect();
        let owners = said.iter().filter(|(_, owns)| *owns).map(|(url, _)| url.clone()).collect();
        Queue {
            owners: (!said.is_empty()).then_some(owners),
            is_paused: gauge("lockkeeper_stream_paused").map(|paused| paused > 0.0),
            has_unknown_types: gauge("lockkeeper_stream_unknown_types").map(|waits| waits > 0.0),
            length: gauge("lockkeeper_queue_length"),
            lag: self.most(|daemon| daemon.gauge("lockkeeper_queue_lag", &labels).filter(|_| known(daemon))),
            pending: gauge("lockkeeper_queue_pending"),
            oldest_seconds: age("undelivered").into_iter().chain(age("pending")).reduce(f64::max),
            growth_per_second: self.most(growth),
            scheduled: gauge("lockkeeper_schedule_length"),
            overdue_seconds: age("overdue"),
            dead_letters: gauge("lockkeeper_dead_letter_length"),
            lost: self.add(lost),
            orphaned: self.add(|daemon| daemon.gauge("lockkeeper_queue_entries_orphaned_total", &labels)),
            is_age_known: gauge("lockkeeper_queue_oldest_age_known").map(|known| known > 0.0),
            name,
        }
    }

    fn locks(&self) -> Locks {
        let attempts = |outcome| self.rate("lockkeeper_lock_attempts_total", &[("outcome", outcome)]);
        Locks {
            quorum: self.most(|daemon| daemon.gauge("lockkeeper_lock_quorum_nodes", &[])),
            nodes: self.names("lockkeeper_lock_node_up", "node").into_iter().map(|name| self.node(name)).collect(),
            acquired_per_second: attempts("acquired"),
            contended_per_second: attempts("contended"),
            no_quorum_per_second: attempts("no_quorum"),
            lost_per_second: self.rate("lockkeeper_lock_lost_total", &[]),
        }
    }

    fn node(&self, name: String) -> Node {
        const REQUESTS: &str = "lockkeeper_lock_node_requests_total";
        let labels = [("node", name.as_str())];
        let up: Vec<f64> =
            self.0.iter().filter_map(|daemon| daemon.gauge("lockkeeper_lock_node_up", &labels)).collect();
        let holds = |family| self.most(|daemon| daemon.gauge(family, &labels)).is_some_and(|holds| holds > 0.0);
        // A node that was not asked has neither answered nor failed.
        let rate = |outcomes: [&str; 2]| {
            let rates = outcomes.into_iter();
            let rates = rates.filter_map(|outcome| self.rate(REQUESTS, &[("node", &name), ("outcome", outcome)]));
            rates.reduce(|one, other| one + other)
        };
        Node {
            up_for: up.iter().filter(|up| **up > 0.0).count(),
            known_to: up.len(),
            breaker_open: holds("lockkeeper_lock_node_breaker_open"),
            quarantined: holds("lockkeeper_lock_node_quarantined"),
            answers_per_second: rate(["ok", "held"]),
            failures_per_second: rate(["timeout", "error"]),
            name,
        }
    }

    fn store(&self) -> Store {
        let classes = self.names("lockkeeper_store_errors_total", "class").into_iter();
        let errors = classes.filter_map(|class| {
            let rate = self.rate("lockkeeper_store_errors_total", &[("class", &class)])?;
            (rate > 0.0).then_some((class, rate))
        });
        let add = |family: &str, labels: &[(&str, &str)]| self.add(|daemon| daemon.gauge(family, labels));
        Store {
            head_position: self.most(|daemon| daemon.gauge("lockkeeper_store_head_position", &[])),
            events_per_second: self.rate("lockkeeper_store_events_appended_total", &[]),
            conflicts_per_second: self.rate("lockkeeper_store_conflicts_total", &[]),
            retries_per_second: self.rate("lockkeeper_store_transaction_retries_total", &[]),
            errors_per_second: errors.collect(),
            commit_unknown_per_second: self.rate("lockkeeper_store_commit_unknown_total", &[]),
            append_p99_seconds: self.quantile("lockkeeper_store_append_duration_seconds", 0.99),
            connections_used: add("lockkeeper_db_pool_connections", &[("state", "used")]),
            connections_max: add("lockkeeper_db_pool_max_connections", &[]),
        }
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        let subscription = |name: String| {
            let labels = [("subscription", name.as_str())];
            let state = |state: &&str| {
                let labels = [("subscription", name.as_str()), ("state", *state)];
                self.most(|daemon| daemon.gauge("lockkeeper_subscription_state", &labels)).is_some_and(|is| is > 0.0)
            };
            Subscription {
                position: self.most(|daemon| daemon.gauge("lockkeeper_subscription_position", &labels)),
                lag_events: self.most(|daemon| daemon.gauge("lockkeeper_subscription_lag_events", &labels)),
                lag_seconds: self.most(|daemon| daemon.gauge("lockkeeper_subscription_lag_seconds", &labels)),
                readers: self.add(|daemon| daemon.gauge("lockkeeper_subscription_owned", &labels)),
                state: ["stopped", "paused", "running"].iter().find(|name| state(name)).map(ToString::to_string),
                name,
            }
        };
        self.names("lockkeeper_subscription_position", "subscription").into_iter().map(subscription).collect()
    }

    /// A quantile of what a histogram took in between the last two answers, by all daemons, as Prometheus reckons it;
    /// `None` when that was nothing.
    fn quantile(&self, family: &str, quantile: f64) -> Option<f64> {
        let name = format!("{family}_bucket");
        let bounds = self.names(&name, "le").into_iter().filter_map(|le| Some((le.parse::<f64>().ok()?, le)));
        let buckets = bounds.filter_map(|(bound, le)| {
            let more = self.add(|daemon| daemon.increase(&name, &[("le", &le)]).map(|(more, _)| more))?;
            Some((bound, more))
        });
        exposition::quantile(buckets.collect(), quantile)
    }
}

fn daemon_view(daemon: &Watched, at: Duration, unix_seconds: f64) -> Daemon {
    let metrics = daemon.now.as_ref().map(|answer| &answer.metrics);
    let label = |family, label| metrics.and_then(|metrics| metrics.label_of_one(family, label)).map(str::to_owned);
    let state = match &daemon.away {
        Some(_) => "away".to_owned(),
        None => label("lockkeeper_state", "state").unwrap_or_else(|| "unknown".to_owned()),
    };
    let checks = metrics.map(|metrics| metrics.by("lockkeeper_ready", "check")).unwrap_or_default();
    let epochs = metrics.map(|metrics| metrics.by("lockkeeper_stream_epoch", "queue")).unwrap_or_default();
    Daemon {
        url: daemon.url.clone(),
        state,
        role: label("lockkeeper_fleet_state", "state"),
        epoch: epochs.into_values().reduce(f64::max),
        away: daemon.away.as_ref().map(|(why, _)| why.clone()),
        away_seconds: daemon.away.as_ref().map(|(_, since)| at.saturating_sub(*since).as_secs_f64()),
        version: label("lockkeeper_build_info", "version"),
        up_seconds: daemon.gauge("process_start_time_seconds", &[]).map(|start| (unix_seconds - start).max(0.0)),
        memory_bytes: daemon.gauge("process_resident_memory_bytes", &[]),
        cpu_cores: daemon.rate("process_cpu_seconds_total", &[]),
        open_files: daemon.gauge("process_open_fds", &[]),
        ended_per_second: daemon.rate("lockkeeper_jobs_processed_total", &[]),
        in_flight: daemon.gauge("lockkeeper_jobs_in_flight", &[]),
        commit_stalled_seconds: daemon.gauge("lockkeeper_stalled_seconds", &[("step", "commit")]),
        acknowledge_stalled_seconds: daemon.gauge("lockkeeper_stalled_seconds", &[("step", "acknowledge")]),
        failing_checks: checks.into_iter().filter(|(_, passes)| *passes == 0.0).map(|(check, _)| check).collect(),
        reload_failed: daemon.gauge("lockkeeper_config_last_reload_successful", &[]) == Some(0.0),
    }
}
