//! The sequence row, which has to say where the log ends.
//!
//! A partial restore, or a hand, can take the row away or leave it behind the log. Then nothing can be committed, whatever the jobs
//! are: so it is looked at when a daemon starts and whenever nothing was committed for a while.

use std::time::Duration;

use sqlx::mysql::MySqlRow;

use super::error::{Outage, StoreError};
use super::pool::Store;
use super::row::column;

/// How long a proof may take.
const PROOF_WITHIN: Duration = Duration::from_millis(1500);

/// Where the row and the log say that the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// What the row says; none when it is not there.
    pub row: Option<u64>,
    /// The position of the last event.
    pub log: u64,
}

/// Where the row and the log say that the log ends.
const ENDS: &str = "SELECT (SELECT position FROM event_sequence WHERE id = 1), (SELECT MAX(position) FROM events)";

impl Sequence {
    fn of(rows: &[MySqlRow]) -> Result<Self, StoreError> {
        let row = rows.first().ok_or_else(|| StoreError::Unavailable(Outage::Other, "no answer".to_owned()))?;
        Ok(Self { row: column(row, 0)?, log: column::<Option<u64>>(row, 1)?.unwrap_or(0) })
    }

    /// Fails unless both are the same, with what mends it.
    pub fn check(self) -> Result<u64, StoreError> {
        let Self { row, log } = self;
        let wrong = match row {
            Some(row) if row == log => return Ok(row),
            Some(row) => format!("event_sequence says that the log ends at {row}, and it ends at {log}"),
            None => format!("event_sequence has no row, and the log ends at {log}"),
        };
        let cure = "stop every writer and run `lockkeeper migrate --repair-sequence`";
        Err(StoreError::Unavailable(Outage::Sequence, format!("{wrong}: {cure}")))
    }
}

impl Store {
    /// Where the row and the log say that the log ends, at one moment.
    pub async fn sequence_and_log(&self) -> Result<Sequence, StoreError> {
        Sequence::of(&self.rows(ENDS, false).await?)
    }

    /// Commits a change that means nothing, to the row that every batch changes, and looks whether that row is right. Only this
    /// proves that a batch could be committed.
    pub async fn prove(&self) -> Result<(), StoreError> {
        let proof = async {
            let text = format!("UPDATE event_sequence SET batch = batch + 1 WHERE id = 1; {ENDS}");
            Sequence::of(&self.rows(text, true).await?)?.check().map(drop)
        };
        let late =
            |_| StoreError::Unavailable(Outage::Timeout, format!("nothing was committed within {PROOF_WITHIN:?}"));
        tokio::time::timeout(PROOF_WITHIN, proof).await.map_err(late)?
    }

    /// Makes the row say where the log ends. Returns what was there before, and where the log ends.
    pub async fn repair_sequence(&self) -> Result<Sequence, StoreError> {
        // The row is held from the first statement on, so nobody adds an event in between. A row that was lost had a generation which
        // nobody knows, and the time is a number that none has reached by ones: so whoever writes reads what is to be written again.
        let text = "START TRANSACTION; SELECT position FROM event_sequence WHERE id = 1 FOR UPDATE; \
                    INSERT INTO event_sequence (id, position, unchanged, generation) \
                    SELECT 1, COALESCE(MAX(position), 0), 1, UNIX_TIMESTAMP() FROM events \
                    ON DUPLICATE KEY UPDATE batch = batch + 1, position = VALUES(position); COMMIT";
        let rows = self.rows(text, true).await?;
        let row = rows.first().map(|row| column(row, 0)).transpose()?;
        let Sequence { row: now, log } = self.sequence_and_log().await?;
        if now != Some(log) {
            let text = format!("the row says {now:?} and the log ends at {log}: somebody is writing meanwhile");
            return Err(StoreError::Unavailable(Outage::Sequence, text));
        }
        Ok(Sequence { row, log })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_row_that_says_where_the_log_ends_is_right() {
        assert!(matches!(Sequence { row: Some(7), log: 7 }.check(), Ok(7)));
        for row in [None, Some(6), Some(8)] {
            let wrong = Sequence { row, log: 7 }.check();
            assert!(
                matches!(&wrong, Err(StoreError::Unavailable(Outage::Sequence, text)) if text.contains("--repair"))
            );
        }
    }
}
