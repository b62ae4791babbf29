//! Which builds a program writes: what the database lists, matched with the code that it has. Pure.

use std::sync::Arc;

use super::code::Source;
use super::inline::Projection;
use super::table::{Table, shape};
use crate::domain::Domain;
use crate::store::sql::Tables;
use crate::store::{Build, BuildState, Mode};

/// What a transaction writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The number that the database compares; none when nobody has asked it.
    pub generation: Option<u32>,
    /// The code, by its place in the list of projections, and the tables.
    pub targets: Vec<(usize, Tables)>,
    /// Read models of which there is no build: they have to be filled first.
    pub missing: Vec<&'static str>,
}

/// A build that has to be written and cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// A newer program wrote it, or an older one whose code is gone.
    #[error("the read model {0} has a build {1} of version {2}, which this program does not know")]
    Unknown(String, u16, u16),
    /// The same version has tables that look otherwise.
    #[error(
        "the tables of {0} are described otherwise than those of its build {1}: a change of them needs a new version"
    )]
    Shape(String, u16),
}

impl Written {
    /// Everything under its plain name: for a database that knows nothing of builds.
    pub fn plain<D: Domain>(projections: &[Arc<dyn Projection<D>>]) -> Self {
        let inline = projections.iter().enumerate().filter(|(_, one)| !one.is_later());
        let targets = inline.map(|(at, _)| (at, Tables::Plain)).collect();
        Self { targets, ..Self::default() }
    }

    /// What is to be written as the database lists it.
    pub fn of<D: Domain>(
        projections: &[Arc<dyn Projection<D>>],
        generation: u32,
        builds: &[Build],
    ) -> Result<Self, Unwritable> {
        let mut written = Self { generation: Some(generation), ..Self::default() };
        for (at, projection) in projections.iter().enumerate().filter(|(_, one)| !one.is_later()) {
            let name = projection.name();
            if projection.tables().is_empty() {
                written.targets.push((at, Tables::Plain));
            } else if !builds.iter().any(|build| build.name == name) && !written.missing.contains(&name) {
                written.missing.push(name);
            }
        }
        for build in builds.iter().filter(|build| build.mode == Mode::Inline && build.state.is_written()) {
            let found = projections
                .iter()
                .position(|one| one.name() == build.name && one.version() == build.version && !one.is_later());
            let at = found.ok_or_else(|| Unwritable::Unknown(build.name.clone(), build.build, build.version))?;
            is_of_shape(build, projections[at].tables())?;
            written.targets.push((at, Tables::Build(build.build)));
        }
        Ok(written)
    }
}

/// The builds that are read from the log by code that this program has, each with that code's place in the list.
pub fn read_from_log<D: Domain>(sources: &[Source<D>], builds: &[Build]) -> Result<Vec<(usize, u16)>, Unwritable> {
    let read = builds.iter().filter(|build| build.mode != Mode::Inline && build.state.is_written());
    let each = read.filter_map(|build| {
        let is_it = |source: &Source<D>| {
            let code = source.code();
            (code.name(), code.version(), code.mode()) == (&*build.name, build.version, build.mode)
        };
        Some((sources.iter().position(is_it)?, build))
    });
    each.map(|(at, build)| is_of_shape(build, sources[at].code().tables()).map(|()| (at, build.build))).collect()
}

fn is_of_shape(build: &Build, tables: &[Table]) -> Result<(), Unwritable> {
    let is_same = build.shape == shape(tables);
    is_same.then_some(()).ok_or_else(|| Unwritable::Shape(build.name.clone(), build.build))
}

/// The number of the next build of this name.
pub fn next_build(name: &str, builds: &[Build]) -> u16 {
    builds.iter().filter(|build| build.name == name).map(|build| build.build).max().unwrap_or(0) + 1
}

/// The build that the plain name shows.
pub fn shown<'b>(name: &str, builds: &'b [Build]) -> Option<&'b Build> {
    builds.iter().find(|build| build.name == name && build.state == BuildState::Shown)
}
