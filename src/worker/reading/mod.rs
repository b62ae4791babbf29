//! Reading the streams that this process owns, each as a log from its head on.
//!
//! What is started is decided by the entries in hand, so there must never be a younger one among them while an older one is
//! missing. Two rules see to that. Whenever something may be missing (a stream was taken, a connection was replaced, a survey found
//! more than is in hand), all that the group has delivered is gone through from the head, before anything new is read. And after each
//! read, before anything of it is planned, a look shows whether somebody else was delivered something: a daemon that was frozen
//! while it read and wakes, say. That may be older or younger than what this read brought, and both are taken in hand at once.

mod appetite;
mod ebb;
mod first;
mod head;
mod held;
mod log;

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::intake::{Failures, Intake, Supply};
use super::intake_status::State;
use crate::fleet::Take;
use crate::job::{Entry, Server, Spell};
use crate::lifecycle::Phase;
use crate::stream::{BrokerError, LARGE_ANSWER, Reader};
use appetite::Appetite;
use ebb::ebb;
use log::{Log, Owned};

/// Time between two surveys of the streams.
const SURVEY_INTERVAL: Duration = Duration::from_secs(1);

/// The streams, and what reads them.
pub(super) struct Reading {
    pub(super) intake: Intake,
    pub(super) logs: Vec<Log>,
    reader: Option<Reader>,
    /// Whether a read has been begun and not come to its end: what it brought is in nobody's hand.
    is_torn: bool,
    /// The server of the last reader.
    server: Option<Server>,
    /// Entries in hand that may not be begun before the first streams are empty.
    withheld: Vec<Entry>,
    spells: u64,
    surveyed: Instant,
    /// What waits until nothing of a stream that was given up is in flight.
    settling: JoinSet<()>,
    failures: Failures,
    appetite: Appetite,
    /// How many streams brought entries by the last read, or all when none did.
    full: usize,
}

impl Intake {
    /// Runs both loops until the daemon drains, and nothing is in flight any more.
    pub async fn run(self) {
        let prefetch = self.prefetch.clone();
        let loops = async { tokio::join!(Reading::new(self.clone()).run(), self.promote()).0 };
        let settling = tokio::select! {
            settling = loops => settling,
            () = ebb(&prefetch) => return,
        };
        settling.join_all().await;
    }
}

impl Reading {
    pub fn new(intake: Intake) -> Self {
        let names = intake.broker.settings().names.iter().cloned().enumerate();
        let log = |(number, name)| Log::new(number, name);
        Self {
            logs: names.map(log).collect(),
            intake,
            reader: None,
            is_torn: false,
            server: None,
            withheld: Vec::new(),
            spells: 0,
            surveyed: Instant::now(),
            settling: JoinSet::new(),
            failures: Failures::default(),
            appetite: Appetite::default(),
            full: usize::MAX,
        }
    }

    /// Reads until the daemon drains; then nothing is owned any more, and what was not started is dropped.
    pub async fn run(mut self) -> JoinSet<()> {
        while self.intake.lifecycle.is_running() {
            let held = self.intake.seats.held();
            self.follow(&held);
            if held.iter().all(Option::is_none) {
                self.reader = None;
                let quiet = self.intake.lifecycle.is_quiet();
                let is_paused = self.intake.seats.is_paused();
                self.intake.reading.set(match () {
                    () if quiet => State::Quiet,
                    () if is_paused => State::Paused,
                    () => State::StandsBy,
                });
                if !quiet {
                    self.intake.metrics.stands_by();
                }
                self.until_changed(&held, std::future::pending()).await;
                continue;
            }
            if self.intake.reading.is_store_away() {
                self.intake.reading.set(State::StoreAway);
                let Intake { reading, lifecycle, .. } = &self.intake;
                self.until_changed(&held, reading.with_store(lifecycle)).await;
                continue;
            }
            // A read that is interrupted may have brought something, which the next reader finds.
            let (seats, lifecycle) = (self.intake.seats.clone(), self.intake.lifecycle.clone());
            let done = tokio::select! {
                done = self.step() => done,
                () = seats.changed(&held) => { self.reader = None; continue }
                () = lifecycle.reached(Phase::Draining) => break,
            };
            if let Err(error) = done {
                self.fail(&error).await;
            }
        }
        self.follow(&vec![None; self.logs.len()]);
        self.settling
    }

