//! What may happen next.

use super::state::{Build, Does, FIRST, SECOND, Stage, State};
use super::{Mistake, Rebuild};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A writer reads the number, or the list.
    Look(usize),
    /// It makes a packet of an event, for the list that it knows.
    Encode(usize),
    Commit(usize),
    /// A builder sees that there is no second build, and adds one.
    Begin(usize),
    Create(usize),
    /// It makes the checkpoint its own.
    Take(usize),
    /// It fills the build up to this position.
    Page(usize, u8),
    /// It takes the sequence row and reads the log's end, and commits.
    Hold(usize),
    TakeOver(usize),
    /// The server ends the session that holds the row.
    End,
    Kill(usize),
    /// An operator sees that a build is written, waits until it is alone, has the view show it, and notes that.
    Switch(usize, usize),
    Lock(usize),
    Show(usize),
    Note(usize),
    Stop(usize),
    /// Somebody who is alone for this one step lets a build go.
    Retire(usize),
    /// Who is alone is so no more, and does not know.
    LoseLock,
    /// Another server takes over, which has all but the last change of the list.
    FailOver,
}

impl Rebuild {
    pub(super) fn possible(&self, state: &State, steps: &mut Vec<Step>) {
        let database = &state.database;
        let (is_free, has_room) = (state.held.is_none(), database.log < self.events);
        for (number, writer) in state.writers.iter().enumerate() {
            steps.push(Step::Look(number));
            if writer.knows.is_some() && writer.packet.is_none() && has_room {
                steps.push(Step::Encode(number));
            }
            if writer.packet.is_some() && is_free && has_room {
                steps.push(Step::Commit(number));
            }
        }
        for (number, builder) in state.builders.iter().enumerate() {
            match builder.does {
                Does::Nothing => {
                    if database.builds[SECOND] == Build::Absent && state.alone.is_none() {
                        steps.push(Step::Begin(number));
                    }
                    if database.checkpoint.is_some() && state.takes < self.takes {
                        steps.push(Step::Take(number));
                    }
                    continue;
                }
                Does::Begins => steps.push(Step::Create(number)),
                Does::Fills => {
                    steps.extend((builder.position + 1..=database.log).map(|to| Step::Page(number, to)));
                    if is_free {
                        steps.push(Step::Hold(number));
                    }
                }
                Does::TakesOver { .. } => steps.push(Step::TakeOver(number)),
            }
            steps.push(Step::Kill(number));
        }
        for (number, operator) in state.operators.iter().enumerate() {
            let Some(switch) = operator else {
                if state.switches < self.switches {
                    let written = [FIRST, SECOND].into_iter().filter(|build| database.builds[*build].is_written());
                    steps.extend(written.map(|build| Step::Switch(number, build)));
                }
                continue;
            };
            match switch.is {
                Stage::Asked if state.alone.is_none() => steps.push(Step::Lock(number)),
                Stage::Asked => {}
                Stage::Alone => steps.push(Step::Show(number)),
                Stage::Done => steps.push(Step::Note(number)),
            }
            steps.push(Step::Stop(number));
        }
        if is_free && (state.alone.is_none() || self.is(Mistake::RetiredBeside)) {
            let can_go = |build: &usize| {
                let is_let = matches!(database.builds[*build], Build::Building | Build::Ready | Build::Kept);
                is_let && (database.view != *build || self.is(Mistake::Noted))
            };
            steps.extend([FIRST, SECOND].into_iter().filter(can_go).map(Step::Retire));
        }
        if !is_free {
            steps.push(Step::End);
        }
        if state.alone.is_some() {
            steps.push(Step::LoseLock);
        }
        if state.before.is_some() {
            steps.push(Step::FailOver);
        }
    }
}
