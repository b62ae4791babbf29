//! The read models that a program has.

use super::problem::Problem;
use crate::domain::Domain;
use crate::projection::{Code, LogProjection, Projection, Table};
use crate::store::Build;

/// The longest name of a read model: builds add their numbers to it, in names of up to 64 characters.
const LONGEST: usize = 50;

/// All read models of a program.
pub struct Models<'a, D: Domain> {
    /// Those of aggregates.
    pub states: &'a [Box<dyn Projection<D>>],
    /// Those of what happened when.
    pub log: &'a [Box<dyn LogProjection<D>>],
}

impl<D: Domain> Clone for Models<'_, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<D: Domain> Copy for Models<'_, D> {}

impl<'a, D: Domain> Models<'a, D> {
    /// Every code whose tables are described.
    pub fn all(self) -> impl Iterator<Item = Code<'a, D>> {
        let states = self.states.iter().map(|one| Code::States(&**one));
        states.chain(self.log.iter().map(|one| Code::Log(&**one))).filter(|code| !code.tables().is_empty())
    }

    /// Fails when two of them are taken for each other.
    pub fn check(self) -> Result<(), Problem> {
        let all: Vec<_> = self.all().collect();
        for (at, one) in all.iter().enumerate() {
            let name = one.name();
            if name.is_empty()
                || name.len() > LONGEST
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                let text = format!("the read model `{name}` needs a name of 1 to {LONGEST} letters, digits and _");
                return Err(Problem::refused(text));
            }
            for other in &all[..at] {
                if (other.name(), other.version()) == (name, one.version()) {
                    return Err(Problem::refused(format!(
                        "the read model {name} is listed twice with version {}",
                        one.version()
                    )));
                }
                if other.name() == name && other.mode() != one.mode() {
                    return Err(Problem::refused(format!(
                        "the read model {name} is written with the events and read from the log"
                    )));
                }
                let is_shared = |table: &&Table| other.tables().iter().any(|known| known.name == table.name);
                if let Some(table) = one.tables().iter().find(is_shared).filter(|_| other.name() != name) {
                    let text = format!("the read models {name} and {} have one table, {}", other.name(), table.name);
                    return Err(Problem::refused(text));
                }
            }
        }
        Ok(())
    }

    /// The newest code of each read model.
    pub fn newest(self) -> Vec<Code<'a, D>> {
        let is_newest = |code: &Code<'a, D>| {
            !self.all().any(|other| other.name() == code.name() && other.version() > code.version())
        };
        self.all().filter(is_newest).collect()
    }

    /// The code that a build was made by.
    pub fn of(self, build: &Build) -> Option<Code<'a, D>> {
        self.all()
            .find(|code| code.name() == build.name && code.version() == build.version && code.mode() == build.mode)
    }
}
