//! What a holder has in hand: its keys, the token that proves them its own, and the time until which it may trust them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The keys granted by one acquisition.
///
/// A lease that is dropped without [`release`](super::Redlock::release) leaves its keys to their ttl. What is to be released
/// whichever way its work ends is better [held](super::Redlock::hold).
#[must_use = "keys that are not released stay locked until their ttl has passed"]
pub struct Lease {
    token: Arc<str>,
    keys: Arc<[String]>,
    since: Instant,
    deadline: Instant,
}

impl Lease {
    pub(super) fn new(token: Arc<str>, keys: Arc<[String]>, since: Instant, deadline: Instant) -> Lease {
        Lease { token, keys, since, deadline }
    }

    /// The granted keys, sorted and each once.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The time from which another client may hold these keys.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the keys may still be trusted: zero once the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether there is a key and time left to use it.
    pub fn is_valid(&self) -> bool {
        !self.keys.is_empty() && !self.remaining().is_zero()
    }

    /// When the keys were first asked for.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The keys are trusted for longer. A deadline never comes closer.
    pub(super) fn extend_to(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline);
    }

    pub(super) fn forget(&mut self, keys: &[String]) {
        let forgotten: HashSet<&String> = keys.iter().collect();
        self.keys = self.keys.iter().filter(|key| !forgotten.contains(key)).cloned().collect();
    }

    pub(super) fn token(&self) -> &Arc<str> {
        &self.token
    }

    /// The keys, to be asked for or kept elsewhere without copying each.
    pub(super) fn shared_keys(&self) -> Arc<[String]> {
        self.keys.clone()
    }
}

/// The token stays out of every log: whoever knows it can release the keys.
impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lease = formatter.debug_struct("Lease");
        lease.field("keys", &self.keys.len()).field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

/// A token that no other acquisition has or had: 20 random bytes as 40 hexadecimal digits, as node-redlock's.
pub(super) fn token() -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes: [u8; 20] = rand::random();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_forty_hexadecimal_digits_and_new_each_time() {
        let (first, second) = (token(), token());
        assert_eq!(first.len(), 40);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        assert_ne!(first, second);
    }

    fn lease(keys: &[&str], deadline: Instant) -> Lease {
        Lease::new(token(), keys.iter().map(ToString::to_string).collect(), Instant::now(), deadline)
    }

    #[test]
    fn a_lease_ends_at_its_deadline_and_an_empty_one_is_never_valid() {
        let now = Instant::now();
        let over = lease(&["lock:item:1"], now);
        assert!(!over.is_valid());
        assert_eq!(over.remaining(), Duration::ZERO);
        assert!(lease(&["lock:item:1"], now + Duration::from_secs(60)).is_valid());
        assert!(!lease(&[], now + Duration::from_secs(60)).is_valid());
    }

    #[test]
    fn a_deadline_moves_away_only_and_a_released_key_is_no_part_of_the_lease() {
        let now = Instant::now();
        let mut lease = lease(&["a", "b"], now + Duration::from_secs(5));
        lease.extend_to(now + Duration::from_secs(3));
        assert_eq!(lease.deadline(), now + Duration::from_secs(5));
        lease.extend_to(now + Duration::from_secs(7));
        assert_eq!(lease.deadline(), now + Duration::from_secs(7));
        lease.forget(&["a".into(), "c".into()]);
        assert_eq!(lease.keys(), ["b"]);
    }
}
