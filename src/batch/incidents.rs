//! One log line a second for each cause of an outage, however many batches it stops.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When each cause was last logged.
#[derive(Debug, Default)]
pub struct Incidents(Mutex<HashMap<&'static str, Instant>>);

impl Incidents {
    /// True when `cause` has not been logged within the last second; it counts as logged then.
    pub fn is_news(&self, cause: &'static str) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let news = logged.get(cause).is_none_or(|last| now.duration_since(*last) >= Duration::from_secs(1));
        if news {
            logged.insert(cause, now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_news_once_and_another_one_is_news_too() {
        let incidents = Incidents::default();
        assert!(incidents.is_news("timeout"));
        assert!(!incidents.is_news("timeout"));
        assert!(incidents.is_news("denied"));
    }
}
