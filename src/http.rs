//! The three endpoints: `/metrics`, `/livez`, `/readyz`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::daemon::Health;
use crate::lifecycle::Lifecycle;
use crate::lock::{NodeStatus, Redlock};
use crate::metrics::Metrics;
use crate::worker::{IntakeStatus, Seats};

/// What the endpoints look at.
#[derive(Clone)]
pub struct Endpoints {
    /// Rendered by `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Draining is not ready.
    pub lifecycle: Lifecycle,
    /// Jobs must be committed and acknowledged.
    pub health: Health,
    /// The streams must be readable.
    pub reading: IntakeStatus,
    /// A quorum of lock nodes must be connected.
    pub locks: Redlock,
    /// Who owns the streams: to stand by is to be ready.
    pub seats: Seats,
}

/// Opens the address, so that a port in use is known at start.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the process ends: a drain is watched through these endpoints to its last moment.
pub async fn serve(listener: TcpListener, endpoints: Endpoints) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(endpoints);
    axum::serve(listener, router).await
}

async fn metrics(State(endpoints): State<Endpoints>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, endpoints.metrics.render()).into_response()
}

/// One line per check, 503 when one of them fails; and one that says who owns the streams. It asks nobody, so the answer comes at once.
async fn ready(State(endpoints): State<Endpoints>) -> Response {
    let health = &endpoints.health;
    let checks = [
        ("lifecycle", lifecycle(&endpoints)),
        ("broker", health.broker()),
        ("reading", endpoints.reading.check()),
        ("locks", locks(&endpoints)),
        ("database", health.database()),
        ("progress", health.progress()),
    ];
    let ready = checks.iter().all(|(_, check)| check.is_ok());
    let mut text = String::new();
    for (name, check) in &checks {
        let _ = match check {
            Ok(()) => writeln!(text, "{name}: ok"),
            Err(why) => writeln!(text, "{name}: {why}"),
        };
    }
    let _ = writeln!(text, "fleet: {}", endpoints.seats.tell());
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text).into_response()
}

/// Whether jobs are taken in.
pub(crate) fn lifecycle(endpoints: &Endpoints) -> Result<(), String> {
    if endpoints.lifecycle.is_running() { Ok(()) } else { Err("draining".to_owned()) }
}

/// Whether enough lock nodes are there.
pub(crate) fn locks(endpoints: &Endpoints) -> Result<(), String> {
    let (nodes, quorum) = (endpoints.locks.nodes(), endpoints.locks.quorum());
    let (up, away): (Vec<_>, Vec<_>) = nodes.into_iter().partition(NodeStatus::is_up);
    if up.len() >= quorum {
        return Ok(());
    }
    let away: Vec<String> = away.into_iter().map(|node| format!("{}: {}", node.name, node.why)).collect();
    Err(format!("lock quorum lost: {} nodes grant, {quorum} needed; {}", up.len(), away.join("; ")))
}
