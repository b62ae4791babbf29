//! Whose turn it is to run the jobs of a stream: one owner, and all others stand by. Pure.
//!
//! The owner says about every quarter of [`Times::lease`] that it is there, by a beat: a number beside the stream that grows. Whoever
//! stands by looks at it, and takes the stream when it has not moved for so long by the own clock: nobody compares clocks, and
//! nothing expires. To own a stream saves work and no more: two that believe to own it run it in the same order, and the database
//! lets one of each pair commit.
//!
//! ```text
//!            free, or silent for long               the take is answered
//!  standing by ─────────────────────▶ taking ─────────────────────▶ owning
//!     ▲  ▲ ◀──── somebody was faster ────┘                            │ │
//!     │  └───────── nothing is in flight ───── lost ◀── not ours ─────┤ │
//!     │                                        ▲─ released, unfit ◀───┤ │
//!     └──────────── released ◀── nothing is in flight ── draining ◀───┘─┘
//! ```

mod fitness;
mod lease;
mod share;

use std::time::{Duration, Instant};

pub use fitness::Fitness;
pub use lease::{Lease, Role, Take, Tenancy};
pub use share::Share;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The silence after which an owner is given up.
    pub lease: Duration,
    /// Time between two looks of whoever stands by.
    pub look: Duration,
}

/// The last moments of a lease are not used: what is begun then would most likely be done in vain.
const MARGIN: Duration = Duration::from_millis(200);

/// Time between two looks at a stream that is about to be free.
const EAGER: Duration = Duration::from_millis(10);

impl Times {
    /// Time between two beats.
    pub fn beat(&self) -> Duration {
        self.lease / 4
    }

    /// How long jobs may be begun after a beat that has been answered, from when it was sent.
    fn trust(&self) -> Duration {
        self.lease.saturating_sub(MARGIN).max(self.lease / 2)
    }
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look at the lease.
    Look,
    /// Take the stream, if its lease is still as it was seen.
    Take(Lease),
    /// Say that the owner is there, and that it drains if so.
    Beat(Tenancy),
    /// Leave the stream to others.
    Release,
    /// Nothing before that moment.
    Wait(Instant),
}

#[derive(Clone, Debug)]
enum State {
    StandingBy {
        /// The lease as it was seen first with these beats, when that was, and when it was seen last.
        seen: Option<(Lease, Instant, Instant)>,
        next_look: Instant,
    },
    Owning {
        /// When the last beat was sent that has been answered.
        confirmed: Instant,
        next_beat: Instant,
        take: Take,
        drains: bool,
    },
    /// Somebody else has it, and something may be in flight.
    Lost,
    /// The others are about to hear that it is free.
    Leaving {
        /// Whether something of it may be in flight.
        in_flight: bool,
    },
}

/// One process's part in the ownership of one stream.
#[derive(Clone, Debug)]
pub struct Seat {
    times: Times,
    id: String,
    is_fit: bool,
    /// How much longer than others it waits for this stream.
    reserve: Duration,
    /// How often the stream was taken, as far as this process knows.
    epoch: u64,
    state: State,
}

impl Seat {
    /// Stands by, under a name that nobody else ever has.
    pub fn new(times: Times, id: String, now: Instant) -> Self {
        let state = State::StandingBy { seen: None, next_look: now };
        Self { times, id, is_fit: false, reserve: Duration::ZERO, epoch: 0, state }
    }

