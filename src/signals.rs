//! Signals move the lifecycle on: SIGTERM and SIGINT drain, the second of them aborts; SIGTSTP makes quiet, SIGCONT resumes;
//! SIGHUP asks for the configuration to be read again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

use crate::lifecycle::Lifecycle;

/// What this process listens to, or must see: TERM, INT, TSTP, CONT and HUP as above, CHLD for the servers that `dev` starts,
/// WINCH for `top`.
const NEEDED: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGTSTP,
    Signal::SIGCONT,
    Signal::SIGHUP,
    Signal::SIGCHLD,
    Signal::SIGWINCH,
];

/// Lets those signals through that whoever started this process may have left blocked, as some supervisors do: a blocked
/// SIGTERM would never be seen. To be called before any thread is started, since threads inherit what is blocked.
pub fn unblock() {
    // It fails only for numbers that are no signals.
    let _ = NEEDED.into_iter().collect::<SigSet>().thread_unblock();
}

/// The signals of this process, from now to its end.
pub struct Listening {
    last: Arc<AtomicI32>,
}

impl Listening {
    /// The exit code of a process that a signal made leave at once: 128 and the signal's number.
    pub fn exit_code(&self) -> u8 {
        u8::try_from(128 + self.last.load(Ordering::Relaxed)).unwrap_or(u8::MAX)
    }
}

/// Starts to listen.
pub fn listen(lifecycle: Lifecycle) -> std::io::Result<Listening> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGTSTP, SIGCONT, SIGHUP])?;
    let last = Arc::new(AtomicI32::new(SIGTERM));
    let seen = last.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            match signal {
                SIGTSTP => lifecycle.set_quiet(true),
                SIGCONT => lifecycle.set_quiet(false),
                SIGHUP => lifecycle.ask_reload(),
                _ => {
                    seen.store(signal, Ordering::Relaxed);
                    lifecycle.step();
                }
            }
        }
    })?;
    Ok(Listening { last })
}
