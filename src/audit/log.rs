//! The promises about any domain's log: receipts, positions, versions.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::report::{Line, Problems};
use crate::job::JobId;
use crate::store::{RecordedEvent, StoredReceipt};

/// What is known of the log so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    jobs: HashMap<JobId, JobEnd>,
    heads: HashMap<(String, String), u64>,
    position: u64,
    recorded_at: String,
    events: u64,
    receipts_wrong: Problems,
    versions_wrong: Problems,
    positions_wrong: Problems,
    spans_wrong: Problems,
}

/// How a job ended, and which events say that they are its.
#[derive(Debug)]
struct JobEnd {
    outcome: String,
    positions: Option<(u64, u64)>,
    found: Option<(u64, u64)>,
}

#[derive(serde::Deserialize)]
struct Metadata {
    job: Uuid,
}

impl Log {
    pub fn receipt(&mut self, job: JobId, receipt: StoredReceipt) {
        let StoredReceipt { outcome, positions, .. } = receipt;
        if self.jobs.insert(job, JobEnd { outcome, positions, found: None }).is_some() {
            self.receipts_wrong.add(|| format!("job {job} has two receipts"));
        }
    }

    pub fn event(&mut self, event: &RecordedEvent) {
        self.events += 1;
        self.check_position(event);
        self.check_version(event);
        self.check_job(event);
    }

    fn check_position(&mut self, event: &RecordedEvent) {
        let (position, expected) = (event.position, self.position + 1);
        if position != expected {
            self.positions_wrong.add(|| format!("position {position} stands where {expected} should"));
        }
        if event.recorded_at < self.recorded_at {
            self.positions_wrong.add(|| format!("event {position} is older than the one before it"));
        }
        self.position = position;
        self.recorded_at.clone_from(&event.recorded_at);
    }

    fn check_version(&mut self, event: &RecordedEvent) {
        let (kind, id, version) = (&event.aggregate_type, &event.aggregate_id, event.version);
        let head = self.heads.entry((kind.clone(), id.clone())).or_default();
        let expected = *head + 1;
        if version != expected {
            self.versions_wrong.add(|| format!("{kind}/{id} has version {version} where {expected} should be"));
        }
        *head = version;
    }

    /// Since a job's events follow each other, each must be the next after those found so far.
    fn check_job(&mut self, event: &RecordedEvent) {
        let position = event.position;
        let Ok(Metadata { job }) = serde_json::from_slice(&event.metadata) else {
            self.spans_wrong.add(|| format!("event {position} does not say which job it is of"));
            return;
        };
        let Some(end) = self.jobs.get_mut(&JobId(job)) else {
            self.spans_wrong.add(|| format!("event {position} is of job {job}, which has no receipt"));
            return;
        };
        end.found = match end.found {
            None => Some((position, position)),
            Some((first, last)) => {
                if last + 1 != position {
                    self.spans_wrong.add(|| format!("event {position} of job {job} is apart from its others"));
                }
                Some((first, position))
            }
        };
    }

    /// The verdicts; `sequence` is what the sequence row says.
    pub fn finish(mut self, sequence: u64, pushed: Option<&HashSet<JobId>>) -> Vec<Line> {
        if sequence != self.position {
            let last = self.position;
            self.positions_wrong.add(|| format!("the sequence row says {sequence}, the last event has {last}"));
        }
        for (job, end) in &self.jobs {
            check_span(*job, end, &mut self.spans_wrong);
        }
        let receipts = self.compare_jobs(pushed);
        let applied = self.jobs.values().filter(|end| end.outcome == "applied").count();
        let (events, aggregates) = (self.events, self.heads.len());
        vec![
            self.receipts_wrong.line("jobs in = receipts", receipts),
            self.spans_wrong
                .line("each event belongs to one applied job", format!("{events} events of {applied} applied jobs")),
            self.versions_wrong.line("versions gapless", format!("{aggregates} aggregates, each 1..n")),
            self.positions_wrong
                .line("positions dense, in commit order", format!("1..{events}, and so says the sequence row")),
        ]
    }

    fn compare_jobs(&mut self, pushed: Option<&HashSet<JobId>>) -> String {
        let receipts = self.jobs.len();
        let Some(pushed) = pushed else {
            return format!("{receipts} receipts; what was pushed is not known here");
        };
        for job in pushed.iter().filter(|job| !self.jobs.contains_key(job)) {
            self.receipts_wrong.add(|| format!("job {job} has no receipt"));
        }
        for job in self.jobs.keys().filter(|job| !pushed.contains(job)) {
            self.receipts_wrong.add(|| format!("the receipt of {job} is of no job that was pushed"));
        }
        format!("{} jobs, {receipts} receipts", pushed.len())
    }
}

fn check_span(job: JobId, end: &JobEnd, wrong: &mut Problems) {
    if end.positions != end.found {
        let text =
            |span: Option<(u64, u64)>| span.map_or("none".to_owned(), |(first, last)| format!("{first}..{last}"));
        let (says, are) = (text(end.positions), text(end.found));
        wrong.add(|| format!("the receipt of {job} says events {says}, its events are {are}"));
    } else if end.found.is_some() && end.outcome != "applied" {
        wrong.add(|| format!("job {job} is {} and has events", end.outcome));
    }
}