    /// The name under which it takes the stream.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How often the stream was taken, as far as this process knows.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How long its owner has given no sign of life, as far as can be seen from here; `None` when nobody owns it.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        match &self.state {
            State::StandingBy { seen: Some((lease, since, _)), .. } if lease.tenancy != Tenancy::Free => {
                Some(now.saturating_duration_since(*since))
            }
            State::Owning { confirmed, .. } => Some(now.saturating_duration_since(*confirmed)),
            _ => None,
        }
    }

    /// Whether this process could do the work, and how much longer than others it waits for this stream.
    pub fn wish(&mut self, is_fit: bool, reserve: Duration) {
        (self.is_fit, self.reserve) = (is_fit, reserve);
        if let State::Owning { drains, next_beat, confirmed, .. } = &mut self.state
            && !is_fit
            && !*drains
        {
            // The others hear of it at once.
            (*drains, *next_beat) = (true, *confirmed);
        }
    }

    /// The stream, for as long as jobs of it may be begun.
    pub fn held(&self) -> Option<Take> {
        match self.state {
            State::Owning { take, drains: false, .. } => Some(take),
            _ => None,
        }
    }

    /// Until when jobs of the stream may be begun, as long as it is [held](Self::held).
    pub fn trusted_until(&self) -> Option<Instant> {
        match self.state {
            State::Owning { confirmed, drains: false, .. } => Some(confirmed + self.times.trust()),
            _ => None,
        }
    }

    /// What this process is to the stream.
    pub fn role(&self, now: Instant) -> Role {
        match self.state {
            State::StandingBy { .. } => Role::StandingBy,
            State::Lost | State::Leaving { .. } => Role::Lost,
            State::Owning { drains: true, .. } => Role::Draining,
            State::Owning { .. } if self.trusted_until().is_some_and(|until| now < until) => Role::Owner,
            State::Owning { .. } => Role::Late,
        }
    }

    /// What is to be done now.
    pub fn step(&self, now: Instant) -> Step {
        match &self.state {
            State::StandingBy { seen, next_look } => match seen {
                Some((lease, since, last)) if self.may_take(lease, *since, *last) => Step::Take(lease.clone()),
                _ if *next_look <= now => Step::Look,
                _ => Step::Wait(*next_look),
            },
            State::Owning { next_beat, drains, .. } if *next_beat <= now => {
                Step::Beat(if *drains { Tenancy::Draining } else { Tenancy::Owned })
            }
            State::Owning { next_beat, .. } => Step::Wait(*next_beat),
            State::Lost => Step::Wait(now + self.times.lease),
            State::Leaving { .. } => Step::Release,
        }
    }

    fn may_take(&self, lease: &Lease, since: Instant, last: Instant) -> bool {
        let silence = if lease.tenancy == Tenancy::Free { Duration::ZERO } else { self.times.lease };
        self.is_fit && last.duration_since(since) >= silence + self.reserve
    }

    /// A look that was begun at `asked` has shown this.
    pub fn looked(&mut self, asked: Instant, now: Instant, lease: Lease) {
        let State::StandingBy { seen, next_look } = &mut self.state else { return };
        // It was taken after all, and the answer was lost.
        if lease.id == self.id && lease.tenancy == Tenancy::Owned {
            let take = Take { epoch: lease.epoch, is_clean: false };
            self.own(asked, take);
            return;
        }
        self.epoch = lease.epoch;
        // What nobody looked at for long may have moved meanwhile, or not: this process or the broker was not running.
        let is_watched = |last: &Instant| now.duration_since(*last) <= self.times.lease / 3;
        let is_same =
            |known: &Lease| (&known.id, known.beats, known.tenancy) == (&lease.id, lease.beats, lease.tenancy);
        let since = match seen {
            Some((known, since, last)) if is_same(known) && is_watched(last) => *since,
            _ => now,
        };
        let is_eager = self.is_fit && lease.tenancy != Tenancy::Owned;
        *next_look = now + if is_eager { EAGER.min(self.times.look) } else { self.times.look };
        *seen = Some((lease, since, now));
    }

    /// A look, or a take, was not answered.
    pub fn unanswered(&mut self, now: Instant) {
        if let State::StandingBy { seen, next_look } = &mut self.state {
            (*seen, *next_look) = (None, now + self.times.look);
        }
    }

    /// A take that was sent at `sent` has been answered: with what was taken, or with nothing since somebody was faster.
    pub fn took(&mut self, sent: Instant, now: Instant, take: Option<Take>) {
        match take {
            Some(take) => self.own(sent, take),
            None => self.state = State::StandingBy { seen: None, next_look: now },
        }
    }

    fn own(&mut self, confirmed: Instant, take: Take) {
        let next_beat = confirmed + self.times.beat();
        self.epoch = take.epoch;
        self.state = State::Owning { confirmed, next_beat, take, drains: !self.is_fit };
    }

    /// A beat that was sent at `sent` has been answered, with whether the stream is ours; `None` when it was not.
    pub fn beaten(&mut self, sent: Instant, is_ours: Option<bool>) {
        let beat = self.times.beat();
        let State::Owning { confirmed, next_beat, .. } = &mut self.state else { return };
        match is_ours {
            Some(true) => (*confirmed, *next_beat) = (sent, sent + beat),
            Some(false) => self.state = State::Lost,
            None => *next_beat = sent + beat / 4,
        }
    }

    /// A beat was due at `now` and was not sent, since no work is done.
    pub fn held_back(&mut self, now: Instant) {
        let beat = self.times.beat();
        if let State::Owning { next_beat, .. } = &mut self.state {
            *next_beat = now + beat;
        }
    }

    /// Nothing of the stream is in flight any more, so that it may be left. `id` is the name for the next time.
    pub fn settled(&mut self, now: Instant, id: String) {
        match self.state {
            State::Owning { drains: true, .. } | State::Leaving { .. } => {
                self.state = State::Leaving { in_flight: false }
            }
            State::Lost => self.stand_by(now, id),
            State::Owning { .. } | State::StandingBy { .. } => {}
        }
    }

    /// Whether jobs that may be in flight are all that keeps it from being left, or from standing by again.
    pub fn is_left(&self) -> bool {
        match self.state {
            State::Owning { drains, .. } => drains,
            State::Lost | State::Leaving { in_flight: true } => true,
            State::StandingBy { .. } | State::Leaving { in_flight: false } => false,
        }
    }

    /// Whether it is about to be left with nothing of it in flight.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Leaving { in_flight: false })
    }

    /// Whatever is in flight, the stream is left now: this process ends, or cannot do the work and a peer can.
    pub fn leave(&mut self) {
        if matches!(self.state, State::Owning { .. }) {
            self.state = State::Leaving { in_flight: true };
        }
    }

    /// The release was answered, or was not and will not be tried again: then the others find out by its silence.
    pub fn released(&mut self, now: Instant, id: String) {
        match self.state {
            State::Leaving { in_flight: true } => self.state = State::Lost,
            _ => self.stand_by(now, id),
        }
    }

    fn stand_by(&mut self, now: Instant, id: String) {
        self.id = id;
        self.state = State::StandingBy { seen: None, next_look: now };
    }
}

#[cfg(test)]
mod tests;
