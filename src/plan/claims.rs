//! What at most one batch in flight holds, by number: a look through thousands of waiting jobs compares numbers and no texts.

use std::collections::HashMap;

use crate::domain::AggregateId;
use crate::job::JobId;

/// What at most one batch in flight holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    Aggregate(AggregateId),
    Job(JobId),
}

/// A claim's number, for as long as a job waits or runs that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(usize);

/// All claims of jobs that wait or run.
#[derive(Debug, Default)]
pub(super) struct Claims {
    numbers: HashMap<Claim, Number>,
    marks: Vec<Mark>,
    /// Numbers that nobody uses.
    spare: Vec<Number>,
    in_flight: usize,
    /// Counts the looks through the waiting jobs, so that the marks of an earlier one need not be wiped.
    look: u64,
}

/// What is known of a claim.
#[derive(Clone, Debug, Default)]
struct Mark {
    claim: Option<Claim>,
    /// Jobs that make it and wait, and one for the batch that holds it.
    users: usize,
    in_flight: bool,
    /// The look in which an older job was passed over that makes it.
    barred: u64,
    /// The look in which it was counted.
    counted: u64,
}

impl Claims {
    /// A waiting job makes this claim.
    pub fn enter(&mut self, claim: Claim) -> Number {
        let number = *self.numbers.entry(claim).or_insert_with_key(|claim| {
            let mark = Mark { claim: Some(claim.clone()), ..Mark::default() };
            match self.spare.pop() {
                Some(number) => {
                    self.marks[number.0] = mark;
                    number
                }
                None => {
                    self.marks.push(mark);
                    Number(self.marks.len() - 1)
                }
            }
        });
        self.marks[number.0].users += 1;
        number
    }

    /// A waiting job that makes this claim waits no more.
    pub fn leave(&mut self, number: Number) {
        let mark = &mut self.marks[number.0];
        mark.users -= 1;
        if mark.users == 0
            && let Some(claim) = mark.claim.take()
        {
            self.numbers.remove(&claim);
            self.spare.push(number);
        }
    }

    /// A waiting job that makes this claim begins to run; true when it is the first of its batch.
    pub fn start(&mut self, number: Number) -> bool {
        let mark = &mut self.marks[number.0];
        let is_first = !std::mem::replace(&mut mark.in_flight, true);
        // The batch uses it in the place of the first job.
        if is_first {
            self.in_flight += 1;
        } else {
            self.leave(number);
        }
        is_first
    }

    /// A job that makes this claim has ended; true when it is the first of its batch.
    pub fn end(&mut self, claim: &Claim) -> bool {
        let Some(number) = self.numbers.get(claim).copied() else { return false };
        let was_held = std::mem::take(&mut self.marks[number.0].in_flight);
        if was_held {
            self.in_flight -= 1;
            self.leave(number);
        }
        was_held
    }

    /// Whether nothing runs.
    pub fn none_in_flight(&self) -> bool {
        self.in_flight == 0
    }

    /// A new look through the waiting jobs begins: nothing is barred, nothing is counted.
    pub fn look(&mut self) {
        self.look += 1;
    }

    /// Whether none of these is in flight or barred.
    pub fn are_free(&self, numbers: &[Number]) -> bool {
        numbers.iter().map(|number| &self.marks[number.0]).all(|mark| !mark.in_flight && mark.barred != self.look)
    }

    /// Bars these for the rest of this look.
    pub fn bar(&mut self, numbers: &[Number]) {
        for number in numbers {
            self.marks[number.0].barred = self.look;
        }
    }

    /// How many of these were not counted before in this look.
    pub fn count(&mut self, numbers: &[Number]) -> usize {
        let look = self.look;
        let is_new = |number: &&Number| std::mem::replace(&mut self.marks[number.0].counted, look) != look;
        numbers.iter().filter(is_new).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str) -> Claim {
        Claim::Aggregate(AggregateId::new("item", id))
    }

    #[test]
    fn a_number_is_used_again_when_no_job_makes_its_claim_any_more() {
        let mut claims = Claims::default();
        let (first, second) = (claims.enter(claim("a")), claims.enter(claim("a")));
        assert_eq!(first, second);
        let other = claims.enter(claim("b"));
        assert_ne!(first, other);
        assert!(claims.start(first), "the first of its batch");
        assert!(!claims.start(second), "the second of the same batch");
        assert!(!claims.none_in_flight());
        assert!(claims.end(&claim("a")) && !claims.end(&claim("a")), "it is held once");
        assert!(claims.none_in_flight());
        claims.leave(other);
        assert!(claims.numbers.is_empty() && claims.spare.len() == 2);
        assert_eq!(claims.enter(claim("c")), other);
        assert_eq!(claims.marks.len(), 2);
    }

    #[test]
    fn what_is_barred_or_counted_is_so_for_one_look() {
        let mut claims = Claims::default();
        let [a, b] = ["a", "b"].map(|id| claims.enter(claim(id)));
        claims.look();
        assert!(claims.are_free(&[a, b]));
        claims.bar(&[a]);
        assert!(!claims.are_free(&[a, b]) && claims.are_free(&[b]));
        assert_eq!((claims.count(&[a, b, a]), claims.count(&[b])), (2, 0));
        claims.look();
        assert!(claims.are_free(&[a, b]));
        assert_eq!(claims.count(&[a]), 1);
    }
}
