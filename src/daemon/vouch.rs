//! A daemon's word that it can write a build which is being filled: without it nobody has everybody write the build.

use crate::batch::Engine;
use crate::domain::Domain;
use crate::projection::{Source, Table, shape};
use crate::store::sql::Tables;
use crate::store::{Build, BuildState, Mode, Outage, StoreError};

/// Shows which builds are written, and gives its word for those that are being filled, if it may write their tables: false when it may not
/// write one.
pub(super) async fn vouch<D: Domain>(engine: &Engine<D>, sources: &[Source<D>]) -> Result<bool, StoreError> {
    let builds = engine.written.builds();
    let missing = engine.written.get().missing.clone();
    for projection in engine.projections.iter().filter(|projection| !projection.tables().is_empty()) {
        engine.metrics.projection_missing(projection.name(), missing.contains(&projection.name()));
    }
    let (mut known, mut is_allowed) = (Vec::new(), true);
    // What was dropped has been shown as retired.
    for build in builds.iter().filter(|build| build.state != BuildState::Dropped) {
        engine.metrics.projection_written(&format!("{}@{}", build.name, build.build), build.state.is_written());
        if build.state != BuildState::Building {
            continue;
        }
        let Some(tables) = tables(engine, sources, build).filter(|tables| shape(tables) == build.shape) else {
            continue;
        };
        if may_write(engine, build, tables).await? {
            known.push((&*build.name, build.build));
        } else {
            is_allowed = false;
        }
    }
    if !known.is_empty() {
        engine.store.vouch(&known).await?;
    }
    Ok(is_allowed)
}

/// The tables of the code that would write the build.
fn tables<D: Domain>(engine: &Engine<D>, sources: &[Source<D>], build: &Build) -> Option<&'static [Table]> {
    let is_it = |name, version| name == build.name && version == build.version;
    match build.mode {
        Mode::Inline => engine.projections.iter().find(|one| is_it(one.name(), one.version())).map(|one| one.tables()),
        Mode::Log | Mode::Later => {
            sources.iter().map(Source::code).find(|one| is_it(one.name(), one.version())).map(|one| one.tables())
        }
    }
}

async fn may_write<D: Domain>(engine: &Engine<D>, build: &Build, tables: &[Table]) -> Result<bool, StoreError> {
    for table in tables {
        let Some(column) = table.all().next() else { return Ok(false) };
        let name = Tables::Build(build.build).name(table.name);
        match engine.store.may_fill(&name, column.name).await {
            Ok(()) => {}
            Err(error @ (StoreError::Unavailable(Outage::Denied | Outage::Other, _) | StoreError::Data(_))) => {
                if engine.incidents.is_news("builds") {
                    tracing::warn!(table = name, %error, "this daemon may not write a build that is being filled");
                }
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
