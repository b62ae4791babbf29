//! How a job ends: the same from the decision to its receipt and its reply.

use std::borrow::Cow;

use super::dead::Dead;

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which of the ends there are.
    pub kind: OutcomeKind,
    /// Why, unless it was applied or has expired.
    pub reason: Option<Reason>,
    /// Of its first and its last event, when it has any. Before the commit they count from the batch's first event, which is 0.
    pub positions: Option<(u64, u64)>,
}

/// The ends of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    /// Its events are committed, or there was nothing to change.
    Applied,
    /// A business no.
    Rejected,
    /// It came too late.
    Expired,
    /// It can never be run.
    Dead,
    /// What another version of this program has recorded.
    Recorded(String),
}

/// Why a job was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A word of the domain, or of what comes before its decision.
    Rejection(Cow<'static, str>),
    /// A kind of failure, and a sentence.
    Dead(Dead),
}

impl Outcome {
    /// Applied, with the positions of its events.
    pub fn applied(positions: Option<(u64, u64)>) -> Self {
        Self { kind: OutcomeKind::Applied, reason: None, positions }
    }

    /// Rejected for this reason.
    pub fn rejected(reason: &'static str) -> Self {
        Self { kind: OutcomeKind::Rejected, reason: Some(Reason::Rejection(reason.into())), positions: None }
    }

    /// Too late.
    pub fn expired() -> Self {
        Self { kind: OutcomeKind::Expired, reason: None, positions: None }
    }

    /// Dead for this reason.
    pub fn dead(why: Dead) -> Self {
        Self { kind: OutcomeKind::Dead, reason: Some(Reason::Dead(why)), positions: None }
    }

    /// As a receipt tells it.
    pub fn recorded(kind: &str, reason: Option<&str>, positions: Option<(u64, u64)>) -> Self {
        let known = [OutcomeKind::Applied, OutcomeKind::Rejected, OutcomeKind::Expired, OutcomeKind::Dead];
        let found = known.into_iter().find(|known| known.as_str() == kind);
        let kind = found.unwrap_or_else(|| OutcomeKind::Recorded(kind.to_owned()));
        let dead = |text: &str| (kind == OutcomeKind::Dead).then(|| Dead::recorded(text)).flatten().map(Reason::Dead);
        let reason = reason.map(|text| dead(text).unwrap_or_else(|| Reason::Rejection(text.to_owned().into())));
        Self { kind, reason, positions }
    }

    /// The same once the batch's first event has this position.
    pub fn shifted_to(self, first: u64) -> Self {
        Self { positions: self.positions.map(|(from, to)| (first + from, first + to)), ..self }
    }

    /// The reason as receipts, replies and dead letters carry it.
    pub fn reason_text(&self) -> Option<Cow<'_, str>> {
        self.reason.as_ref().map(|reason| match reason {
            Reason::Rejection(word) => Cow::Borrowed(&**word),
            Reason::Dead(dead) => Cow::Owned(dead.reason()),
        })
    }
}

impl OutcomeKind {
    /// The kind as it is spelled everywhere.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Recorded(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::dead::DeadCode;

    #[test]
    fn a_recorded_outcome_is_told_again_word_for_word() {
        let long = Dead::new(DeadCode::TooLarge, "é".repeat(400));
        let fresh = [
            Outcome::applied(Some((3, 4))),
            Outcome::applied(None),
            Outcome::rejected("item_not_found"),
            Outcome::expired(),
            Outcome::dead(Dead::new(DeadCode::Malformed, "data.at: must be digits")),
        ];
        for outcome in fresh {
            let reason = outcome.reason_text();
            let again = Outcome::recorded(outcome.kind.as_str(), reason.as_deref(), outcome.positions);
            assert_eq!(again, outcome);
        }
        let told = Outcome::dead(long).reason_text().map(Cow::into_owned);
        assert_eq!(Outcome::recorded("dead", told.as_deref(), None).reason_text().as_deref(), told.as_deref());
        for (kind, reason) in [("cancelled", Some("by hand")), ("dead", Some("of old age")), ("dead", Some("old: age"))]
        {
            let other = Outcome::recorded(kind, reason, None);
            assert_eq!((other.kind.as_str(), other.reason_text().as_deref()), (kind, reason));
        }
    }
}
