//! Jobs whose outcomes tell in which order they ran.

pub const AGGREGATES: usize = 2;

/// What there is of each aggregate.
pub type Values = [i8; AGGREGATES];

/// A job: what it adds to each aggregate that it touches. One that would leave less than nothing is rejected.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub adds: [Option<i8>; AGGREGATES],
}

const fn adds(a: Option<i8>, b: Option<i8>) -> Job {
    Job { adds: [a, b] }
}

/// One more of a, one of a becomes one of b, one less of b, one less of a: one by one the first three are applied and the fourth is
/// rejected. In any other order of two that share an aggregate, an outcome differs.
pub static MOVES: [Job; 4] = [adds(Some(1), None), adds(Some(-1), Some(1)), adds(None, Some(-1)), adds(Some(-1), None)];

/// One more of a, and three times one less of it: the first is applied, the others are rejected and write nothing but a receipt.
pub static REJECTIONS: [Job; 4] =
    [adds(Some(1), None), adds(Some(-1), None), adds(Some(-1), None), adds(Some(-1), None)];

impl Job {
    pub fn shares(&self, other: &Job) -> bool {
        self.adds.iter().zip(&other.adds).any(|(mine, its)| mine.is_some() && its.is_some())
    }

    /// Whether it is applied on these values.
    pub fn decide(&self, values: &Values) -> bool {
        self.adds.iter().zip(values).all(|(add, value)| add.is_none_or(|add| value + add >= 0))
    }
}

/// What the jobs come to one by one.
pub fn serial(jobs: &[Job]) -> Vec<bool> {
    let mut values = [0; AGGREGATES];
    let run = |job: &Job| {
        let applied = job.decide(&values);
        if applied {
            values.iter_mut().zip(&job.adds).for_each(|(value, add)| *value += add.unwrap_or(0));
        }
        applied
    };
    jobs.iter().map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_tells_the_order() {
        assert_eq!(serial(&MOVES), [true, true, true, false]);
        assert_eq!(serial(&REJECTIONS), [true, true, false, false]);
        assert!(MOVES[0].shares(&MOVES[1]) && MOVES[1].shares(&MOVES[2]) && !MOVES[0].shares(&MOVES[2]));
    }
}