    /// Waits for the event, or until something else is owned than `held`, or the daemon drains.
    async fn until_changed(&self, held: &[Option<Take>], event: impl Future<Output = ()>) {
        tokio::select! {
            () = event => {}
            () = self.intake.seats.changed(held) => {}
            () = self.intake.lifecycle.reached(Phase::Draining) => {}
        }
    }

    /// Begins and ends the readings of streams that were taken or are not held any more.
    fn follow(&mut self, held: &[Option<Take>]) {
        let mut is_over = false;
        while self.settling.try_join_next().is_some() {}
        for (log, held) in self.logs.iter_mut().zip(held) {
            if let Some(Owned { spell, mut former, .. }) = log.owned.take_if(|owned| *held != Some(owned.take)) {
                former.push(spell);
                former.iter().for_each(Spell::end);
                is_over = true;
                let (number, seats, prefetch) = (log.number, self.intake.seats.clone(), self.intake.prefetch.clone());
                self.settling.spawn(async move {
                    for spell in &former {
                        prefetch.emptied_of(spell).await;
                    }
                    seats.settled(number, former.iter().all(Spell::is_told));
                });
            }
            if let (None, Some(take)) = (&log.owned, held)
                && self.intake.seats.begin(log.number, *take)
            {
                self.spells += 1;
                let (spell, is_untouched) = (Spell::of(self.spells, self.server.as_ref()), take.is_clean);
                let owned = Owned { take: *take, spell, former: Vec::new(), is_untouched };
                (log.owned, log.is_whole) = (Some(owned), false);
            }
        }
        if is_over {
            self.drop_withheld();
            // The receiver outlives this loop: it ends when every sender has gone.
            let _ = self.intake.entries.send(Supply::Over);
        }
    }

    /// One read, and before it whatever makes the streams whole.
    async fn step(&mut self) -> Result<(), BrokerError> {
        let mut reader = self.open().await?;
        // Before anything is read from the head, so that what it finds missing is there when the next read is begun.
        if self.surveyed.elapsed() >= SURVEY_INTERVAL {
            self.surveyed = Instant::now();
            self.survey().await?;
        }
        let mut refusal = None;
        let go_on = self.others_go_on().await?;
        for number in 0..self.logs.len() {
            let log = &self.logs[number];
            if log.owned.is_some() && !log.is_whole && (go_on || !self.has_to_wait(&log.name)) {
                match self.read_from_head(number).await {
                    // It stops none of the others.
                    Err(error) if error.is_about_keys() || error.is_group_gone() => refusal = Some(error),
                    read => read?,
                }
            }
        }
        let whole = self.logs.iter().filter(|log| log.owned.is_some() && log.is_whole);
        let whole = whole.filter(|log| self.withheld.is_empty() && go_on || !self.has_to_wait(&log.name));
        let names: Vec<String> = whole.map(|log| log.name.clone()).collect();
        if names.is_empty() {
            self.reader = Some(reader);
            if let Some(error) = refusal {
                return Err(error);
            }
            self.wait_for_the_first().await;
            return Ok(());
        }
        let streams = u32::try_from(names.len()).unwrap_or(u32::MAX).min(self.intake.prefetch.size());
        let mut room = self.intake.room(streams).await;
        // COUNT is meant for each stream, and most of many may be idle.
        let full = self.full.clamp(1, streams.max(1) as usize);
        let count = (self.appetite.count(self.bounded(room.entries())) / full).max(1);
        self.is_torn = true;
        let read = reader.read(&names, count).await.inspect_err(|_| self.appetite.choked())?;
        self.intake.reading.set(State::Reads);
        self.intake.metrics.polled(super::intake::unix_seconds());
        self.appetite.fed(read.entries.iter().map(Entry::bytes));
        let brought = read.entries.chunk_by(|one, next| one.stream == next.stream).count();
        self.full = if brought == 0 { names.len() } else { brought };
        let refusal = reader.refusal().or(refusal);
        // A connection keeps room for the largest answer that it ever had.
        let is_swollen = read.entries.iter().map(Entry::bytes).sum::<usize>() > LARGE_ANSWER;
        let mut entries = self.brought_away(&read).await?;
        entries.extend(self.with_spells(read.entries));
        // None of them may be begun before all are there: two that read at one time have each what is older than the other's.
        entries.sort_by(|one, other| (&one.stream, one.id).cmp(&(&other.stream, other.id)));
        self.hear_of_held();
        for number in 0..self.logs.len() {
            if self.logs[number].is_whole {
                self.look_at_held(number).await?;
            }
        }
        self.accept(entries, &mut room);
        drop(room);
        self.is_torn = false;
        self.reader = (!is_swollen).then_some(reader);
        self.release_withheld().await?;
        for number in 0..self.logs.len() {
            self.take_letters(number).await?;
        }
        match refusal {
            // Mended at once if it can be; else the streams that can be read wait for nothing.
            Some(error) if error.is_group_gone() => return Err(error),
            Some(error) => self.intake.tell(&error),
            None => self.failures = Failures::default(),
        }
        Ok(())
    }

