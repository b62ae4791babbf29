//! How readers of the log keep a read model, as a model of its own: a checkpoint in the database that moves with the rows of a page.
//!
//! Nobody keeps anybody from reading: any reader may take the subscription from any other at any time, and one that has lost it goes on
//! until it is refused. A page that was sent may be executed late, also when its reader is gone. What it rests on:
//!
//! - a page's rows and its checkpoint are one transaction;
//! - its first statement compares position and token, before it assigns them, and a row that is not there refuses it too;
//! - the checkpoint goes to the end of what was read, and not to the end of the log.

use stateright::{Model, Property};

/// A log that grows, and those who read it.
#[derive(Clone, Debug)]
pub struct Readers {
    /// How many there are.
    pub readers: usize,
    /// How many events the log comes to.
    pub events: u8,
    /// How often the subscription is taken, at most.
    pub takes: u8,
    /// Whether somebody may delete the checkpoint.
    pub deletes: bool,
    pub mutant: Option<Mistake>,
}

/// What may be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Rows first, the checkpoint in a transaction of its own.
    Apart,
    /// The checkpoint goes to where the log ends.
    ToTheHead,
    /// A checkpoint that is gone refuses nothing.
    GoneUnnoticed,
    /// The position is compared after it has been assigned.
    GuardAfter,
    /// Nothing is compared.
    Unguarded,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    log: u8,
    /// Position and token; none when somebody has deleted it.
    checkpoint: Option<(u8, u8)>,
    /// The events that have been added to the read model.
    rows: Vec<u8>,
    readers: Vec<Reader>,
    /// Pages on their way.
    packets: Vec<Page>,
    takes: u8,
    /// How many rows there were when somebody deleted the checkpoint.
    deleted_at: Option<usize>,
}

/// What a reader knows: its token, 0 when it has none, how far it is, and whether it waits for an answer.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
struct Reader {
    token: u8,
    position: u8,
    waits: bool,
}

/// Events that a reader sent, behind one position and up to another.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Page {
    reader: usize,
    token: u8,
    from: u8,
    to: u8,
    /// Its rows are there, and its checkpoint is not: a mistake.
    is_half: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Append,
    Take(usize),
    /// Reads up to this position, and sends the page.
    Send(usize, u8),
    Execute(Page),
    /// It is executed, and nobody hears of it: the reader looks at the checkpoint.
    ExecuteUnheard(Page),
    Crash(usize),
    Delete,
}

impl Readers {
    fn is(&self, mistake: Mistake) -> bool {
        self.mutant == Some(mistake)
    }

    /// The database's part: whether the page is committed.
    fn commit(&self, state: &mut State, page: Page) -> bool {
        let admits = match state.checkpoint {
            _ if page.is_half || self.is(Mistake::Unguarded) => true,
            None => self.is(Mistake::GoneUnnoticed),
            Some((_, token)) if self.is(Mistake::GuardAfter) => token == page.token && page.to == page.from,
            Some(checkpoint) => checkpoint == (page.from, page.token),
        };
        if !admits {
            return false;
        }
        if !page.is_half {
            state.rows.extend(page.from + 1..=page.to);
        }
        if self.is(Mistake::Apart) && !page.is_half {
            state.packets.push(Page { is_half: true, ..page });
        } else if let Some((position, _)) = &mut state.checkpoint {
            *position = if self.is(Mistake::ToTheHead) { state.log } else { page.to };
        }
        true
    }

    /// What the reader makes of it.
    fn answered(state: &mut State, page: Page, is_committed: bool) {
        let reader = &mut state.readers[page.reader];
        if reader.token == page.token {
            let position = if is_committed { page.to } else { page.from };
            *reader = Reader { token: if is_committed { page.token } else { 0 }, position, waits: false };
        }
    }
}

impl Model for Readers {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            log: 0,
            checkpoint: Some((0, 0)),
            rows: Vec::new(),
            readers: vec![Reader::default(); self.readers],
            packets: Vec::new(),
            takes: 0,
            deleted_at: None,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.log < self.events {
            steps.push(Step::Append);
        }
        for (number, reader) in state.readers.iter().enumerate() {
            if reader.token == 0 && state.takes < self.takes && state.checkpoint.is_some() {
                steps.push(Step::Take(number));
            }
            if reader.token != 0 {
                steps.push(Step::Crash(number));
                if !reader.waits {
                    steps.extend((reader.position + 1..=state.log).map(|to| Step::Send(number, to)));
                }
            }
        }
        for page in &state.packets {
            steps.extend([Step::Execute(*page), Step::ExecuteUnheard(*page)]);
        }
        if self.deletes && state.checkpoint.is_some() {
            steps.push(Step::Delete);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Append => state.log += 1,
            Step::Take(number) => {
                state.takes += 1;
                let (position, token) = state.checkpoint.as_mut()?;
                *token = state.takes;
                state.readers[number] = Reader { token: state.takes, position: *position, waits: false };
            }
            Step::Send(reader, to) => {
                let Reader { token, position: from, .. } = state.readers[reader];
                state.readers[reader].waits = true;
                state.packets.push(Page { reader, token, from, to, is_half: false });
            }
            Step::Execute(page) => {
                state.packets.retain(|packet| *packet != page);
                let is_committed = self.commit(&mut state, page);
                Self::answered(&mut state, page, is_committed);
            }
            Step::ExecuteUnheard(page) => {
                state.packets.retain(|packet| *packet != page);
                self.commit(&mut state, page);
                let now = state.checkpoint.filter(|(_, token)| *token == page.token);
                let reader = &mut state.readers[page.reader];
                if reader.token == page.token {
                    let position = now.map_or(0, |(position, _)| position);
                    *reader = Reader { token: now.map_or(0, |(_, token)| token), position, waits: false };
                }
            }
            Step::Crash(number) => state.readers[number] = Reader::default(),
            Step::Delete => (state.checkpoint, state.deleted_at) = (None, Some(state.rows.len())),
        }
        state.packets.sort_by_key(|page| (page.token, page.from, page.to, page.is_half));
        Some(state)
    }

    /// What is right never comes here; mistakes would go on for ever.
    fn within_boundary(&self, state: &State) -> bool {
        state.rows.len() <= usize::from(self.events) + 1 && state.packets.len() <= usize::from(self.takes)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the rows are those of the log, each once and in order", |_, state: &State| {
                state.rows.iter().copied().eq(1..=state.rows.len() as u8)
            }),
            Property::always("the rows are those up to the checkpoint", |_, state: &State| {
                state.checkpoint.is_none_or(|(position, _)| usize::from(position) == state.rows.len())
            }),
            Property::always("nothing is added once somebody has deleted the checkpoint", |_, state: &State| {
                state.deleted_at.is_none_or(|rows| rows == state.rows.len())
            }),
            Property::sometimes("everything is read", |readers: &Readers, state: &State| {
                state.rows.len() == usize::from(readers.events)
            }),
            Property::sometimes("a page comes too late", |_, state: &State| {
                let is_late = |page: &Page| state.checkpoint.is_some_and(|(_, token)| token != page.token);
                state.packets.iter().any(is_late)
            }),
        ]
    }
}
