//! Places where a test can make the process end, panic or stop, as a bug or a power cut would. Release builds have none.

/// Ends the process here when `LOCKKEEPER_TEST_ABORT` says `name`, or `name:subject`; panics when `LOCKKEEPER_TEST_PANIC`
/// does; and with `LOCKKEEPER_TEST_HANG` never goes on.
#[cfg(debug_assertions)]
pub fn point(name: &str, subject: &str) {
    let meant = |variable: &str| {
        let told = std::env::var(variable).unwrap_or_default();
        let (wanted, of) = told.split_once(':').unwrap_or((&told, ""));
        wanted == name && of == subject
    };
    if meant("LOCKKEEPER_TEST_ABORT") {
        std::process::abort();
    }
    assert!(!meant("LOCKKEEPER_TEST_PANIC"), "a test makes it panic");
    while meant("LOCKKEEPER_TEST_HANG") {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

/// Whether `LOCKKEEPER_TEST_OWNS` has this process believe that every stream is its own, whatever the lease says.
pub fn owns_all() -> bool {
    cfg!(debug_assertions) && std::env::var_os("LOCKKEEPER_TEST_OWNS").is_some()
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str, _subject: &str) {}
