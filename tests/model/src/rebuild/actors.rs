//! What each step does.

use super::state::{Alone, Build, Builder, Does, FIRST, Known, SECOND, Stage, State, Switch};
use super::{Mistake, Rebuild, Step};

impl Rebuild {
    pub(super) fn happens(&self, state: &mut State, step: Step) {
        match step {
            Step::Look(writer) => self.look(state, writer),
            Step::Encode(writer) => state.writers[writer].packet = state.writers[writer].knows,
            Step::Commit(writer) => self.commit(state, writer),
            Step::Begin(builder) => {
                state.alone = Some(Alone::Builder(builder));
                state.builders[builder].does = Does::Begins;
            }
            Step::Create(builder) => self.create(state, builder),
            Step::Take(builder) => {
                state.before = None;
                state.takes += 1;
                let token = state.takes;
                if let Some((position, of)) = &mut state.database.checkpoint {
                    *of = token;
                    state.builders[builder] = Builder { token, position: *position, does: Does::Fills };
                }
            }
            Step::Page(builder, to) => self.page(state, builder, to),
            Step::Hold(builder) => {
                if !self.is(Mistake::WithoutTheRow) {
                    state.held = Some(builder);
                }
                state.builders[builder].does = Does::TakesOver { to: state.database.log };
            }
            Step::TakeOver(builder) => self.take_over(state, builder),
            Step::End => state.held = None,
            Step::Kill(builder) => state.ends(builder),
            Step::Switch(operator, to) => {
                state.switches += 1;
                state.operators[operator] = Some(Switch { to, is: Stage::Asked });
            }
            Step::Lock(operator) => self.lock(state, operator),
            Step::Show(operator) => self.show(state, operator),
            Step::Note(operator) => note(state, operator),
            Step::Stop(operator) => {
                state.operators[operator] = None;
                state.leaves(Alone::Operator(operator));
            }
            Step::Retire(build) => {
                self.changes(state);
                state.database.builds[build] = Build::Retired;
                if build == SECOND {
                    state.database.checkpoint = None;
                }
            }
            Step::LoseLock => state.alone = None,
            Step::FailOver => self.fail_over(state),
        }
    }

    /// A writer reads what it has to know: two things of one moment, or one after the other.
    fn look(&self, state: &mut State, writer: usize) {
        let now = Known { generation: state.database.generation, list: state.database.list() };
        let writer = &mut state.writers[writer];
        let is_half = self.is(Mistake::NumberFirst) || self.is(Mistake::ListFirst);
        let Known { generation, list } = match writer.looked.take() {
            None if is_half => return writer.looked = Some(now),
            None => now,
            Some(before) if self.is(Mistake::ListFirst) => Known { list: before.list, ..now },
            Some(before) => Known { generation: before.generation, ..now },
        };
        let is_older = writer.knows.is_some_and(|known| known.generation > generation);
        if is_older && self.is(Mistake::OnlyForward) {
            return;
        }
        // What it cannot write leaves it with what it knew, by which it can commit nothing.
        if !(writer.is_old && list[SECOND]) {
            writer.knows = Some(Known { generation, list });
        } else if self.is(Mistake::WritesOn) {
            writer.knows = Some(Known { generation, list: [list[FIRST], false] });
        }
    }

    /// The database's part: an event is in the log with what is written by it, or nothing is.
    fn commit(&self, state: &mut State, writer: usize) {
        let Some(packet) = state.writers[writer].packet.take() else { return };
        let database = &mut state.database;
        if packet.generation != database.generation && !self.is(Mistake::Uncompared) {
            return;
        }
        state.before = None;
        database.log += 1;
        for (row, is_written) in database.rows.iter_mut().zip(packet.list) {
            *row += u8::from(is_written);
        }
    }

    /// Whether somebody who was alone is so still, and may do what it is about.
    fn is_alone(&self, state: &State, who: Alone) -> bool {
        state.alone == Some(who) || self.is(Mistake::LockUnnoticed)
    }

