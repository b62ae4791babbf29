//! A build compared with the events, beside those who write both, and mended where it is wrong.

use foldhash::HashMap;

use super::problem::{Problem, label};
use crate::domain::{AggregateId, Domain, Undecodable, upcast};
use crate::page;
use crate::projection::Code;
use crate::projection::{Change, Projection};
use crate::store::sql::{Sql, Tables};
use crate::store::{
    AppendCondition, Build, Compared, Difference, Mode, ParkedAggregates, Store, StoreError, StoredEvent, Transaction,
};

/// Aggregates that are compared at once.
const RANGE: u32 = 1000;

/// Events of the log that are added up at once for a build which is read from it.
const PAGE: u32 = 5000;

/// How far a comparison is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Aggregates that were compared, or events that were added up.
    pub compared: u64,
    /// Rows that are not as they should be.
    pub differences: Vec<Difference>,
    /// How many of them were mended.
    pub repaired: u64,
}

/// A comparison.
pub struct Verify<'a, D: Domain> {
    /// What is compared.
    pub store: &'a Store,
    /// The code that says what should be there.
    pub code: Code<'a, D>,
    /// The build.
    pub build: &'a Build,
    /// The server's limit on a packet.
    pub max_packet: u64,
    /// Whether it is mended.
    pub repairs: bool,
}

/// Aggregates of a range as the log has them.
type States<D> = HashMap<AggregateId, (u64, <D as Domain>::State, Vec<<D as Domain>::Event>)>;

