//! Carries out what the seats of this process say: looks, takes, beats, releases.
//!
//! It runs on a thread and a connection of its own, so that neither busy workers nor large answers delay a beat.

mod driver;
mod known;
mod round;
mod setup;

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::fleet::{Lease, Seat, Take, Tenancy};
use crate::stream::{Pause, skill};
use driver::Driver;
use known::Fleet;
pub use setup::Setup;
use setup::{Hold, Order, Pulse, Since};

/// What this process owns. Clones share it.
#[derive(Clone, Debug)]
pub struct Seats {
    streams: Arc<[String]>,
    held: watch::Receiver<Vec<Option<Take>>>,
    trusted_until: watch::Receiver<Option<Instant>>,
    leases: watch::Receiver<Vec<Lease>>,
    pauses: watch::Receiver<Vec<Option<Pause>>>,
    holds: Arc<[Hold]>,
    orders: mpsc::Sender<Order>,
    pulse: Pulse,
    since: Since,
}

impl Seats {
    /// Starts the thread. It ends when it is told to [leave](Self::leave), or with the last of its handles.
    pub fn start(setup: Setup) -> std::io::Result<Self> {
        let streams = setup.broker.settings().names.clone();
        let (held_sender, held) = watch::channel(vec![None; streams.len()]);
        let (trust_sender, trusted_until) = watch::channel(None);
        let (lease_sender, leases) = watch::channel(vec![Lease::default(); streams.len()]);
        let (orders, order_receiver) = mpsc::channel();
        let pulse = Pulse::default();
        let now = Instant::now();
        let seats = streams.iter().map(|_| Seat::new(setup.times, format!("{}-0", setup.id), now)).collect();
        let fleet = Fleet::new(streams.len());
        let (pause_sender, pauses) = watch::channel(fleet.pauses.clone());
        let holds: Arc<[Hold]> = streams.iter().map(|_| Hold::default()).collect();
        let runtime = runtime()?;
        let handle = Self {
            streams: streams.clone().into(),
            held,
            trusted_until,
            leases,
            pauses,
            holds: holds.clone(),
            orders,
            pulse: pulse.clone(),
            since: Since::default(),
        };
        let driver = Driver {
            setup,
            streams,
            seats,
            holds,
            pulse,
            since: handle.since.clone(),
            names: 0,
            line: None,
            was_refused: false,
            shown: now,
            is_shared: false,
            fleet,
            held: held_sender,
            trusted_until: trust_sender,
            leases: lease_sender,
            pauses: pause_sender,
        };
        let work = move || driver.run(&runtime, &order_receiver);
        std::thread::Builder::new().name("seats".to_owned()).spawn(work)?;
        Ok(handle)
    }

    /// What is held of each stream, in the order of the configuration.
    pub fn held(&self) -> Vec<Option<Take>> {
        self.held.borrow().clone()
    }

    /// Waits until something has been taken or given up since `seen`. Never ends once the thread has.
    pub async fn changed(&self, seen: &[Option<Take>]) {
        let mut held = self.held.clone();
        if held.wait_for(|held| held.as_slice() != seen).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Who owns the streams, in words.
    pub fn tell(&self) -> String {
        let (held, leases, pauses) = (self.held.borrow(), self.leases.borrow(), self.pauses.borrow());
        let known = self.streams.iter().zip(&*held).zip(&*leases).zip(&*pauses);
        let told = known.map(|(((stream, held), lease), pause)| match held {
            Some(take) => format!("owns {stream}, epoch {}", take.epoch),
            // Whoever reaches the broker may have written it, and this is one line.
            None if let Some(Pause { reason, actor, .. }) = pause => {
                format!("{stream} is paused by {}: {}", actor.escape_debug(), reason.escape_debug())
            }
            None if lease.tenancy == Tenancy::Free => format!("stands by, {stream} is owned by nobody"),
            None => format!("stands by, {stream} is owned by {} (epoch {})", lease.host.escape_debug(), lease.epoch),
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Whether jobs may be begun now. Without an answer to its beats for long an owner begins nothing: it may be none any more.
    pub fn is_trusted(&self) -> bool {
        self.trusted_until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until jobs may be begun for longer. Never ends once the thread has.
    pub async fn trusted(&self) {
        let mut until = self.trusted_until.clone();
        if until.wait_for(|until| until.is_some_and(|until| Instant::now() < until)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The dispatcher is at work: the beats of an owner that does nothing stop.
    pub fn pulse(&self) {
        self.pulse.beat();
    }

    /// Something has been committed: how long that took from the take of a stream on, if nothing has been since.
    pub fn first_commit(&self) -> Option<Duration> {
        self.since.committed()
    }

    /// Whether the stream is still held as it was seen; then something of it may be in flight from now on, until it is
    /// [settled](Self::settled).
    pub fn begin(&self, stream: usize, take: Take) -> bool {
        // Nobody gives it up while this looks.
        let held = self.held.borrow();
        let is_held = held[stream] == Some(take);
        if is_held {
            self.holds[stream].begin();
        }
        is_held
    }

    /// Nothing of this stream is in flight any more. `is_told` says whether the broker knows of every end.
    pub fn settled(&self, stream: usize, is_told: bool) {
        self.holds[stream].settled(is_told);
        // A thread that is gone has nothing to release.
        let _ = self.orders.send(Order::Settled);
    }

    /// A job of this stream is not known to this program, and waits until then for a daemon that knows it.
    pub fn unknown(&self, stream: &str, job_type: &str, version: u16, until: Instant) {
        if let Some(number) = self.streams.iter().position(|name| name == stream) {
            let _ = self.orders.send(Order::Unknown(number, skill(job_type, version), until));
        }
    }

    /// Whether any stream is paused.
    pub fn is_paused(&self) -> bool {
        self.pauses.borrow().iter().any(Option::is_some)
    }

    /// Waits until the thread has ended: without it nothing is owned any more.
    pub async fn ended(&self) {
        let mut held = self.held.clone();
        while held.changed().await.is_ok() {}
    }

    /// Leaves every stream to others, whatever is in flight, and waits until the broker knows, or the thread has given up.
    pub async fn leave(&self) {
        let _ = self.orders.send(Order::Leave);
        self.ended().await;
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
