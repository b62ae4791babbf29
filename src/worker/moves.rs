//! Where an entry goes that is not just acknowledged.

use crate::batch::{End, Engine, EntryAction};
use crate::domain::Domain;
use crate::job::{HeldLetter, HeldState, Job};
use crate::plan::{Planned, as_text};
use crate::stream::{Broker, BrokerError, DeadLetter, Postponed};

/// A step out of the stream that is neither an acknowledgement nor a reply.
#[derive(Debug)]
pub(super) enum Move {
    /// To the dead letters, since it is dead.
    DeadLetter(DeadLetter),
    /// To the dead letters, since it goes behind a dead one.
    Hold(DeadLetter),
    /// It came from a letter and is held again: the letter stays.
    Stay,
    /// To the schedule.
    Postpone(Postponed),
}

impl Move {
    /// What is to be done with the entry; nothing when it is acknowledged.
    pub fn of<D: Domain>(engine: &Engine<D>, planned: &Planned<Job<D>>, end: &End) -> Option<Self> {
        let job = &planned.queued.job;
        let record = |state| {
            let kept = as_text(planned.aggregates());
            (!kept.is_empty()).then(|| HeldLetter::record(job.entry, state, &kept))
        };
        let (entry, letter) = (job.entry, job.letter);
        match &end.action {
            EntryAction::Acknowledge => None,
            EntryAction::DeadLetter { error } => {
                let reason = end.outcome.reason_text().unwrap_or_default().into_owned();
                let record = if engine.hold_after_dead { record(HeldState::Dead) } else { None };
                Some(Self::DeadLetter(DeadLetter { entry, job: job.id, reason, error: error.clone(), letter, record }))
            }
            EntryAction::Hold if letter.is_some() => Some(Self::Stay),
            EntryAction::Hold => {
                let touched = as_text(planned.aggregates()).join(", ");
                let error =
                    format!("it touches {touched}, and so does an older job that is a dead letter or behind one");
                let (reason, record) = (format!("held: {HELD}"), record(HeldState::Held));
                Some(Self::Hold(DeadLetter { entry, job: job.id, reason, error, letter, record }))
            }
            EntryAction::Postpone { at } => Some(Self::Postpone(Postponed { entry, job: job.id, at: *at, letter })),
        }
    }

    /// The step as the log calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::DeadLetter(_) => "dead-letter",
            Self::Hold(_) | Self::Stay => "hold",
            Self::Postpone(_) => "postpone",
        }
    }

    /// Whether later jobs wait behind it from now on.
    pub fn holds(&self) -> bool {
        match self {
            Self::DeadLetter(letter) | Self::Hold(letter) => letter.record.is_some(),
            Self::Stay => true,
            Self::Postpone(_) => false,
        }
    }

    /// Has the broker do it.
    pub async fn make(&self, broker: &Broker, stream: &str) -> Result<(), BrokerError> {
        match self {
            Self::DeadLetter(letter) | Self::Hold(letter) => broker.dead_letter(stream, letter).await,
            Self::Stay => Ok(()),
            Self::Postpone(postponed) => broker.postpone(stream, *postponed).await,
        }
    }
}

/// Why a job is held, for the operator.
const HELD: &str = "it waits behind a dead letter; requeue or drop that one, and it goes on by itself";
