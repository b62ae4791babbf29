//! What a holder has in hand: its keys, the token that proves them its own, and the time until which it may trust them.

use super::Redlock;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// A token that no other acquisition has or had: 20 bytes as 40 hexadecimal digits, as node-redlock's. Those of one holder begin with
/// its `name`, which leaves 12 random bytes; without a name all are.
pub(super) fn token(name: &str) -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes: [u8; 20] = rand::random();
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.map(|digit| char::from(DIGITS[usize::from(digit)])).skip(name.len());
    name.chars().chain(digits).collect::<String>().into()
}

/// How many digits the name of a holder has.
const NAME_DIGITS: usize = 16;

/// The holders that are known to be gone, each with the time until which keys of theirs may be left.
#[derive(Debug, Default)]
pub(super) struct Legacy(Mutex<Vec<(Arc<str>, Instant)>>);

impl Legacy {
    /// Whoever has this name is gone, and the last of its keys ends at `until` by itself.
    pub fn add(&self, name: Arc<str>, until: Instant) {
        self.lock().push((name, until));
    }

    /// Those of whom keys may be left.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names = self.lock();
        names.retain(|(_, until)| Instant::now() < *until);
        names.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<str>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Redlock {
    /// The same, as the holder with this name: 16 hexadecimal digits that no other holder has. Its tokens begin with them.
    pub fn named(self, name: &str) -> Redlock {
        Redlock { name: name.chars().take(NAME_DIGITS).collect::<String>().into(), ..self }
    }

    /// The holder whose name `id` begins with is gone for good: for one ttl, which is how long keys of its can be left, whatever it
    /// holds is free. If it lives all the same, two hold a key, which is what may happen to any lock.
    pub fn succeed(&self, id: &str) {
        let name: String = id.chars().take(NAME_DIGITS).collect();
        if name.len() == NAME_DIGITS && *name != *self.name {
            self.legacy.add(name.into(), Instant::now() + self.settings.ttl);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_forty_hexadecimal_digits_and_new_each_time() {
        let (first, second) = (token(""), token(""));
        assert_eq!(first.len(), 40);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        assert_ne!(first, second);
        let (first, second) = (token("0123456789abcdef"), token("0123456789abcdef"));
        assert!(first.len() == 40 && first.starts_with("0123456789abcdef") && first != second);
    }

    #[test]
    fn keys_of_a_holder_that_is_gone_are_looked_for_until_the_last_has_ended() {
        let (legacy, now) = (Legacy::default(), Instant::now());
        legacy.add("gone".into(), now + Duration::from_secs(60));
        legacy.add("long gone".into(), now);
        assert_eq!(legacy.names(), [Arc::<str>::from("gone")]);
    }

    fn lease(keys: &[&str], deadline: Instant) -> Lease {
        Lease::new(token(""), keys.iter().map(ToString::to_string).collect(), Instant::now(), deadline)
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
