//! Every step and every fault.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::daemon::{Daemon, Flight, Stage};
use crate::domain::Job;
use crate::properties::properties;
use crate::servers::{Broker, Checks, Database, Packet, has};

/// A fleet, how much it has to do, and how much may go wrong.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub daemons: usize,
    /// In stream order.
    pub jobs: &'static [Job],
    /// Daemons that are killed and start anew.
    pub crashes: u8,
    /// Daemons that doubt whether they have all, for no reason or since the answer to a read was lost; or whether the stream is theirs.
    pub doubts: u8,
    /// Packets that are lost, or whose answer is.
    pub losses: u8,
    /// Failovers of the broker that lose the last acknowledgement.
    pub failovers: u8,
    pub mutant: Option<Mutant>,
}

/// A protocol with a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// M1: daemons read what comes next without having read from the head, and without a look.
    Competing,
    /// M2: after a failover of the broker a daemon goes on as if it were the same, and does not look at the stream's head.
    CursorKept,
    /// M4: an entry is deleted when its packet is sent.
    DeletedEarly,
    /// M5: a batch that goes by another does not say so to the database.
    NotExpected,
    /// M6: what a decision only read is not checked.
    HeadsUnchecked,
    /// M5 and M6 together.
    Unguarded,
    /// M7: receipts have no key.
    NoReceiptKey,
    /// M8: what comes late, by a look or from the head, comes behind what waits.
    ReadBehind,
    /// M9: no look after a read.
    NoLook,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct State {
    pub broker: Broker,
    /// The broker as a replica has it, which has not heard of the last acknowledgement.
    pub replica: Broker,
    pub database: Database,
    pub packets: BTreeSet<Packet>,
    pub daemons: Vec<Daemon>,
    pub left: Faults,
    /// Of two jobs that share an aggregate, the younger one was committed first.
    pub is_overtaken: bool,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub struct Faults {
    pub crashes: u8,
    pub doubts: u8,
    pub losses: u8,
    pub failovers: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    FromHead(usize),
    Read(usize),
    Look(usize),
    Sweep(usize),
    Decide(usize, usize),
    Send(usize, usize),
    Execute(Packet),
    /// It is executed, and nobody hears of it.
    ExecuteUnheard(Packet),
    Lose(Packet),
    Acknowledge(usize, usize),
    PutBack(usize, usize),
    /// It has a new connection.
    Doubt(usize),
    /// The answer to a read is lost.
    LoseRead(usize),
    /// Somebody else has taken the stream.
    Forsake(usize),
    Crash(usize),
    Failover,
}

impl Fleet {
    pub fn count(&self) -> u8 {
        self.jobs.len() as u8
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn checks(&self) -> Checks {
        Checks {
            receipts: !self.is(Mutant::NoReceiptKey),
            heads: !self.is(Mutant::HeadsUnchecked) && !self.is(Mutant::Unguarded),
            expected: !self.is(Mutant::NotExpected) && !self.is(Mutant::Unguarded),
        }
    }

    fn steps_of(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let daemon = &state.daemons[number];
        if !daemon.is_based && (!daemon.is_forsaken || daemon.flights.is_empty()) {
            steps.push(Step::FromHead(number));
        }
        if daemon.is_based && daemon.has_looked && state.broker.next(self.count()).is_some() {
            steps.push(Step::Read(number));
        }
        if daemon.is_based && !daemon.has_looked {
            steps.push(Step::Look(number));
        }
        let head = (0..state.broker.delivered).find(|job| has(state.broker.stream, *job));
        if daemon.is_based
            && daemon.has_looked
            && !self.is(Mutant::CursorKept)
            && head.is_some_and(|job| !daemon.knows(job))
        {
            steps.push(Step::Sweep(number));
        }
        if daemon.has_looked && daemon.flights.len() < 2 {
            steps.extend(daemon.startable(self.jobs).into_iter().map(|place| Step::Decide(number, place)));
        }
        for (place, flight) in daemon.flights.iter().enumerate() {
            match flight.stage {
                Stage::Decided => steps.push(Step::Send(number, place)),
                Stage::Sent => {}
                Stage::Ended => steps.push(Step::Acknowledge(number, place)),
                Stage::Failed => steps.push(Step::PutBack(number, place)),
            }
        }
        if state.left.doubts > 0 && daemon.is_based {
            steps.push(Step::Forsake(number));
            // What was read is not in hand before the look, so a connection that breaks between the two loses the read.
            if daemon.has_looked {
                steps.push(Step::Doubt(number));
                steps.extend(state.broker.next(self.count()).map(|_| Step::LoseRead(number)));
            }
        }
        if state.left.crashes > 0 {
            steps.push(Step::Crash(number));
        }
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut daemon = Daemon::new(0);
        daemon.is_based = self.is(Mutant::Competing);
        let Fleet { crashes, doubts, losses, failovers, .. } = *self;
        let broker = Broker { stream: (1 << self.count()) - 1, ..Broker::default() };
        vec![State {
            // All of it is there: who reads slowly meets whatever a slow producer would make.
            broker: broker.clone(),
            replica: broker,
            database: Database::default(),
            packets: BTreeSet::new(),
            daemons: vec![daemon; self.daemons],
            left: Faults { crashes, doubts, losses, failovers },
            is_overtaken: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        (0..self.daemons).for_each(|number| self.steps_of(state, number, steps));
        for packet in &state.packets {
            steps.push(Step::Execute(packet.clone()));
            if state.left.losses > 0 {
                steps.extend([Step::Lose(packet.clone()), Step::ExecuteUnheard(packet.clone())]);
            }
        }
        if state.left.failovers > 0 && state.broker != state.replica {
            steps.push(Step::Failover);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::FromHead(number) => self.read_from_head(&mut state, number),
            Step::Read(number) => {
                let job = state.broker.next(self.count())?;
                state.broker.delivered = job + 1;
                state.broker.give(job, number);
                let daemon = &mut state.daemons[number];
                if !daemon.knows(job) {
                    daemon.take(job);
                }
                daemon.has_looked = self.is(Mutant::NoLook) || self.is(Mutant::Competing);
            }
            Step::Look(number) => {
                for job in (0..self.count()).filter(|job| has(last.broker.pending, *job)) {
                    // What another daemon has pending and this one has in hand is left where it is.
                    if !state.daemons[number].knows(job) {
                        state.broker.give(job, number);
                        self.take(&mut state.daemons[number], job);
                    }
                }
                state.daemons[number].has_looked = true;
            }
            Step::Sweep(number) | Step::Doubt(number) => {
                state.left.doubts -= u8::from(matches!(step, Step::Doubt(_)));
                state.daemons[number].is_based = false;
                state.daemons[number].has_looked = true;
            }
            Step::LoseRead(number) => {
                state.left.doubts -= 1;
                let job = state.broker.next(self.count())?;
                state.broker.delivered = job + 1;
                state.broker.give(job, number);
                state.daemons[number].is_based = false;
                state.daemons[number].has_looked = true;
            }
            Step::Forsake(number) => {
                state.left.doubts -= 1;
                let daemon = &mut state.daemons[number];
                (daemon.is_based, daemon.has_looked, daemon.is_forsaken) = (false, true, true);
                daemon.former.clear();
                daemon.hand.clear();
            }
            Step::Decide(number, place) => {
                let database = state.database.clone();
                state.daemons[number].decide(place, number as u8, self.jobs, &database);
            }
            Step::Send(number, place) => {
                let flight = &mut state.daemons[number].flights[place];
                flight.stage = Stage::Sent;
                let packet = flight.packet.clone();
                if self.is(Mutant::DeletedEarly) {
                    state.broker.remove(packet.job);
                }
                state.packets.insert(packet);
            }
            Step::Execute(packet) => self.execute(&mut state, &packet, true),
            Step::ExecuteUnheard(packet) => {
                state.left.losses -= 1;
                self.execute(&mut state, &packet, false);
            }
            Step::Lose(packet) => {
                state.left.losses -= 1;
                state.packets.remove(&packet);
                answer(&mut state, &packet, Stage::Failed);
            }
            Step::Acknowledge(number, place) => {
                let flight = state.daemons[number].flights.remove(place);
                if !flight.is_former {
                    state.replica = state.broker.clone();
                    state.broker.remove(flight.packet.job);
                }
            }
            Step::PutBack(number, place) => {
                let daemon = &mut state.daemons[number];
                let flight = daemon.flights.remove(place);
                // What was to succeed it and has not been sent goes back with it.
                let goes =
                    |other: &Flight| other.stage == Stage::Decided && other.packet.after == Some(flight.packet.job);
                let with: Vec<Flight> = daemon.flights.extract_if(.., |other| goes(other)).collect();
                // Of a stream that somebody else has nothing waits any more.
                daemon.put_back(&flight);
                with.iter().for_each(|flight| daemon.put_back(flight));
            }
            Step::Crash(number) => {
                state.left.crashes -= 1;
                let mut daemon = Daemon::new(state.daemons[number].life + 1);
                daemon.is_based = self.is(Mutant::Competing);
                state.daemons[number] = daemon;
            }
            Step::Failover => {
                state.left.failovers -= 1;
                state.broker = state.replica.clone();
                if !self.is(Mutant::CursorKept) {
                    state.daemons.iter_mut().for_each(Daemon::begin_anew);
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}

impl Fleet {
    fn read_from_head(&self, state: &mut State, number: usize) {
        for job in (0..state.broker.delivered).filter(|job| has(state.broker.stream, *job)).collect::<Vec<_>>() {
            state.broker.give(job, number);
            let daemon = &mut state.daemons[number];
            if daemon.knows(job) {
                continue;
            }
            self.take(daemon, job);
        }
        (state.daemons[number].is_based, state.daemons[number].is_forsaken) = (true, false);
    }

    fn take(&self, daemon: &mut Daemon, job: u8) {
        if self.is(Mutant::ReadBehind) { daemon.hand.push(job) } else { daemon.take(job) }
    }

    fn execute(&self, state: &mut State, packet: &Packet, is_heard: bool) {
        state.packets.remove(packet);
        let is_committed = state.database.execute(packet, &self.jobs[packet.job as usize], self.checks());
        if is_committed {
            let job = &self.jobs[packet.job as usize];
            let left_out =
                |older: u8| self.jobs[older as usize].shares(job) && state.database.outcomes[older as usize].is_none();
            state.is_overtaken |= (0..packet.job).any(left_out);
        }
        answer(state, packet, if is_committed && is_heard { Stage::Ended } else { Stage::Failed });
    }
}

/// The daemon that sent the packet hears of it, if it is still the same.
fn answer(state: &mut State, packet: &Packet, stage: Stage) {
    let daemon = &mut state.daemons[packet.daemon as usize];
    if daemon.life == packet.life
        && let Some(flight) = daemon.flights.iter_mut().find(|it| it.packet == *packet && it.stage == Stage::Sent)
    {
        flight.stage = stage;
    }
}