    /// Empty tables, and then a build that there is not yet.
    fn create(&self, state: &mut State, builder: usize) {
        if self.is_alone(state, Alone::Builder(builder)) {
            state.before = None;
            let database = &mut state.database;
            database.rows[SECOND] = 0;
            if database.builds[SECOND] == Build::Absent {
                (database.builds[SECOND], database.checkpoint) = (Build::Building, Some((0, 0)));
            }
        }
        state.ends(builder);
    }

    /// Whether the checkpoint is as the builder believes.
    fn is_fenced(&self, state: &State, builder: usize) -> bool {
        let Builder { token, position, .. } = state.builders[builder];
        state.database.checkpoint != Some((position, token)) && !self.is(Mistake::Unfenced)
    }

    /// A page's rows with its checkpoint. When it commits is when the log is read: what is in it does not change.
    fn page(&self, state: &mut State, builder: usize, to: u8) {
        if self.is_fenced(state, builder) {
            return state.ends(builder);
        }
        state.before = None;
        state.database.rows[SECOND] += to - state.builders[builder].position;
        state.builders[builder].position = to;
        if let Some((position, _)) = &mut state.database.checkpoint {
            *position = to;
        }
    }

    fn take_over(&self, state: &mut State, builder: usize) {
        let Builder { position, does: Does::TakesOver { to }, token } = state.builders[builder] else { return };
        let is_its_session =
            state.held == Some(builder) || self.is(Mistake::SessionUnnoticed) || self.is(Mistake::WithoutTheRow);
        if is_its_session && !self.is_fenced(state, builder) && state.database.builds[SECOND] == Build::Building {
            self.changes(state);
            let database = &mut state.database;
            database.rows[SECOND] += to - position;
            database.builds[SECOND] = Build::Ready;
            (database.checkpoint, database.taken_over) = (None, Some(to));
            return state.ends(builder);
        }
        let is_ours = state.database.checkpoint.is_some_and(|(_, of)| of == token);
        state.ends(builder);
        if is_ours {
            state.builders[builder] = Builder { token, position, does: Does::Fills };
        }
    }

    fn lock(&self, state: &mut State, operator: usize) {
        let Some(switch) = state.operators[operator].take() else { return };
        if state.database.builds[switch.to].is_written() || self.is(Mistake::SeenBefore) {
            state.alone = Some(Alone::Operator(operator));
            state.operators[operator] = Some(Switch { is: Stage::Alone, ..switch });
        }
    }

    fn show(&self, state: &mut State, operator: usize) {
        let Some(switch) = state.operators[operator].take() else { return };
        if self.is_alone(state, Alone::Operator(operator)) {
            state.before = None;
            state.database.view = switch.to;
            state.operators[operator] = Some(Switch { is: Stage::Done, ..switch });
        }
        state.leaves(Alone::Operator(operator));
    }

    /// The list is another one from now on, so it has another number.
    fn changes(&self, state: &mut State) {
        state.before = (state.losses < self.losses).then(|| Box::new(state.database.clone()));
        let last = if self.is(Mistake::NumberReused) { state.database.generation } else { state.numbers };
        let number = if self.is(Mistake::SameNumber) { state.database.generation } else { last + 1 };
        (state.database.generation, state.numbers) = (number, state.numbers.max(number));
    }

    fn fail_over(&self, state: &mut State) {
        let Some(before) = state.before.take() else { return };
        state.losses += 1;
        // Sessions end with their server.
        (state.database, state.held, state.alone) = (*before, None, None);
        let generation = state.database.generation;
        state.back_to = Some(generation);
        for writer in &mut state.writers {
            writer.was_ahead |= writer.knows.is_some_and(|known| known.generation > generation);
        }
    }
}

/// For people, who ask the list which build is shown.
fn note(state: &mut State, operator: usize) {
    let Some(Switch { to, .. }) = state.operators[operator].take() else { return };
    state.before = None;
    for (number, build) in state.database.builds.iter_mut().enumerate() {
        *build = match *build {
            Build::Shown if number != to => Build::Kept,
            Build::Ready | Build::Kept if number == to => Build::Shown,
            other => other,
        };
    }
}
