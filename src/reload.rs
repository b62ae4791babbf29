//! Reading the configuration again while the daemon runs: what may change live does, the rest is reported.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{Config, Key};
use crate::lifecycle::{Lifecycle, Reloaded};
use crate::telemetry::Logs;

/// Keys that take effect without a restart.
const LIVE: &[&str] = &["log.level"];

/// Reads the configuration again each time `lifecycle` is asked for it. `load` reads it all; its error is every problem in
/// it, and then nothing changes. Never returns.
pub async fn watch<E: std::fmt::Display>(
    lifecycle: &Lifecycle,
    logs: &Logs,
    mut running: Config,
    load: impl Fn() -> Result<Config, E>,
) {
    let mut seen = 0;
    loop {
        seen = lifecycle.reload_asked(seen).await;
        let succeeded = match load() {
            Ok(fresh) => apply(logs, &mut running, fresh),
            Err(problems) => {
                refused(&problems.to_string());
                false
            }
        };
        let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        lifecycle.set_reloaded(Reloaded { succeeded, unix_seconds });
    }
}

/// Changes what may change live. The rest of `running` stays, so that it is reported again next time.
fn apply(logs: &Logs, running: &mut Config, fresh: Config) -> bool {
    let (live, restart): (Vec<&Key>, Vec<&Key>) =
        running.changes(&fresh).into_iter().partition(|key| LIVE.contains(&key.path));
    // Said as long as the old level lets it through, or else once the new one does.
    let early = tracing::enabled!(tracing::Level::INFO);
    if early {
        report(&live, &restart);
    }
    if let Err(error) = logs.set_level(&fresh.log.level) {
        refused(&error.to_string());
        return false;
    }
    running.log.level = fresh.log.level;
    if !early {
        report(&live, &restart);
    }
    true
}

fn report(live: &[&Key], restart: &[&Key]) {
    let list = |keys: &[&Key]| keys.iter().map(|key| key.path).collect::<Vec<_>>().join(",");
    let (changed, needs_restart) = (list(live), list(restart));
    if restart.is_empty() {
        tracing::info!(config.changed = changed, "the configuration was read again");
    } else {
        tracing::warn!(
            config.changed = changed,
            config.needs_restart = needs_restart,
            "the configuration was read again; some of its changes need a restart"
        );
    }
}

fn refused(problems: &str) {
    let problems = problems.lines().collect::<Vec<_>>().join("; ");
    tracing::error!(config.problems = problems, "the configuration is broken: nothing has changed");
}
