//! How a read model is filled anew while everybody writes, as a model of its own: two builds of it, and a view that shows one.
//!
//! Each event adds one to a build's only row, so a build is right when its row says how many events there are. What it rests on:
//!
//! - who commits events compares the number of the list that they go by, the generation, in the sequence row that they hold then;
//! - that number and the list are read of one moment; it is never given twice, and is believed also when it is smaller than the last;
//! - who takes over holds that row from the reading of the log's end to the commit, and its checkpoint says that nobody else has;
//! - who has the view show a build looks at its state when nobody else can retire it, and who retires one looks at the view;
//! - what somebody has to be alone for is refused when it is so no more.
//!
//! What is noted as shown comes after the view, by whoever is not killed before, and decides nothing. A failover may lose the last change of the list, and then
//! what the writers know is ahead of what the database has.

mod actors;
mod properties;
mod state;
mod steps;

use stateright::{Model, Property};

pub use state::State;
pub use steps::Step;

/// A read model, those who write it, and those who fill it anew.
#[derive(Clone, Debug)]
pub struct Rebuild {
    /// How many programs write that know both builds' code.
    pub writers: usize,
    /// Whether one writes that knows the first build's only.
    pub has_old: bool,
    /// How many events the log comes to.
    pub events: u8,
    /// How many fill the second build.
    pub builders: usize,
    /// How often its checkpoint is taken, at most.
    pub takes: u8,
    /// How many may have the view show another build.
    pub operators: usize,
    /// How often that is begun, at most.
    pub switches: u8,
    /// How often a failover loses the last change of the list, at most.
    pub losses: u8,
    pub mutant: Option<Mistake>,
}

/// What may be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// The generation is not compared.
    Uncompared,
    /// The log's end is read without the sequence row, and the build is taken over by what was read.
    WithoutTheRow,
    /// The list is read before its number.
    ListFirst,
    /// The number is read before the list, and not with it. Only a failover makes a mistake of it: a number that is old is the list's
    /// again.
    NumberFirst,
    /// Who takes over does not look whether its session is the one that held the row.
    SessionUnnoticed,
    /// The list changes and keeps its number.
    SameNumber,
    /// A program writes on what it knows of the list.
    WritesOn,
    /// The checkpoint is not compared.
    Unfenced,
    /// Who has the view show a build has seen its state before it was alone.
    SeenBefore,
    /// Who retires a build does not wait until it is alone.
    RetiredBeside,
    /// Who retires a build looks at what is noted, and not at the view.
    Noted,
    /// Who was alone goes on when it is not any more.
    LockUnnoticed,
    /// A number that a failover lost is given again.
    NumberReused,
    /// A smaller number than the last is not believed.
    OnlyForward,
}

impl Rebuild {
    fn is(&self, mistake: Mistake) -> bool {
        self.mutant == Some(mistake)
    }
}

impl Model for Rebuild {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self)]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.possible(state, steps);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        self.happens(&mut state, step);
        state.forget();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}
