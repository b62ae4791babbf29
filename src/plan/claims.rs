//! What batches in flight hold, by number: a look through thousands of waiting jobs compares numbers and no texts.

use foldhash::HashMap;

use crate::domain::AggregateId;
use crate::job::JobId;

/// What at most one batch in flight holds, or one and its successors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    Aggregate(AggregateId),
    Job(JobId),
}

/// A claim's number, for as long as a job waits or runs that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(usize);

/// A batch, for as long as it is in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchId(pub(super) u64);

/// All claims of jobs that wait or run.
#[derive(Debug, Default)]
pub(super) struct Claims {
    numbers: HashMap<Claim, Number>,
    marks: Vec<Mark>,
    /// Numbers that nobody uses.
    spare: Vec<Number>,
    /// How many claims are held.
    in_flight: usize,
    /// Batches that may be succeeded.
    open: Vec<BatchId>,
    /// Counts the looks through the waiting jobs, so that the marks of an earlier one need not be wiped.
    look: u64,
}

/// What is known of a claim.
#[derive(Clone, Debug, Default)]
struct Mark {
    claim: Option<Claim>,
    /// Jobs that make it and wait, and one for each batch that holds it.
    users: usize,
    /// The batches that hold it, each the successor of the one before it.
    holders: Vec<Holder>,
    /// Its holder may be succeeded, but not here.
    shut: bool,
    /// The look in which an older job was passed over that makes it.
    barred: u64,
    /// The look in which it was counted.
    counted: u64,
}

/// A batch that holds a claim. It may be heard to have ended before its predecessor is; until then it stands in the way of those
/// who would go by what the predecessor leaves.
#[derive(Clone, Copy, Debug)]
struct Holder {
    batch: BatchId,
    has_ended: bool,
}

/// What a claim was when a batch took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nobody held it.
    Free,
    /// This batch holds it, and is succeeded.
    After(BatchId),
    /// The batch itself holds it already.
    Again,
}

impl Claims {
    /// A waiting job makes this claim.
    pub fn enter(&mut self, claim: Claim) -> Number {
        let number = *self.numbers.entry(claim).or_insert_with_key(|claim| {
            let number = self.spare.pop().unwrap_or_else(|| {
                self.marks.push(Mark::default());
                Number(self.marks.len() - 1)
            });
            self.marks[number.0].claim = Some(claim.clone());
            number
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

    /// A waiting job that makes this claim begins to run in `batch`.
    pub fn start(&mut self, number: Number, batch: BatchId) -> Start {
        let mark = &mut self.marks[number.0];
        let last = mark.holders.last().map(|holder| holder.batch);
        if last == Some(batch) {
            // The batch uses it in the place of the first job.
            self.leave(number);
            return Start::Again;
        }
        mark.holders.push(Holder { batch, has_ended: false });
        self.in_flight += 1;
        last.map_or(Start::Free, Start::After)
    }

    /// A job of `batch` that makes this claim has ended; true when no batch holds it any more.
    pub fn end(&mut self, claim: &Claim, batch: BatchId) -> bool {
        let Some(number) = self.numbers.get(claim).copied() else { return false };
        let mark = &mut self.marks[number.0];
        let is_it = |holder: &&mut Holder| holder.batch == batch && !holder.has_ended;
        let Some(holder) = mark.holders.iter_mut().find(is_it) else { return false };
        holder.has_ended = true;
        let ended = mark.holders.iter().take_while(|holder| holder.has_ended).count();
        mark.holders.drain(..ended);
        let is_free = mark.holders.is_empty();
        mark.shut &= !is_free;
        self.in_flight -= ended;
        (0..ended).for_each(|_| self.leave(number));
        is_free
    }

    /// From now on `batch` may be succeeded in what it holds, except for these.
    pub fn open<'a>(&mut self, batch: BatchId, except: impl IntoIterator<Item = &'a AggregateId>) {
        self.open.push(batch);
        for aggregate in except {
            if let Some(number) = self.numbers.get(&Claim::Aggregate(aggregate.clone())) {
                self.marks[number.0].shut = true;
            }
        }
    }

    /// `batch` has ended.
    pub fn close(&mut self, batch: BatchId) {
        self.open.retain(|open| *open != batch);
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
        self.marks_of(numbers).all(|mark| mark.holders.is_empty() && mark.barred != self.look)
    }

    /// Whether each of these is free, or in flight in a batch that may be succeeded, and none is barred.
    pub fn are_open(&self, numbers: &[Number]) -> bool {
        self.marks_of(numbers).all(|mark| {
            let is_open = mark.holders.last().is_none_or(|last| !mark.shut && self.open.contains(&last.batch));
            is_open && mark.barred != self.look
        })
    }

    fn marks_of(&self, numbers: &[Number]) -> impl Iterator<Item = &Mark> {
        numbers.iter().map(|number| &self.marks[number.0])
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
        let [batch, next] = [BatchId(0), BatchId(1)];
        assert_eq!(claims.start(first, batch), Start::Free, "the first of its batch");
        assert_eq!(claims.start(second, batch), Start::Again, "the second of the same batch");
        assert!(!claims.none_in_flight());
        let third = claims.enter(claim("a"));
        assert_eq!(claims.start(third, next), Start::After(batch));
        assert!(!claims.end(&claim("a"), batch), "its successor holds it");
        assert!(!claims.end(&claim("a"), batch), "it is held once by each");
        assert!(claims.end(&claim("a"), next) && !claims.end(&claim("a"), next));
        assert!(claims.none_in_flight());
        claims.leave(other);
        assert!(claims.numbers.is_empty() && claims.spare.len() == 2);
        assert_eq!(claims.enter(claim("c")), other);
        assert_eq!(claims.marks.len(), 2);
    }

    #[test]
    fn what_an_open_batch_holds_is_open_until_it_is_taken_except_where_it_is_shut() {
        let mut claims = Claims::default();
        let [a, b] = ["a", "b"].map(|id| claims.enter(claim(id)));
        let [batch, next] = [BatchId(0), BatchId(1)];
        claims.look();
        for number in [a, b] {
            claims.start(number, batch);
        }
        assert!(!claims.are_open(&[a]) && !claims.are_open(&[b]));
        claims.open(batch, [&AggregateId::new("item", "b")]);
        assert!(claims.are_open(&[a]) && !claims.are_open(&[b]) && !claims.are_free(&[a]));
        let again = claims.enter(claim("a"));
        claims.start(again, next);
        assert!(!claims.are_open(&[a]), "its successor may not be succeeded yet");
        claims.close(batch);
        let waits = claims.enter(claim("b"));
        assert!(claims.end(&claim("b"), batch) && claims.are_open(&[waits]), "it was shut until its batch ended");
    }

    #[test]
    fn what_a_successor_held_is_not_free_while_its_predecessor_is_not_heard_of() {
        let mut claims = Claims::default();
        let [a, again, waits] = ["a"; 3].map(|id| claims.enter(claim(id)));
        let [batch, next] = [BatchId(0), BatchId(1)];
        claims.look();
        claims.start(a, batch);
        claims.open(batch, []);
        claims.start(again, next);
        claims.open(next, []);
        assert!(!claims.end(&claim("a"), next));
        claims.close(next);
        assert!(!claims.are_open(&[waits]), "the predecessor leaves less than its successor has written");
        assert!(!claims.end(&claim("a"), next), "it ends once");
        assert!(claims.end(&claim("a"), batch) && claims.are_free(&[waits]) && claims.none_in_flight());
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
