//! What has to hold after every case.

use std::time::Duration;

use super::{CANARY, Site, within};
use support::{audit, sales};

/// What a daemon may hold more at the end than when it was warm.
const MORE_FILES: usize = 25;
const MORE_MEMORY_KB: u64 = 64 << 10;

/// How soon it has to be so.
const GIVEN_BACK: Duration = Duration::from_secs(10);

impl Site {
    /// Proves the invariants, once the load has stopped and everything is done.
    pub async fn verify(&mut self) {
        self.settle().await;
        let letters = self.world.entries(&format!("{}:dead", self.world.stream)).await;
        assert_eq!(letters.len(), self.dead, "I1: dead letters: {:?}", letters.iter().take(3).collect::<Vec<_>>());
        let verdict = audit(&self.world.database, Some(&self.pushed.ids())).await;
        assert_eq!(verdict, Ok(()), "I1 to I5:\n");
        if let Some(journal) = self.pushed.journal().filter(|_| !self.is_unordered) {
            assert_eq!(journal.audit(&self.world.database).await, Ok(()), "I5, the serial run:\n");
        }
        sales::compare(&mut self.world.sql().await).await;
        self.verify_outputs().await;
        self.verify_resources().await;
    }

    /// I8: nothing that was written has a secret or a panic in it.
    async fn verify_outputs(&mut self) {
        let logs = self.logs();
        assert!(!logs.contains(CANARY), "I8: the password is in a log");
        let wanted = |line: &&str| line.contains("src/fail.rs") || line.contains("a test makes it panic");
        let panic = logs.lines().filter(|line| !wanted(line)).find(|line| line.contains("panicked"));
        assert_eq!(panic, None, "I8: a panic");
        for daemon in &self.daemons {
            let Some((_, metrics)) = daemon.get("/metrics").await else { continue };
            assert!(!metrics.contains(CANARY), "I8: the password is in the metrics");
            let lines = metrics.lines().filter(|line| line.contains(r#"outcome="duplicate""#));
            let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            self.duplicates += counts.sum::<f64>() as u64;
        }
    }

    /// I8: the daemon that lived through it all has given back what it took.
    async fn verify_resources(&self) {
        let Some((pid, files, memory)) = self.warm else { return };
        if self.daemons.first().and_then(|daemon| daemon.process.pid()) != Some(pid) {
            return;
        }
        let mut now = (0, 0);
        let given_back = within(GIVEN_BACK, async || {
            let (_, files_now, memory_now) = resources(pid)?;
            now = (files_now, memory_now);
            (files_now <= files + MORE_FILES && memory_now <= memory + MORE_MEMORY_KB).then_some(())
        });
        let is_given_back = given_back.await.is_some();
        let (files_now, memory_now) = now;
        assert!(
            is_given_back,
            "I8: it is not back near where it was within {GIVEN_BACK:?}: {files} open files and {memory} KiB of memory when it \
             was warm, {files_now} and {memory_now} now"
        );
    }
}

/// The process, its open files and its memory in KiB.
pub fn resources(pid: u32) -> Option<(u32, usize, u64)> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some((pid, files, memory.trim().trim_end_matches(" kB").parse().ok()?))
}