impl<D: Domain> Verify<'_, D> {
    /// Compares everything and tells how far it is.
    pub async fn run(&self, told: impl FnMut(&Checked)) -> Result<Checked, Problem> {
        if !self.build.state.is_written() {
            let text = format!("{} is {}: nobody writes it", label(self.build), self.build.state.as_str());
            return Err(Problem::refused(text));
        }
        let create: Vec<_> = self
            .code
            .tables()
            .iter()
            .map(|table| table.create("TEMPORARY TABLE", &Tables::Check.name(table.name), false))
            .collect();
        let session = self.store.patient().comparing(&create).await?;
        let checked = match self.code {
            Code::States(projection) => self.aggregates(&session, projection, told).await,
            Code::Log(_) => self.log(&session, told).await,
        };
        session.close().await;
        checked
    }

    async fn aggregates(
        &self,
        session: &Store,
        projection: &dyn Projection<D>,
        mut told: impl FnMut(&Checked),
    ) -> Result<Checked, Problem> {
        let mut checked = Checked::default();
        // Keys are ids of whatever type, so each type's range would take the rows of the others for surplus.
        let [kind] = projection.aggregates() else {
            let text =
                format!("{} is about several types of aggregates, whose rows cannot be told apart", projection.name());
            return Err(Problem::refused(text));
        };
        let mut after: Option<String> = None;
        loop {
            session.begin_moment().await?;
            let (upto, parked) = (self.upto(session).await?, self.parked(session).await?);
            let ids = session.aggregates_after((kind, upto), after.as_deref(), RANGE).await?;
            let is_last = ids.len() < RANGE as usize;
            let states = match ids.last() {
                Some(last) => self.states(session, (kind, upto), (after.as_deref(), last), &parked).await?,
                None => HashMap::default(),
            };
            let rows = self.rows(projection, &states)?;
            if !rows.is_empty() {
                page::fits(&rows, self.max_packet)?;
                session.rows(rows.as_str(), false).await?;
            }
            let last = if is_last { None } else { ids.last().map(String::as_str) };
            let mut found = self.compare(session, (after.as_deref(), last)).await?;
            // Their rows stay as they were until they are retried, which is told elsewhere.
            found.retain(|one| !id_of(one).is_some_and(|id| parked.contains(&((*kind).to_owned(), id.to_owned()))));
            session.end_moment().await?;
            if self.repairs {
                checked.repaired += self.repair(projection, kind, &found).await?;
            }
            checked.compared += ids.len() as u64;
            checked.differences.extend(found);
            told(&checked);
            if is_last {
                return Ok(checked);
            }
            after = ids.last().cloned();
        }
    }

    /// The position up to which the build is to have all events.
    async fn upto(&self, session: &Store) -> Result<u64, StoreError> {
        if self.build.mode == Mode::Inline {
            return Ok(u64::MAX);
        }
        let name = self.build.subscription();
        let checkpoint = session.checkpoints().await?.into_iter().find(|checkpoint| checkpoint.name == name);
        Ok(checkpoint.map_or(0, |checkpoint| checkpoint.position))
    }

    /// The aggregates of which events are parked.
    async fn parked(&self, session: &Store) -> Result<ParkedAggregates, StoreError> {
        if self.build.mode == Mode::Inline {
            return Ok(ParkedAggregates::new());
        }
        Ok(session.parked_aggregates(&self.build.subscription()).await?.0)
    }

    /// The aggregates of a range, each with all of its events.
    async fn states(
        &self,
        session: &Store,
        of: (&'static str, u64),
        range: (Option<&str>, &str),
        parked: &ParkedAggregates,
    ) -> Result<States<D>, Problem> {
        let (mut states, mut undecodable): (States<D>, _) = (HashMap::default(), None);
        let take = |past: StoredEvent| {
            if parked.contains(&(past.aggregate.kind.to_owned(), past.aggregate.id.to_string())) {
                return;
            }
            if let Err(error) = add::<D>(&mut states, past) {
                undecodable.get_or_insert(error);
            }
        };
        session.events_in_range(of, range, take).await?;
        undecodable.map_or(Ok(states), |error| Err(StoreError::Undecodable(error).into()))
    }

    fn rows(&self, projection: &dyn Projection<D>, states: &States<D>) -> Result<Sql, Problem> {
        let mut rows = Sql::new();
        rows.of(Tables::Check);
        write(projection, states, &mut rows);
        Ok(rows)
    }

    async fn compare(
        &self,
        session: &Store,
        range: (Option<&str>, Option<&str>),
    ) -> Result<Vec<Difference>, StoreError> {
        let mut found = Vec::new();
        for table in self.code.tables() {
            let columns: Vec<_> = table.all().map(|column| column.name).collect();
            let build = Tables::Build(self.build.build);
            let compared = Compared { table: table.name, columns: &columns, keys: table.key.len(), build, range };
            found.extend(session.compare(&compared).await?);
        }
        Ok(found)
    }

    /// Writes the rows of these aggregates anew, each only if nobody has written it meanwhile. Returns how many differences are gone.
    async fn repair(
        &self,
        projection: &dyn Projection<D>,
        kind: &'static str,
        found: &[Difference],
    ) -> Result<u64, Problem> {
        let mut ids: Vec<&str> = found.iter().filter_map(id_of).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut repaired = 0;
        for id in ids {
            self.repair_one(projection, &AggregateId::new(kind, id)).await?;
            repaired += found.iter().filter(|one| id_of(one) == Some(id)).count() as u64;
        }
        Ok(repaired)
    }

    async fn repair_one(&self, projection: &dyn Projection<D>, aggregate: &AggregateId) -> Result<(), Problem> {
        for _ in 0..TRIES {
            let (mut states, mut undecodable): (States<D>, _) = (HashMap::default(), None);
            let take = |past: StoredEvent| {
                if let Err(error) = add::<D>(&mut states, past) {
                    undecodable.get_or_insert(error);
                }
            };
            let whole = [(aggregate.clone(), 1..=u64::MAX)];
            self.store.events_of(&whole, std::future::ready(Ok::<_, StoreError>(())), take).await?;
            if let Some(error) = undecodable {
                return Err(StoreError::Undecodable(error).into());
            }
            let version = states.get(aggregate).map_or(0, |(version, ..)| *version);
            let mut transaction =
                Transaction { read_only: vec![(aggregate.clone(), version)], ..Transaction::default() };
            let rows = &mut transaction.projections;
            rows.of(Tables::Build(self.build.build));
            self.code.clear(aggregate, rows);
            write(projection, &states, rows);
            let packet = transaction.packet(self.max_packet)?;
            let connection = self.store.connection().await?;
            match connection.commit(&packet, &AppendCondition::default(), None, |_| {}).await {
                Ok(_) => return Ok(()),
                // Somebody has written it meanwhile.
                Err(StoreError::Conflict(_) | StoreError::Repeat(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::refused(format!("{aggregate} is written again and again: it could not be mended")))
    }

    /// Adds up the log as far as the build is, and compares all of it.
    async fn log(&self, session: &Store, mut told: impl FnMut(&Checked)) -> Result<Checked, Problem> {
        let Code::Log(projection) = self.code else { return Ok(Checked::default()) };
        if self.repairs {
            let text = format!("{} adds up the log as a whole: build it anew instead", label(self.build));
            return Err(Problem::refused(text));
        }
        let mut checked = Checked::default();
        session.begin_moment().await?;
        let upto = self.upto(session).await?;
        let mut at = 0;
        while at < upto {
            let limit = PAGE.min(u32::try_from(upto - at).unwrap_or(PAGE));
            let Some(page) = page::read(session, self.code.only(), at, limit).await? else { break };
            let mut rows = Sql::new();
            rows.of(Tables::Check);
            page::log_rows(projection, &page, &mut rows)?;
            if !rows.is_empty() {
                page::fits(&rows, self.max_packet)?;
                session.rows(rows.as_str(), false).await?;
            }
            at = page.last.0;
            checked.compared = at;
            told(&checked);
        }
        checked.differences = self.compare(session, (None, None)).await?;
        session.end_moment().await?;
        Ok(checked)
    }
}

/// Adds an event to its aggregate.
fn add<D: Domain>(states: &mut States<D>, past: StoredEvent) -> Result<(), Undecodable> {
    let (version, state, events) = states.entry(past.aggregate).or_default();
    *version = past.version;
    let event = upcast::decode::<D>(&past.event_type, past.schema_version, &past.payload)?;
    D::evolve(state, &event);
    events.push(event);
    Ok(())
}

/// The aggregate that a difference is about.
fn id_of(difference: &Difference) -> Option<&str> {
    difference.is.as_ref().or(difference.should.as_ref())?.first()?.as_deref()
}

/// How often an aggregate is tried that somebody keeps writing.
const TRIES: u32 = 20;

/// Has the projection write these aggregates with all of their events.
fn write<D: Domain>(projection: &dyn Projection<D>, states: &States<D>, rows: &mut Sql) {
    let mut all: Vec<_> = states.iter().collect();
    all.sort_by(|(one, _), (other, _)| AggregateId::cmp(one, other));
    let changes: Vec<Change<'_, D>> = all
        .into_iter()
        .map(|(aggregate, (version, state, events))| Change { aggregate, version: *version, state, events })
        .collect();
    projection.write(&changes, rows);
}