    /// The reader, or another one: then something may have been lost with the one before.
    async fn open(&mut self) -> Result<Reader, BrokerError> {
        if let Some(reader) = self.reader.take().filter(Reader::is_current) {
            return Ok(reader);
        }
        let reader = self.intake.broker.reader().await?;
        let server = reader.server();
        let is_another = self.server.as_ref().is_some_and(|last| !last.is(&server));
        self.server = Some(server.clone());
        for number in 0..self.logs.len() {
            self.logs[number].is_whole &= !self.is_torn;
            if is_another {
                self.begin_anew(number);
            }
            if let Some(owned) = &self.logs[number].owned {
                owned.spell.read_from(server.clone());
            }
        }
        self.is_torn = false;
        Ok(reader)
    }

    /// The stream is another one by now, or may be: what is in hand runs, and is told to nobody.
    fn begin_anew(&mut self, number: usize) {
        let log = &mut self.logs[number];
        if let Some(owned) = &mut log.owned {
            owned.spell.lose_stream();
            owned.is_untouched = false;
            self.spells += 1;
            owned.former.push(std::mem::replace(&mut owned.spell, Spell::of(self.spells, self.server.as_ref())));
            log.is_whole = false;
        }
    }

    /// Gives each entry that was read its spell.
    fn with_spells(&self, mut read: Vec<Entry>) -> Vec<Entry> {
        for entry in &mut read {
            let log = self.logs.iter().find(|log| *log.name == *entry.stream);
            if let Some(owned) = log.and_then(|log| log.owned.as_ref()) {
                entry.spell = owned.spell.clone();
            }
        }
        read
    }

    /// Waits after a failure, longer after each, and mends what can be mended from here.
    async fn fail(&mut self, error: &BrokerError) {
        self.intake.reading.failed(error);
        if error.is_group_gone() {
            let made = self.intake.make_groups().await;
            // Of a stream that is there as it was, what is in hand comes again and is recognised.
            for number in
                (0..self.logs.len()).filter(|number| made.contains(&self.logs[*number].name)).collect::<Vec<_>>()
            {
                self.begin_anew(number);
            }
            if !made.is_empty() {
                return;
            }
        }
        self.intake.tell(error);
        self.intake.sleep(self.failures.next_delay()).await;
    }
}
