//! What there is: a database, and what each program knows of it.

use super::Rebuild;

/// The build that there was first, and the one that is filled.
pub(super) const FIRST: usize = 0;
pub(super) const SECOND: usize = 1;

/// Which builds are written.
pub(super) type List = [bool; 2];

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub(super) database: Database,
    /// As it was before the last commit, if that changed the list and may be lost.
    pub(super) before: Option<Box<Database>>,
    /// The last number that was given, also if the database has lost it.
    pub(super) numbers: u8,
    /// Whose session has the sequence row: of all who may, only those that take over keep it for more than a step.
    pub(super) held: Option<usize>,
    /// Who may have the lock of those that change tables, views and what is noted of them.
    pub(super) alone: Option<Alone>,
    pub(super) writers: Vec<Writer>,
    pub(super) builders: Vec<Builder>,
    /// What they are about, if anything.
    pub(super) operators: Vec<Option<Switch>>,
    pub(super) takes: u8,
    pub(super) switches: u8,
    pub(super) losses: u8,
    /// The number that was the list's again after the last failover.
    pub(super) back_to: Option<u8>,
}

/// What is committed.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) struct Database {
    /// The sequence row: where the log ends, and the list's number.
    pub log: u8,
    pub generation: u8,
    pub builds: [Build; 2],
    /// Each build's row.
    pub rows: [u8; 2],
    /// Position and token of the second build; none before it is begun, and when it is written or let go.
    pub checkpoint: Option<(u8, u8)>,
    /// The position after which the second build is written.
    pub taken_over: Option<u8>,
    /// The build that the plain name shows.
    pub view: usize,
}

/// Where a build is in its life.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Build {
    Absent,
    Building,
    Ready,
    Shown,
    Kept,
    Retired,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Alone {
    Builder(usize),
    Operator(usize),
}

/// A program that commits events.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Writer {
    /// It does not know the second build's code.
    pub is_old: bool,
    /// What there was when it read the first of two things.
    pub looked: Option<Known>,
    pub knows: Option<Known>,
    /// An event on its way, and what is written with it.
    pub packet: Option<Known>,
    /// A failover lost the number that it knew.
    pub was_ahead: bool,
}

/// A list with the number that is taken for its own.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    pub generation: u8,
    pub list: List,
}

/// Somebody who fills the second build, with what it takes for the checkpoint.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Builder {
    pub token: u8,
    pub position: u8,
    pub does: Does,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Does {
    Nothing,
    /// It has seen that there is no second build.
    Begins,
    Fills,
    /// It has read the log up to its end, and is to commit what that means.
    TakesOver {
        to: u8,
    },
}

/// A view that is to show another build, which was seen to be written.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Switch {
    pub to: usize,
    pub is: Stage,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Stage {
    Asked,
    Alone,
    /// The view shows it, and nobody has noted it.
    Done,
}

impl Build {
    pub fn is_written(self) -> bool {
        matches!(self, Self::Ready | Self::Shown | Self::Kept)
    }
}

impl Database {
    pub fn list(&self) -> List {
        self.builds.map(Build::is_written)
    }
}

impl State {
    pub(super) fn first(of: &Rebuild) -> Self {
        let writer = |is_old| Writer { is_old, looked: None, knows: None, packet: None, was_ahead: false };
        let writers = (0..of.writers).map(|_| writer(false)).chain(of.has_old.then(|| writer(true))).collect();
        let database = Database {
            log: 0,
            generation: 1,
            builds: [Build::Shown, Build::Absent],
            rows: [0, 0],
            checkpoint: None,
            taken_over: None,
            view: FIRST,
        };
        Self {
            database,
            before: None,
            numbers: 1,
            held: None,
            alone: None,
            writers,
            builders: vec![Builder::NOBODY; of.builders],
            operators: vec![None; of.operators],
            takes: 0,
            switches: 0,
            losses: 0,
            back_to: None,
        }
    }

    /// Which of two equal programs is which is no matter.
    pub(super) fn forget(&mut self) {
        self.writers.sort();
    }

    /// Nobody has the lock any more, if it was this one.
    pub(super) fn leaves(&mut self, who: Alone) {
        if self.alone == Some(who) {
            self.alone = None;
        }
    }

    /// The builder does nothing more, and the server takes back what its sessions had.
    pub(super) fn ends(&mut self, builder: usize) {
        self.builders[builder] = Builder::NOBODY;
        self.leaves(Alone::Builder(builder));
        if self.held == Some(builder) {
            self.held = None;
        }
    }
}

impl Builder {
    pub const NOBODY: Self = Self { token: 0, position: 0, does: Does::Nothing };
}
