//! What the commands have in common: how they fail, and how a build is shown.

use crate::cli::failed::Failed;
use crate::cli::output::notice;
use crate::domain::Domain;
use crate::exit::Exit;
use crate::page::Failure;
use crate::rebuild::{Code, Problem, switch};
use crate::store::{Build, Store};

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Store(error) | Problem::Page(Failure::Store(error)) => error.into(),
            problem => Self::new(Exit::NO, problem),
        }
    }
}

/// Has the plain name show the build, and says who is in the way.
pub(super) async fn show<D: Domain>(store: &Store, code: Code<'_, D>, build: &Build) -> Result<Option<u16>, Failed> {
    let told = |readers| notice(format_args!("waiting for those who read {}: {readers}", build.name));
    Ok(switch(store, code, build, told).await?)
}
