//! Ends a process in which a decision does not end.

use std::sync::Arc;
use std::time::Duration;

use crate::batch::Engine;
use crate::domain::Domain;
use crate::exit::Exit;

/// Watches the decisions from a thread of its own, since the runtime's may all be held. A decision that takes longer than
/// `limit` ends the process as a crash would: whoever supervises it starts it again, its jobs are read again, their starts have
/// been counted, and the one that does it each time goes to the dead letters by itself.
pub(super) fn watch<D: Domain>(engine: &Arc<Engine<D>>, limit: Duration) -> std::io::Result<()> {
    let engine = Arc::downgrade(engine);
    let watch = move || {
        while let Some(engine) = engine.upgrade() {
            if let Some(entries) = engine.deciding.overdue(limit) {
                let ids: Vec<String> = entries.iter().take(100).map(ToString::to_string).collect();
                tracing::error!(
                    jobs = entries.len(),
                    entries = ids.join(","),
                    limit.ms = limit.as_millis() as u64,
                    "a decision does not end; the process ends, and its jobs are read again"
                );
                std::process::exit(Exit::BROKEN.into());
            }
            drop(engine);
            std::thread::sleep((limit / 4).min(Duration::from_millis(500)));
        }
    };
    std::thread::Builder::new().name("watch".to_owned()).spawn(watch).map(drop)
}
