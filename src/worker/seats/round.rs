//! What a daemon asks about its fleet with every probe: who else could do the work, and what is paused.

use std::time::{Duration, Instant};

use super::driver::Driver;
use crate::fleet::{Lease, Role, Share, Tenancy};
use crate::stream::{Member, Pause};

/// Whoever has not shown for so long that it could do the work gets no share of the streams.
const LATELY: Duration = Duration::from_millis(1500);

impl Driver {
    /// What this daemon is to do for the balance of the fleet, one stream after the other.
    pub(super) fn share(&self, now: Instant) -> Share {
        let (me, leases) = (self.setup.id.as_str(), self.leases.borrow());
        let roles: Vec<Role> = self.seats.iter().map(|seat| seat.role(now)).collect();
        let owner = |(role, lease): (&Role, &'_ Lease)| match role {
            Role::StandingBy if lease.tenancy == Tenancy::Free => None,
            Role::StandingBy => lease.id.rsplit_once('-').map(|(id, _)| id.to_owned()),
            Role::Owner | Role::Late | Role::Draining | Role::Lost => Some(me.to_owned()),
        };
        let owners: Vec<Option<String>> = roles.iter().zip(&*leases).map(owner).collect();
        let owners: Vec<Option<&str>> = owners.iter().map(Option::as_deref).collect();
        let members: Vec<&str> = self.fleet.peers.iter().map(String::as_str).chain([me]).collect();
        let share = Share::of(me, &members, &self.streams, &owners);
        let is_moving = roles.iter().any(|role| matches!(role, Role::Draining | Role::Lost));
        Share { leaves: share.leaves.filter(|_| !is_moving), ..share }
    }

    /// Asks, and writes itself down as one that could do the work.
    pub async fn ask_fleet(&mut self) {
        let fitness = *self.setup.fitness.borrow_and_update();
        let (first, id) = (self.streams[0].clone(), self.setup.id.clone());
        let member = (self.setup.host.clone(), self.setup.skills.clone());
        let is_fit = self.runs() && fitness.has_reached();
        let asked = Instant::now();
        let names = self.streams.clone();
        let answer = self.ask(async |line| {
            let mut beside = line.clone();
            tokio::try_join!(line.enlist(&first, &id, is_fit.then_some(&member)), beside.pauses(&names))
        });
        let Some((members, pauses)) = answer.await else { return };
        self.setup.metrics.members(members.len());
        let peers = members.into_iter().filter(|member| member.id != id);
        let peers: Vec<Member> = peers.collect();
        let lately = peers.iter().filter(|peer| peer.age <= LATELY);
        self.fleet.peers = lately.map(|peer| peer.id.clone()).collect();
        let (ages, skills): (Vec<_>, Vec<_>) = peers.into_iter().map(|peer| (peer.age, peer.skills)).unzip();
        self.fleet.peer = ages.into_iter().min().and_then(|age| asked.checked_sub(age));
        self.fleet.skills = skills;
        self.fleet.forget(asked);
        for (stream, want) in self.streams.iter().zip(&self.fleet.wants) {
            self.setup.metrics.unknown_types(stream, want.is_some());
        }
        self.tell_of_pauses(&pauses);
        self.fleet.pauses = pauses;
        if fitness.yields_to(self.fleet.peer) {
            for seat in self.seats.iter_mut().filter(|seat| seat.held().is_some()) {
                tracing::warn!("a peer reaches the database and a quorum of lock nodes, and this daemon does not");
                seat.leave();
            }
        }
    }

    fn tell_of_pauses(&self, pauses: &[Option<Pause>]) {
        for ((stream, was), is) in self.streams.iter().zip(&self.fleet.pauses).zip(pauses) {
            self.setup.metrics.paused(stream, is.is_some());
            match (was, is) {
                (None, Some(Pause { reason, actor, .. })) => {
                    tracing::warn!(queue = %stream, reason, actor, "the stream is paused: its jobs are not started");
                }
                (Some(_), None) => tracing::info!(queue = %stream, "the stream is not paused any more"),
                _ => {}
            }
        }
    }

    /// Strikes this daemon from the fleet.
    pub async fn dismiss(&mut self) {
        let (first, id) = (self.streams[0].clone(), self.setup.id.clone());
        let _ = self.ask(async |line| line.dismiss(&first, &id).await).await;
    }
}
