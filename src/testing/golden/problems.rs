//! How what is wrong is told.

/// Panics with all that is wrong, if anything is.
pub(super) fn tell(problems: &[String]) {
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What a test that fails has told.
#[cfg(test)]
pub(super) fn told(test: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let error = std::panic::catch_unwind(test).expect_err("something is wrong");
    error.downcast_ref::<String>().expect("a text").clone()
}
