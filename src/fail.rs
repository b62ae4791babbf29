//! Places where a test can make the process end, as a bug or a power cut would. Release builds have none.

/// Ends the process here when `LOCKKEEPER_TEST_ABORT` says `name`, or `name:subject`.
#[cfg(debug_assertions)]
pub fn point(name: &str, subject: &str) {
    let told = std::env::var("LOCKKEEPER_TEST_ABORT").unwrap_or_default();
    let (wanted, of) = told.split_once(':').unwrap_or((&told, ""));
    if wanted == name && of == subject {
        std::process::abort();
    }
}

/// Ends the process here in a debug build, when a test says so.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &str, _subject: &str) {}
