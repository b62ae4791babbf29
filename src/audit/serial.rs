//! The serial run: what the jobs of a stream would come to if one daemon ran them one by one, in the order of the stream. It is
//! exact, so whatever a fleet has done otherwise shows: an order, a rejection, a payload.
//!
//! It runs the domain by itself, and none of the code that decides batches.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::report::{Line, Problems};
use crate::batch::VERSION_MISMATCH;
use crate::domain::{AggregateId, Domain, Rejection, States, Targets};
use crate::job::{self, Entry, Job, JobId, Outcome, OutcomeKind};
use crate::store::{RecordedEvent, StoredReceipt};

/// The entries that were pushed, and what the log says became of them.
pub struct Serial<D: Domain> {
    /// Stream after stream, each in its order.
    jobs: Vec<Job<D>>,
    receipts: HashMap<JobId, Outcome>,
    events: HashMap<String, Vec<Happened>>,
    /// The aggregates on which the log has events of each job.
    changed: HashMap<JobId, HashSet<AggregateId>>,
}

/// An event, as far as two runs have to agree on it.
#[derive(Clone, Debug, PartialEq)]
struct Happened {
    job: JobId,
    event_type: String,
    schema_version: u16,
    payload: Value,
}

#[derive(serde::Deserialize)]
struct Metadata {
    job: Uuid,
}

/// One serial run.
struct Run<D: Domain> {
    states: foldhash::HashMap<AggregateId, D::State>,
    events: HashMap<AggregateId, Vec<Happened>>,
    /// Aggregates that nobody can tell the state of, since a job about them goes by the clock or stands in another stream too.
    unknown: HashSet<AggregateId>,
    /// Aggregates with a job that has not come to its end.
    waiting: HashMap<AggregateId, JobId>,
    streams: HashMap<AggregateId, HashSet<Arc<str>>>,
    judged: u64,
    problems: Problems,
}

impl<D: Domain> Serial<D> {
    /// The run of these entries, which are all that the streams ever had; `max_data_bytes` is the daemon's limit.
    pub fn new(entries: &[Entry], max_data_bytes: usize) -> Self {
        let mut streams: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
        entries.iter().for_each(|entry| streams.entry(&entry.stream).or_default().push(entry));
        streams.values_mut().for_each(|entries| entries.sort_by_key(|entry| entry.id));
        let jobs = streams.into_values().flatten().map(|entry| job::decode::<D>(entry, max_data_bytes)).collect();
        Self { jobs, receipts: HashMap::new(), events: HashMap::new(), changed: HashMap::new() }
    }

    /// A receipt of the log.
    pub fn receipt(&mut self, job: JobId, receipt: &StoredReceipt) {
        let outcome = Outcome::recorded(&receipt.outcome, receipt.reason.as_deref(), None);
        self.receipts.insert(job, outcome);
    }

    /// The next event of the log. One that names no job or is no JSON is another check's business.
    pub fn event(&mut self, event: &RecordedEvent) {
        let (Ok(Metadata { job }), Ok(payload)) =
            (serde_json::from_slice(&event.metadata), serde_json::from_slice(&event.payload))
        else {
            return;
        };
        let (event_type, schema_version) = (event.event_type.clone(), event.schema_version);
        let happened = Happened { job: JobId(job), event_type, schema_version, payload };
        if let Some(kind) = D::AGGREGATES.iter().find(|kind| **kind == event.aggregate_type) {
            let aggregate = AggregateId::new(kind, event.aggregate_id.as_str());
            self.changed.entry(happened.job).or_default().insert(aggregate);
        }
        let aggregate = format!("{}/{}", event.aggregate_type, event.aggregate_id);
        self.events.entry(aggregate).or_default().push(happened);
    }

    /// The verdict: every receipt and every event is that of the serial run. Jobs with `at` or `exp`, and aggregates of several
    /// streams, have no order to be held to; they are left out, with what depends on them. A dead letter that
    /// was requeued would be held to its first place: a stream that has one cannot be judged.
    pub fn finish(self) -> Line {
        let mut unknown = HashSet::new();
        let run = loop {
            let run = self.run(unknown.clone());
            let shared = run.streams.iter().filter(|(_, streams)| streams.len() > 1).map(|(aggregate, _)| aggregate);
            let before = unknown.len();
            unknown.extend(shared.cloned());
            if unknown.len() == before {
                break run;
            }
        };
        let Run { events, unknown, waiting, judged, mut problems, .. } = run;
        let mut compared = 0_u64;
        let is_known = |aggregate: &&AggregateId| !unknown.contains(*aggregate) && !waiting.contains_key(*aggregate);
        for (aggregate, expected) in events.iter().filter(|(aggregate, _)| is_known(aggregate)) {
            compared += expected.len() as u64;
            let recorded = self.events.get(&aggregate.to_string()).map_or(&[][..], Vec::as_slice);
            compare(aggregate, expected, recorded, &mut problems);
        }
        let left = self.jobs.len() as u64 - judged;
        let summary = format!(
            "{judged} receipts and {compared} events are those of the serial run; {left} entries have no order"
        );
        problems.line("stream order", summary)
    }

