//! What a daemon does next, and what it makes of an answer: the parts of the intake, the batch and the settling that have I/O, written
//! down again without it.

use std::time::Duration;

use lockkeeper::fleet::{Step, Take, Tenancy};
use rand::Rng;

use crate::daemon::{Answer, Ask};
use crate::world::{Event, Mutant, World};

impl World {
    /// Whether the daemon owns the stream, as far as it knows.
    fn held(&self, daemon: usize) -> Option<Take> {
        let daemon = &self.daemons[daemon];
        let believes = Take { epoch: 1, is_clean: false };
        if self.ignores_lease { (!daemon.drains).then_some(believes) } else { daemon.seat.held() }
    }

    pub(crate) fn tick(&mut self, number: usize) {
        let now = self.clock();
        let calm = !self.is_stormy();
        let daemon = &mut self.daemons[number];
        daemon.drains &= !calm;
        daemon.seat.wish(!daemon.drains, Duration::ZERO);
        if !daemon.asks && !self.ignores_lease {
            self.mind_the_lease(number);
        }
        let held = self.held(number);
        self.daemons[number].follow(held, now);
        self.read(number);
        let is_trusted =
            self.ignores_lease || self.daemons[number].seat.trusted_until().is_some_and(|until| now < until);
        while is_trusted && self.daemons[number].batches.len() < 3 {
            self.batches += 1;
            let Some(batch) = self.daemons[number].begin(now, self.batches) else { break };
            self.send(number, Ask::Load { batch });
        }
        let (life, next) = (self.daemons[number].life, self.now + self.random.random_range(1_000..20_000));
        self.at(next, number, life, Event::Tick);
    }

    fn mind_the_lease(&mut self, number: usize) {
        let daemon = &mut self.daemons[number];
        let id = daemon.seat.id().to_owned();
        let ask = match daemon.seat.step(self.start + Duration::from_micros(self.now)) {
            Step::Look => Ask::Look,
            Step::Take(seen) => Ask::Take { seen, id },
            Step::Beat(tenancy) => Ask::Beat { id, epoch: daemon.seat.epoch(), tenancy, is_clean: false },
            Step::Release => {
                let is_clean = daemon.seat.is_settled() && daemon.is_told;
                Ask::Beat { id, epoch: daemon.seat.epoch(), tenancy: Tenancy::Free, is_clean }
            }
            Step::Wait(_) => return,
        };
        daemon.asks = true;
        daemon.asked = self.now;
        self.send(number, ask);
    }

    fn read(&mut self, number: usize) {
        let daemon = &mut self.daemons[number];
        let Some((_, spell)) = daemon.reading.clone().filter(|_| !daemon.reads) else { return };
        daemon.reads = true;
        let spell = spell.number();
        let ask = if !daemon.is_whole {
            Ask::Delivered { spell }
        } else if self.now >= daemon.surveyed + 1_000_000 {
            daemon.surveyed = self.now;
            Ask::Survey { spell }
        } else {
            Ask::Read { spell, count: self.random.random_range(1..6) }
        };
        self.send(number, ask);
    }

    pub(crate) fn answered(&mut self, number: usize, answer: Answer) {
        let (now, mutant) = (self.clock(), self.mutant);
        let daemon = &mut self.daemons[number];
        let asked = self.start + Duration::from_micros(daemon.asked);
        match answer {
            Answer::Lease(lease) => {
                daemon.asks = false;
                match lease {
                    Some(lease) => daemon.seat.looked(asked, now, lease),
                    None => daemon.seat.unanswered(now),
                }
            }
            Answer::Taken(taken) => {
                daemon.asks = false;
                match taken {
                    Some(take) => {
                        daemon.is_told |= take.is_some();
                        daemon.seat.took(asked, now, take);
                    }
                    None => daemon.seat.unanswered(now),
                }
            }
            Answer::Beaten { tenancy: Tenancy::Free, .. } => {
                daemon.asks = false;
                let name = daemon.new_name();
                daemon.seat.released(now, name);
            }
            Answer::Beaten { is_ours, .. } => {
                daemon.asks = false;
                daemon.seat.beaten(asked, is_ours);
            }
            Answer::Loaded { batch, state } => {
                let packet = state.and_then(|state| daemon.decide(batch, state, &self.jobs));
                match packet {
                    Some(mut packet) => {
                        if mutant == Some(Mutant::Unguarded) {
                            packet.versions.clear();
                        }
                        if mutant == Some(Mutant::AcknowledgedEarly) {
                            let early = packet.receipts.iter().map(|(job, _)| *job).collect::<Vec<_>>();
                            self.broker.acknowledge(&early);
                        }
                        self.send(number, Ask::Commit { batch, packet });
                    }
                    None => drop(daemon.end(batch, false, now)),
                }
            }
            Answer::Committed { batch, is_committed } => {
                // When nothing was heard of it, the receipts tell.
                let jobs = daemon.end(batch, is_committed == Some(true), now);
                if !jobs.is_empty() {
                    self.send(number, Ask::Acknowledge { jobs });
                }
            }
            Answer::Acknowledged { jobs, is_told } => {
                daemon.is_told &= is_told;
                jobs.iter().for_each(|(job, spell)| daemon.hand.let_go(spell, crate::daemon::id(*job)));
            }
            other => self.brought(number, other),
        }
    }

    /// Something about the entries was heard, or not.
    fn brought(&mut self, number: usize, answer: Answer) {
        let look = self.mutant != Some(Mutant::NoLook);
        let daemon = &mut self.daemons[number];
        let (Answer::Read { spell, .. }
        | Answer::Delivered { spell, .. }
        | Answer::Seized { spell, .. }
        | Answer::Surveyed { spell, .. }) = &answer
        else {
            return;
        };
        let Some(spell) = daemon.spell(*spell) else { return };
        let next = match answer {
            Answer::Read { brought: Some((new, others)), .. } => {
                let wanted = if look { daemon.missing(&spell, &others) } else { Vec::new() };
                Some(Ask::Seize { spell: spell.number(), wanted, beside: new, is_head: false })
            }
            Answer::Delivered { entries: Some(entries), .. } => {
                let wanted = daemon.missing(&spell, &entries);
                Some(Ask::Seize { spell: spell.number(), wanted, beside: Vec::new(), is_head: true })
            }
            Answer::Seized { entries: Some(entries), beside, is_head, .. } => {
                if self.mutant == Some(Mutant::ByArrival) {
                    daemon.by_arrival = true;
                    daemon.accept(&spell, beside, &self.jobs);
                    daemon.accept(&spell, entries, &self.jobs);
                } else {
                    daemon.accept(&spell, [entries, beside].concat(), &self.jobs);
                }
                daemon.is_whole |= is_head;
                None
            }
            Answer::Surveyed { pending: Some(pending), .. } => {
                let pending: Vec<u64> = pending.into_iter().collect();
                let is_more = !daemon.missing(&spell, &pending).is_empty();
                daemon.is_whole &= !(is_more && daemon.is_doubted);
                daemon.is_doubted = is_more;
                None
            }
            // What was brought is in nobody's hand.
            _ => {
                daemon.is_whole = false;
                None
            }
        };
        match next {
            Some(ask) => self.send(number, ask),
            None => daemon.reads = false,
        }
    }
}
