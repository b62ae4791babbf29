//! The metrics of one process: registered, recorded and rendered.

use std::sync::Arc;

use metrics::{Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::families::*;
use super::running::Running;

/// The labels that are known at start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// Streams that are read.
    pub queues: &'a [String],
    /// Job types that have a handler.
    pub job_types: &'a [&'static str],
    /// Event types that are written.
    pub event_types: &'a [&'static str],
    /// Why jobs go back to wait again.
    pub put_back: &'a [&'static str],
    /// Which guard may refuse a transaction.
    pub conflicts: &'a [&'static str],
    /// Why a transaction has to be repeated.
    pub repeats: &'a [&'static str],
    /// Why the database may be of no use.
    pub outages: &'a [&'static str],
    /// Aliases of the lock nodes.
    pub lock_nodes: &'a [String],
    /// What a lock node is asked for.
    pub lock_ops: &'a [&'static str],
    /// What comes of it.
    pub lock_outcomes: &'a [&'static str],
}

/// The metrics of one process. Nothing global: two of them in one process do not meet.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    pub(super) running: Arc<Running>,
    process: metrics_process::Collector,
    pub(super) muted: bool,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

const METADATA: Metadata<'static> = Metadata::new("lockkeeper", Level::INFO, None);

impl Metrics {
    /// Registers every family. Fails only when the buckets in this file are wrong.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for family in FAMILIES {
            if let Kind::Histogram(buckets) = family.kind {
                builder = builder.set_buckets_for_metric(Matcher::Full(family.name.to_owned()), buckets)?;
            }
        }
        let recorder = builder.build_recorder();
        for family in FAMILIES {
            let (name, help) = (KeyName::from_const_str(family.name), family.help.into());
            match family.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
            }
        }
        let handle = recorder.handle();
        let process = metrics_process::Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        Ok(Self { recorder, handle, running: Arc::default(), process, muted: false })
    }

    /// Metrics that record nothing, beside which the others' cost can be measured.
    pub fn muted() -> Result<Self, BuildError> {
        Ok(Self { muted: true, ..Self::new()? })
    }

    /// Creates the series whose labels are known at start, so that the first event shows as an increase.
    pub fn start(&self, known: &Known<'_>) {
        self.start_process();
        self.start_retention();
        self.start_store(known.conflicts, known.repeats, known.outages);
        self.start_locks(known.lock_nodes, known.lock_ops, known.lock_outcomes);
        for queue in known.queues {
            self.start_queue(queue);
            self.start_jobs(queue, known.job_types);
        }
        known.put_back.iter().for_each(|reason| self.add(&JOBS_PUT_BACK, [("reason", *reason)], 0));
        known.event_types.iter().for_each(|event_type| self.add(&EVENTS_APPENDED, [("event_type", *event_type)], 0));
        [&REPLY_ERRORS, &IDS_REUSED].iter().for_each(|family| self.add(family, [], 0));
    }

    /// The text of `/metrics`. A gauge that is NaN is not known, and is left out.
    pub fn render(&self) -> String {
        self.show_running();
        // The collector writes into the recorder that is the current one of this thread.
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let text = self.handle.render();
        text.split_inclusive('\n').filter(|line| !line.ends_with(" NaN\n")).collect()
    }

    /// Moves recorded samples into their buckets; to be called every few seconds, so that they do not pile up unscraped.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    pub(super) fn add<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], by: u64) {
        if !self.muted {
            self.recorder.register_counter(&key(family, labels), &METADATA).increment(by);
        }
    }

    pub(super) fn set<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], value: f64) {
        if !self.muted {
            self.recorder.register_gauge(&key(family, labels), &METADATA).set(value);
        }
    }

    pub(super) fn change<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], by: f64) {
        if !self.muted {
            self.recorder.register_gauge(&key(family, labels), &METADATA).increment(by);
        }
    }

    pub(super) fn record<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N], value: f64) {
        self.histogram(family, labels).record(value);
    }

    pub(super) fn histogram<const N: usize>(&self, family: &Family, labels: [(&'static str, &str); N]) -> Histogram {
        if self.muted {
            return Histogram::noop();
        }
        self.recorder.register_histogram(&key(family, labels), &METADATA)
    }
}

pub(super) fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn key<const N: usize>(family: &Family, labels: [(&'static str, &str); N]) -> Key {
    debug_assert!(labels.iter().map(|(name, _)| name).eq(family.labels), "{} has other labels", family.name);
    let labels = labels.map(|(name, value)| Label::new(name, value.to_owned()));
    Key::from_parts(KeyName::from_const_str(family.name), labels.to_vec())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{EndedJob, OutcomeLabel, QueueSample};
    use super::*;

    #[test]
    fn every_family_has_a_name_of_its_own_and_help() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(family.name.starts_with("lockkeeper_"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}: {}", family.name, family.help);
            assert_eq!(matches!(family.kind, Kind::Counter), family.name.ends_with("_total"), "{}", family.name);
        }
    }

    #[test]
    fn known_series_start_at_zero_and_durations_are_histograms() {
        let metrics = Metrics::new().expect("the buckets are right");
        let queues = ["jobs".to_owned()];
        metrics.start(&Known { queues: &queues, job_types: &["item.restock"], ..Known::default() });
        let (age, outcome) = (Duration::from_millis(3), OutcomeLabel::Dead);
        let job = EndedJob { queue: "jobs", job_type: None, outcome, age: Some(age), attempts: 1, bytes: 100 };
        metrics.ended(&[job, job], Duration::from_millis(1));
        let text = metrics.render();
        let zero = r#"lockkeeper_jobs_processed_total{queue="jobs",job_type="item.restock",outcome="applied"} 0"#;
        assert!(text.contains(zero), "{text}");
        assert!(
            text.contains(r#"lockkeeper_job_end_to_end_seconds_bucket{queue="jobs",job_type="other",le="0.005"} 2"#)
        );
    }
    #[test]
    fn a_lag_that_nobody_knows_is_absent_and_never_zero() {
        let metrics = Metrics::new().expect("the buckets are right");
        let sample = |lag| Some(QueueSample { lag, length: Some(0), ..QueueSample::default() });
        let series = r#"lockkeeper_queue_lag{queue="jobs",group="g"}"#;
        for (sample, shown, known) in [(sample(Some(7)), true, 1), (sample(None), false, 0), (None, false, 0)] {
            metrics.queue("jobs", "g", sample);
            let text = metrics.render();
            assert_eq!(text.contains(series), shown, "{text}");
            assert!(
                text.contains(&format!(r#"lockkeeper_queue_lag_known{{queue="jobs",group="g"}} {known}"#)),
                "{text}"
            );
            assert_eq!(text.contains("lockkeeper_queue_length{"), sample.is_some(), "{text}");
        }
    }

    #[test]
    fn a_batch_in_flight_ages_until_it_is_dropped() {
        let metrics = Metrics::new().expect("the buckets are right");
        let batch = metrics.batch_started();
        assert!(metrics.render().contains("lockkeeper_batches_in_flight 1\n"));
        drop(batch);
        let text = metrics.render();
        assert!(text.contains("lockkeeper_batches_in_flight 0\n"), "{text}");
        assert!(text.contains("lockkeeper_job_oldest_running_seconds 0\n"), "{text}");
    }
}
