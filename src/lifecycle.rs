//! How a process ends: `Running < Draining < Aborting`, moved forward only. Beside that it may be quiet for a while: up, and
//! not taking jobs in; and it may be asked to read its configuration again.

use tokio::sync::watch;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Jobs are read and run.
    Running,
    /// Nothing new is read; what is in flight finishes.
    Draining,
    /// The process leaves now.
    Aborting,
}

/// The phase, shared by every loop. Clones see the same phase.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    quiet: watch::Sender<bool>,
    reload: watch::Sender<Reload>,
}

/// Reading the configuration again.
#[derive(Clone, Copy, Debug, Default)]
struct Reload {
    asked: u64,
    last: Option<Reloaded>,
}

/// What became of the last reload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reloaded {
    /// False when the configuration was broken, and nothing has changed.
    pub succeeded: bool,
    /// When, Unix time.
    pub unix_seconds: f64,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
            quiet: watch::Sender::new(false),
            reload: watch::Sender::default(),
        }
    }
}

impl Lifecycle {
    /// Moves on to `phase`; a phase that has been passed already is not gone back to.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            *current = (*current).max(phase);
            forward
        });
    }

    /// One step forward, as each termination signal asks for.
    pub fn step(&self) {
        self.phase.send_modify(|current| {
            *current = match current {
                Phase::Running => Phase::Draining,
                Phase::Draining | Phase::Aborting => Phase::Aborting,
            }
        });
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// True as long as new work may be taken.
    pub fn is_running(&self) -> bool {
        self.phase() == Phase::Running
    }

    /// Stops taking jobs in, or resumes.
    pub fn set_quiet(&self, quiet: bool) {
        self.quiet.send_replace(quiet);
    }

    /// True while no jobs are taken in for a while.
    pub fn is_quiet(&self) -> bool {
        *self.quiet.borrow()
    }

    /// Returns at once, unless the process is quiet: then once it is not, or drains.
    pub async fn awake(&self) {
        let mut quiet = self.quiet.subscribe();
        tokio::select! {
            _ = quiet.wait_for(|quiet| !quiet) => {}
            () = self.reached(Phase::Draining) => {}
        }
    }

    /// Asks for the configuration to be read again.
    pub fn ask_reload(&self) {
        self.reload.send_modify(|reload| reload.asked += 1);
    }

    /// How often it was asked for.
    pub fn reloads_asked(&self) -> u64 {
        self.reload.borrow().asked
    }

    /// Returns once it was asked for more often than `seen` times: how often.
    pub async fn reload_asked(&self, seen: u64) -> u64 {
        let mut receiver = self.reload.subscribe();
        // The sender lives in `self`, so the channel cannot be closed while this waits.
        receiver.wait_for(|reload| reload.asked > seen).await.map_or(seen, |reload| reload.asked)
    }

    /// Tells what became of a reload.
    pub fn set_reloaded(&self, reloaded: Reloaded) {
        self.reload.send_modify(|reload| reload.last = Some(reloaded));
    }

    /// What became of the last reload; `None` when there was none.
    pub fn reloaded(&self) -> Option<Reloaded> {
        self.reload.borrow().last
    }

    /// Returns once the phase is at least `phase`.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.phase.subscribe();
        // The sender lives in `self`, so the channel cannot be closed while this waits.
        let _ = receiver.wait_for(|current| *current >= phase).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_never_gone_back_to() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Aborting);
        lifecycle.advance(Phase::Draining);
        assert_eq!(lifecycle.phase(), Phase::Aborting);
    }

    #[tokio::test]
    async fn a_quiet_process_wakes_or_drains() {
        let lifecycle = Lifecycle::default();
        lifecycle.awake().await;
        lifecycle.set_quiet(true);
        let (one, two) = (lifecycle.clone(), lifecycle.clone());
        tokio::join!(one.awake(), async { two.set_quiet(false) });
        lifecycle.set_quiet(true);
        tokio::join!(one.awake(), async { two.step() });
    }

    #[tokio::test]
    async fn each_signal_is_a_step_that_every_clone_sees() {
        let lifecycle = Lifecycle::default();
        let clone = lifecycle.clone();
        lifecycle.step();
        clone.reached(Phase::Draining).await;
        assert!(!clone.is_running());
        clone.step();
        lifecycle.reached(Phase::Aborting).await;
    }
}
