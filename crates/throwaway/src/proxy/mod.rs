//! A TCP proxy that misbehaves as it is told, so that a test can stand between the daemon and its servers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::servers::free_port;

/// How the proxy treats its connections, the open ones included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes.
    None,
    /// Each piece of data arrives so much later.
    Latency(Duration),
    /// Connections are accepted and nothing passes; what waits passes when the fault ends.
    Stall,
    /// Every connection is closed with RST, open ones and new ones.
    Reset,
    /// Open connections are closed with RST and new ones refused, as if no server were there.
    Refuse,
    /// Requests arrive and their replies are lost.
    DropReplies,
    /// Requests are lost.
    DropRequests,
    /// Data is written in pieces of so many bytes.
    Slice(usize),
    /// So many bytes per second and direction pass.
    Throttle(usize),
    /// Each connection is closed with RST after so many further bytes of replies, in the middle of whatever they are.
    CutAfter(usize),
}

/// A proxy on a free port of 127.0.0.1. Dropping it closes all of its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    target: watch::Sender<SocketAddr>,
    silenced: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy that forwards to `target` and does no harm yet.
    pub async fn start(target: SocketAddr) -> io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", free_port()?)).await?;
        let address = listener.local_addr()?;
        let (fault, faults) = watch::channel(Fault::None);
        let (target, targets) = watch::channel(target);
        let (silenced, silences) = watch::channel(0);
        let task = tokio::spawn(accept(listener, address, Ways { targets, faults, silences }));
        Ok(Proxy { address, fault, target, silenced, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Treats all connections so from now on. A connection that has lost data is reset, since its ends are out of step.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Leads new connections to `target` from now on. Open ones stay where they are, as behind a name or an address that moves.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }

    /// From now on nothing passes over the connections that are open now, and they are not closed either, as when a host
    /// vanishes; new ones work.
    pub fn silence_open(&self) {
        self.silenced.send_modify(|silenced| *silenced += 1);
    }
}

/// Where connections lead, and how they are treated.
#[derive(Clone)]
struct Ways {
    targets: watch::Receiver<SocketAddr>,
    faults: watch::Receiver<Fault>,
    /// How often the open connections have been silenced.
    silences: watch::Receiver<u64>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts until it is aborted; the connections live in the task that serves them, and see the channel close.
async fn accept(first: TcpListener, address: SocketAddr, ways: Ways) {
    let (mut listener, mut faults) = (Some(first), ways.faults.clone());
    loop {
        if *faults.borrow_and_update() == Fault::Refuse {
            listener = None;
            if faults.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            // Someone else may have the port for a moment.
            listener = TcpListener::bind(address).await.ok();
            sleep(Duration::from_millis(1)).await;
            continue;
        };
        tokio::select! {
            accepted = open.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(serve(client, ways.clone()));
            },
            changed = faults.changed() => if changed.is_err() { return },
        }
    }
}

/// Which way data flows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

/// How one direction of a connection ended.
enum End {
    /// Its sender closed it.
    Closed,
    /// The connection is to be reset.
    Reset,
}

/// Carries a connection's data until it ends, or until it is silenced: then the connection is kept, since closing it would be
/// heard.
async fn serve(client: TcpStream, Ways { targets, faults, mut silences }: Ways) {
    let (target, silenced) = (*targets.borrow(), *silences.borrow_and_update());
    let carried = carry(client, target, faults);
    tokio::pin!(carried);
    tokio::select! {
        () = &mut carried => return,
        _ = silences.wait_for(|now| *now > silenced) => {}
    }
    // For as long as there is a proxy.
    while silences.changed().await.is_ok() {}
}

async fn carry(mut client: TcpStream, target: SocketAddr, faults: watch::Receiver<Fault>) {
    if *faults.borrow() == Fault::Reset {
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let is_reset = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = pump(from_client, to_server, faults.clone(), Direction::Requests);
        let replies = pump(from_server, to_client, faults, Direction::Replies);
        tokio::pin!(requests, replies);
        tokio::select! {
            end = &mut requests => matches!(end, End::Reset) || matches!(replies.await, End::Reset),
            end = &mut replies => matches!(end, End::Reset) || matches!(requests.await, End::Reset),
        }
    };
    if is_reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Carries data one way, until it ends or is to be reset.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut faults: watch::Receiver<Fault>,
    direction: Direction,
) -> End {
    let mut buffer = vec![0; 16 * 1024];
    let mut state = State { is_torn: false, passed: 0 };
    loop {
        if state.must_reset(*faults.borrow_and_update()) {
            return End::Reset;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = faults.changed() => {
                state.passed = 0;
                if changed.is_err() { return End::Reset }
                continue;
            }
        };
        let Ok(size) = read else { return End::Reset };
        if size == 0 {
            let _ = to.shutdown().await;
            return End::Closed;
        }
        if forward(&buffer[..size], &mut to, &mut faults, direction, &mut state).await.is_err() {
            return End::Reset;
        }
    }
}

/// What a direction remembers of its faults.
struct State {
    /// Data was lost here.
    is_torn: bool,
    /// Bytes that passed since the fault began.
    passed: usize,
}

impl State {
    fn must_reset(&self, fault: Fault) -> bool {
        let still_dropping = matches!(fault, Fault::DropReplies | Fault::DropRequests);
        matches!(fault, Fault::Reset | Fault::Refuse) || (self.is_torn && !still_dropping)
    }
}

/// Writes `data` as the fault of each moment says. An error means that the connection is to be reset.
async fn forward(
    mut data: &[u8],
    to: &mut WriteHalf<'_>,
    faults: &mut watch::Receiver<Fault>,
    direction: Direction,
    state: &mut State,
) -> io::Result<()> {
    while !data.is_empty() {
        let fault = *faults.borrow_and_update();
        if state.must_reset(fault) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (size, pause) = match (fault, direction) {
            (Fault::DropReplies, Direction::Replies) | (Fault::DropRequests, Direction::Requests) => {
                state.is_torn = true;
                return Ok(());
            }
            (Fault::Stall, _) => {
                faults.changed().await.map_err(|_| io::ErrorKind::ConnectionReset)?;
                continue;
            }
            (Fault::CutAfter(limit), Direction::Replies) => (limit.saturating_sub(state.passed), Duration::ZERO),
            (Fault::Latency(time), _) => (data.len(), time),
            (Fault::Slice(size), _) => (size.max(1), Duration::ZERO),
            (Fault::Throttle(rate), _) => ((rate / 20).max(1), Duration::from_millis(50)),
            _ => (data.len(), Duration::ZERO),
        };
        if size == 0 {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let (piece, rest) = data.split_at(size.min(data.len()));
        to.write_all(piece).await?;
        state.passed += piece.len();
        data = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
