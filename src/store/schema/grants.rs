//! What the account has to be allowed to do.

use crate::store::{Store, StoreError};

impl Store {
    /// Tries every kind of statement that a batch sends to the engine's tables, on no rows, and with `forgetting` the one that
    /// deletes receipts. The server's refusal names the grant that is missing.
    pub async fn check_grants(&self, forgetting: bool) -> Result<(), StoreError> {
        let forget = if forgetting { "DELETE FROM receipts WHERE 1 = 0; " } else { "" };
        let statements = format!(
            "START TRANSACTION; \
             INSERT INTO events SELECT * FROM events WHERE 1 = 0; \
             INSERT INTO receipts SELECT * FROM receipts WHERE 1 = 0; \
             INSERT INTO snapshots SELECT * FROM snapshots WHERE 1 = 0; \
             UPDATE snapshots SET state = state WHERE 1 = 0; \
             INSERT INTO event_schemas SELECT * FROM event_schemas WHERE 1 = 0; \
             INSERT INTO checkpoints SELECT * FROM checkpoints WHERE 1 = 0; \
             UPDATE checkpoints SET beats = beats + 1 WHERE 1 = 0; \
             UPDATE projections SET vouched_at = vouched_at WHERE 1 = 0; \
             INSERT INTO parked SELECT * FROM parked WHERE 1 = 0; \
             UPDATE event_sequence SET position = position, unchanged = 1, batch = batch + 1 WHERE 1 = 0; {forget}ROLLBACK"
        );
        self.rows(statements, false).await.map(drop)
    }
}
