//! `top`: a fleet at a glance, from the `/metrics` of its daemons.

mod live;
mod screen;

#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;

use super::failed::Failed;
use super::output::told;
use crate::exit::Exit;
use crate::view::{self, News, Place, View, Watch, Watched};
use screen::Screen;

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Where a daemon's endpoints are, such as 127.0.0.1:9464; several times for several daemons [default: http.listen]
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Look for a second, print, and end: 0 when every daemon answers, else 69
    #[arg(long)]
    once: bool,
    /// Print JSON, on one line
    #[arg(long, requires = "once")]
    json: bool,
}

/// Columns of what is printed where there is no terminal.
const COLUMNS: u16 = 120;

/// Shows the daemons until it is told to quit. `listen` gives the address to ask when none is given.
pub async fn top(top: Top, listen: impl FnOnce() -> Result<SocketAddr, Failed>) -> Result<u8, Failed> {
    let places: Vec<Place> = match &top.url[..] {
        [] => vec![Place::new(&reachable(listen()?).to_string())],
        urls => urls.iter().map(|url| Place::new(url)).collect(),
    };
    let fleet: Vec<Watched> = places.iter().map(|place| Watched::new(place.shown.clone())).collect();
    if !top.once && !std::io::stdout().is_terminal() {
        let text = "top needs a terminal; without one, print what it shows with --once, for scripts with --json";
        return Err(Failed::new(Exit::USAGE, text));
    }
    let watch = view::start(places, view::PERIOD);
    if !top.once {
        return live::run(fleet, watch)
            .await
            .map_err(|error| Failed::new(Exit::OUTPUT, format!("the terminal: {error}")));
    }
    let view = once(fleet, watch).await;
    if top.json {
        told(serde_json::to_string(&view).map_err(|error| Failed::new(Exit::BROKEN, error))?)?;
    } else {
        told(text(&view).trim_end_matches('\n'))?;
    }
    let all_answer = view.daemons.iter().all(|daemon| daemon.away.is_none());
    Ok(if all_answer { Exit::OK } else { Exit::UNAVAILABLE })
}

/// Two answers of each daemon, so that rates are known.
async fn once(mut fleet: Vec<Watched>, mut watch: Watch) -> View {
    let mut left = vec![2; fleet.len()];
    while left.iter().any(|left| *left > 0) {
        let Some(News { daemon, at, result }) = watch.news.recv().await else { break };
        if left[daemon] > 0 {
            left[daemon] -= 1;
            fleet[daemon].take(at, result);
        }
    }
    view::view(&fleet, watch.since.elapsed(), view::unix_seconds())
}

/// The screen as plain text.
fn text(view: &View) -> String {
    let screen = Screen { view, history: &[] };
    let area = Rect::new(0, 0, COLUMNS, screen.height(COLUMNS));
    let mut buffer = Buffer::empty(area);
    screen.render(area, &mut buffer);
    let line = |y| {
        let line: String = (0..COLUMNS).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", line.trim_end())
    };
    (0..area.height).map(line).collect()
}

/// A daemon that listens on every address is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