    fn run(&self, unknown: HashSet<AggregateId>) -> Run<D> {
        let mut run = Run {
            states: foldhash::HashMap::default(),
            events: HashMap::new(),
            unknown,
            waiting: HashMap::new(),
            streams: HashMap::new(),
            judged: 0,
            problems: Problems::default(),
        };
        let mut seen = HashSet::new();
        // What is sent again has no effect, whatever it says.
        for job in self.jobs.iter().filter(|job| seen.insert(job.id)) {
            run.job(job, self.receipts.get(&job.id), self.changed.get(&job.id));
        }
        run
    }
}

impl<D: Domain> Run<D> {
    fn job(&mut self, job: &Job<D>, recorded: Option<&Outcome>, changed: Option<&HashSet<AggregateId>>) {
        let command = match &job.work {
            Ok(command) => command,
            Err(dead) => return self.judge(job, &Outcome::dead(dead.clone()), recorded),
        };
        let targets = match D::targets(command) {
            Targets::Known(targets) => targets,
            // Only the log tells what it has touched.
            Targets::FromStateOf(source) if self.unknown.contains(&source) => {
                return self.unknown.extend(changed.into_iter().flatten().cloned());
            }
            Targets::FromStateOf(source) => D::resolve(command, self.state(&source)),
        };
        for aggregate in &targets {
            self.streams.entry(aggregate.clone()).or_default().insert(job.stream.clone());
        }
        let by_the_clock = job.at.is_some() || job.exp.is_some();
        if by_the_clock || targets.iter().any(|aggregate| self.unknown.contains(aggregate)) {
            return self.unknown.extend(targets);
        }
        let older = targets.iter().find_map(|aggregate| Some((aggregate, *self.waiting.get(aggregate)?)));
        let Some(recorded) = recorded else {
            self.waiting.extend(targets.into_iter().map(|aggregate| (aggregate, job.id)));
            return;
        };
        if let Some((aggregate, older)) = older {
            let id = job.id;
            self.problems.add(|| format!("{aggregate}: job {id} has ended before job {older}, which is older"));
            return self.unknown.extend(targets);
        }
        if recorded.kind == OutcomeKind::Dead {
            // The process or the database failed on it: it has no effect, and the serial run cannot know.
            return;
        }
        let version = |subject: &AggregateId| self.events.get(subject).map_or(0, Vec::len) as u64;
        if job.expect.is_some() && job.expect != job.subject.as_ref().map(version) {
            return self.judge(job, &Outcome::rejected(VERSION_MISMATCH), Some(recorded));
        }
        match D::decide(command, &States::new(&self.states)) {
            Err(Rejection(reason)) => self.judge(job, &Outcome::rejected(reason), Some(recorded)),
            Ok(events) => {
                for new in events {
                    let stored = D::encode(&new.event);
                    D::evolve(self.states.entry(new.aggregate.clone()).or_default(), &new.event);
                    self.events.entry(new.aggregate).or_default().push(Happened {
                        job: job.id,
                        event_type: stored.event_type.to_owned(),
                        schema_version: stored.schema_version,
                        payload: serde_json::from_str(&stored.payload).unwrap_or_default(),
                    });
                }
                self.judge(job, &Outcome::applied(None), Some(recorded));
            }
        }
    }

    fn state(&mut self, aggregate: &AggregateId) -> &D::State {
        self.states.entry(aggregate.clone()).or_default()
    }

    fn judge(&mut self, job: &Job<D>, expected: &Outcome, recorded: Option<&Outcome>) {
        self.judged += 1;
        let Some(recorded) = recorded.filter(|recorded| *recorded != expected) else { return };
        let tell = |outcome: &Outcome| match outcome.reason_text() {
            Some(reason) => format!("{} ({reason})", outcome.kind.as_str()),
            None => outcome.kind.as_str().to_owned(),
        };
        let (id, entry) = (job.id, job.entry);
        self.problems.add(|| {
            format!("job {id}, entry {entry}, is {}; in the serial run it is {}", tell(recorded), tell(expected))
        });
    }
}

