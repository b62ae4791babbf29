//! Which jobs the broker holds an entry of.

use super::pace::{Pace, Stopped, Tally, What};
use crate::job::JobId;
use crate::stream::{Broker, Selection};

/// The jobs that the broker holds an entry of, as eight bytes each, so that a backlog of millions fits. Two jobs may share
/// them; then a receipt is kept a while longer, and none goes that is needed.
#[derive(Debug, Default)]
pub struct Held(Vec<u64>);

fn eight_bytes(job: JobId) -> u64 {
    let (high, low) = job.0.as_u64_pair();
    high ^ low.rotate_left(32)
}

impl Held {
    /// Reads what all streams, schedules and dead letters hold.
    ///
    /// Entries move while this reads, but none can slip through. From the schedule they go to the stream, which is read after
    /// it. A stream's go to the dead letters, which are read last, or to the schedule, and those have no receipt yet. An
    /// operator may put dead letters back into the stream, so they are read first as well.
    pub async fn read(broker: &Broker, pace: &Pace) -> Result<Self, Stopped> {
        let mut held = Self::default();
        for stream in &broker.settings().names {
            held.letters(broker, stream, pace).await?;
            let mut cursor = 0;
            loop {
                let (next, page) = broker.scan_scheduled(stream, cursor, false).await?;
                held.add(page.iter().map(|job| job.job()));
                if next == 0 {
                    break;
                }
                cursor = next;
                pace.step(What::Receipts, Tally::default()).await?;
            }
            let mut last = None;
            loop {
                let page = broker.jobs_in_stream(stream, last).await?;
                held.add(page.iter().map(|(_, job)| *job));
                last = page.last().map(|(entry, _)| *entry);
                if last.is_none() {
                    break;
                }
                pace.step(What::Receipts, Tally::default()).await?;
            }
            held.letters(broker, stream, pace).await?;
        }
        held.0.sort_unstable();
        held.0.dedup();
        Ok(held)
    }

    async fn letters(&mut self, broker: &Broker, stream: &str, pace: &Pace) -> Result<(), Stopped> {
        let mut pages = broker.letters(stream, Selection::default()).await?;
        while let Some(page) = pages.next().await? {
            self.add(page.iter().map(|letter| letter.job()));
            pace.step(What::Receipts, Tally::default()).await?;
        }
        Ok(())
    }

    fn add(&mut self, jobs: impl Iterator<Item = JobId>) {
        self.0.extend(jobs.map(eight_bytes));
    }

    /// True for every job that is held, and for hardly any other.
    pub fn contains(&self, job: JobId) -> bool {
        self.0.binary_search(&eight_bytes(job)).is_ok()
    }
}
