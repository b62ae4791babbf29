//! What was pushed, entry by entry, so that the log can be held to the serial run of it.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use serde_json::json;

use crate::program::{audit_environment, lockkeeper};

/// Entries in one pipeline.
const CHUNK: usize = 500;

/// A job's fields.
pub type Fields = Vec<(&'static str, String)>;

/// All entries that were pushed through it, as `audit --entries` reads them.
#[derive(Clone, Default)]
pub struct Journal {
    lines: String,
}

impl Journal {
    /// Pushes these jobs in their order.
    pub async fn push(&mut self, redis: &mut MultiplexedConnection, stream: &str, jobs: &[Fields]) {
        for jobs in jobs.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for fields in jobs {
                let command = pipeline.cmd("XADD").arg(stream).arg("*");
                for (name, value) in fields {
                    command.arg(*name).arg(value);
                }
            }
            let entries: Vec<String> = pipeline.query_async(redis).await.expect("XADD");
            for (entry, fields) in entries.iter().zip(jobs) {
                self.note(stream, entry, fields);
            }
        }
    }

    /// This job was pushed, and became this entry.
    pub fn note(&mut self, stream: &str, entry: &str, fields: &Fields) {
        let fields: BTreeMap<&str, &str> = fields.iter().map(|(name, value)| (*name, &**value)).collect();
        self.lines += &format!("{}\n", json!({ "stream": stream, "entry": entry, "fields": fields }));
    }

    /// Audits the database at `url`, and holds it to the serial run; the error is the verdict.
    pub async fn audit(&self, url: &str) -> Result<(), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("entries");
        std::fs::write(&file, &self.lines).expect("the entries are written");
        let file = file.to_string_lossy();
        match lockkeeper(&["audit", "--entries", &file], &audit_environment(url)).await {
            (Some(0), told) if told.contains("pass  stream order") => Ok(()),
            (code, told) => Err(format!("the audit ended with {code:?}:\n{told}")),
        }
    }
}