/// The first event in which the two histories differ.
fn compare(aggregate: &AggregateId, expected: &[Happened], recorded: &[Happened], problems: &mut Problems) {
    let tell = |event: Option<&Happened>| {
        event.map_or("none".to_owned(), |event| format!("{} of job {}, {}", event.event_type, event.job, event.payload))
    };
    let differs = (0..expected.len().max(recorded.len())).find(|&index| expected.get(index) != recorded.get(index));
    if let Some(index) = differs {
        let (is, should) = (tell(recorded.get(index)), tell(expected.get(index)));
        problems.add(|| format!("{aggregate}: event {} is {is}; in the serial run it is {should}", index + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Fingerprint;
    use crate::testing::account::Accounts;

    /// Entries of one stream, each `(number, type, key, data, further fields)`, and the id of the job with this number.
    type Told<'t> = (u64, &'t str, &'t str, &'t str, &'t [(&'t str, &'t str)]);

    fn entry(stream: &str, (number, job_type, key, data, more): Told) -> Entry {
        let id = number.to_string();
        let fields = [("type", job_type), ("key", key), ("data", data), ("id", &id)];
        let bytes = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        let fields = fields.iter().chain(more).map(bytes).collect();
        let id = crate::job::EntryId { ms: number, seq: 0 };
        Entry::new(stream.into(), id, fields)
    }

    fn job(number: u64) -> JobId {
        JobId::from_text(&number.to_string())
    }

    /// What the log says: receipts as `(job, outcome, reason)`, events as `(job, account, payload)` in their order.
    fn verdict(entries: &[Entry], receipts: &[(u64, &str, Option<&str>)], events: &[(u64, &str, &str)]) -> Line {
        let mut serial = Serial::<Accounts>::new(entries, 1 << 20);
        for (number, outcome, reason) in receipts {
            let (outcome, reason) = ((*outcome).to_owned(), reason.map(str::to_owned));
            let fingerprint = Fingerprint([0; 16]);
            let recorded_at = String::new();
            serial.receipt(job(*number), &StoredReceipt { outcome, reason, positions: None, fingerprint, recorded_at });
        }
        for (number, account, payload) in events {
            serial.event(&RecordedEvent {
                event_id: uuid::Uuid::nil(),
                position: 0,
                aggregate_type: "account".into(),
                aggregate_id: (*account).into(),
                version: 0,
                event_type: "account.moved".into(),
                schema_version: 1,
                payload: payload.as_bytes().to_vec(),
                metadata: format!(r#"{{"job":"{}"}}"#, job(*number)).into_bytes(),
                recorded_at: String::new(),
            });
        }
        serial.finish()
    }

    const DEPOSIT: Told = (1, "account.deposit", "ada", r#"{"amount":5}"#, &[]);
    const TRANSFER: Told = (2, "account.transfer", "ada", r#"{"amount":5,"to":"bob"}"#, &[]);

    #[test]
    fn what_came_in_order_passes_and_what_was_overtaken_is_named() {
        let entries = [entry("jobs", TRANSFER), entry("jobs", DEPOSIT)];
        let applied = [(1, "applied", None), (2, "applied", None)];
        let moved = [(1, "ada", r#"{"amount":5}"#), (2, "ada", r#"{ "amount": -5 }"#), (2, "bob", r#"{"amount":5}"#)];
        let line = verdict(&entries, &applied, &moved);
        assert!(line.passed && line.detail.starts_with("2 receipts and 3 events"), "{line:?}");
        let overtaken = verdict(&entries, &[(1, "applied", None), (2, "rejected", Some("overdraft"))], &moved[..1]);
        assert!(
            !overtaken.passed && overtaken.detail.contains("is rejected (overdraft); in the serial run it is applied")
        );
        let swapped = [moved[1], moved[0], moved[2]];
        let line = verdict(&entries, &applied, &swapped);
        assert!(!line.passed && line.detail.contains("account/ada: event 1 is account.moved"), "{line:?}");
        let line = verdict(&entries, &[(2, "applied", None)], &moved[1..]);
        assert!(!line.passed && line.detail.contains("which is older"), "{line:?}");
        let line = verdict(&entries, &applied, &moved[..2]);
        assert!(!line.passed && line.detail.contains("account/bob: event 1 is none"), "{line:?}");
    }

    #[test]
    fn what_waits_goes_by_the_clock_failed_or_stands_in_two_streams_is_not_held_to_an_order() {
        let all = [entry("jobs", DEPOSIT), entry("jobs", TRANSFER)];
        assert!(verdict(&all, &[], &[]).passed, "nothing has ended yet");
        let later = (1, "account.deposit", "ada", r#"{"amount":5}"#, &[("at", "200000000000")][..]);
        let entries = [entry("jobs", later), entry("jobs", TRANSFER)];
        assert!(verdict(&entries, &[(2, "rejected", Some("overdraft"))], &[]).passed);
        let died = verdict(&all, &[(1, "dead", Some("panicked: x")), (2, "rejected", Some("overdraft"))], &[]);
        assert!(died.passed, "{died:?}");
        let two = [entry("a", DEPOSIT), entry("b", TRANSFER)];
        assert!(verdict(&two, &[(1, "applied", None), (2, "rejected", Some("overdraft"))], &[]).passed);
    }

    #[test]
    fn a_second_send_has_no_effect_and_an_expected_version_is_the_serial_one() {
        let again = entry("jobs", (3, "account.deposit", "ada", r#"{"amount":5}"#, &[]));
        let mut again = again;
        again.fields[3].1 = b"1".to_vec();
        let expects = entry("jobs", (4, "account.deposit", "ada", r#"{"amount":5}"#, &[("expect", "1")]));
        let stale = entry("jobs", (5, "account.deposit", "ada", r#"{"amount":5}"#, &[("expect", "1")]));
        let entries = [entry("jobs", DEPOSIT), again, expects, stale];
        let receipts = [(1, "applied", None), (4, "applied", None), (5, "rejected", Some("version_mismatch"))];
        let events = [(1, "ada", r#"{"amount":5}"#), (4, "ada", r#"{"amount":5}"#)];
        let line = verdict(&entries, &receipts, &events);
        assert!(line.passed, "{line:?}");
    }
}
