//! Asking the daemons, each on a thread of its own, so that one which hangs delays nobody.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::exposition::Exposition;
use crate::config::Secret;

/// Time between two looks.
pub const PERIOD: Duration = Duration::from_secs(1);

/// Where a daemon is asked.
#[derive(Clone, Debug)]
pub struct Place {
    url: String,
    /// The same as it may be shown.
    pub shown: String,
}

impl Place {
    /// From an address, a URL, or the URL of its metrics.
    pub fn new(given: &str) -> Self {
        let given = given.trim().trim_end_matches('/').trim_end_matches("/metrics");
        let url = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
        let shown = Secret::new(url.as_str()).to_string();
        let shown = shown.strip_prefix("http://").unwrap_or(&shown).to_owned();
        Self { url: format!("{url}/metrics"), shown }
    }
}

/// What came of asking a daemon.
pub struct News {
    /// Which one, by its place in the list.
    pub daemon: usize,
    /// When, since the watch began.
    pub at: Duration,
    /// Its answer, or why there is none.
    pub result: Result<Exposition, String>,
}

/// The daemons as they are asked.
pub struct Watch {
    /// When it began.
    pub since: Instant,
    /// What comes of it.
    pub news: mpsc::UnboundedReceiver<News>,
}

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks each daemon every `period`, for as long as anybody listens.
pub fn start(places: Vec<Place>, period: Duration) -> Watch {
    let since = Instant::now();
    let (sender, news) = mpsc::unbounded_channel();
    for (daemon, place) in places.into_iter().enumerate() {
        let sender = sender.clone();
        // Threads and not tasks: the end of the program does not wait for one that is blocked.
        thread::spawn(move || {
            let agent = agent();
            loop {
                let asked = Instant::now();
                let result = ask(&agent, &place.url);
                if sender.send(News { daemon, at: since.elapsed(), result }).is_err() {
                    return;
                }
                thread::sleep(period.saturating_sub(asked.elapsed()));
            }
        });
    }
    Watch { since, news }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(LIMIT)).http_status_as_error(false).build().into()
}

fn ask(agent: &ureq::Agent, url: &str) -> Result<Exposition, String> {
    let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        return Err(format!("it says {}", answer.status()));
    }
    let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
    let metrics = Exposition::parse(&text);
    match metrics.label_of_one("lockkeeper_build_info", "version") {
        Some(_) => Ok(metrics),
        None => Err("it answers, and is no lockkeeper".to_owned()),
    }
}

/// Now, by this machine's clock.
pub fn unix_seconds() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_or_a_url_and_keeps_a_password_to_itself() {
        let cases = [
            ("127.0.0.1:9464", "http://127.0.0.1:9464/metrics", "127.0.0.1:9464"),
            ("[::1]:9464", "http://[::1]:9464/metrics", "[::1]:9464"),
            ("http://lk-1:9464/metrics", "http://lk-1:9464/metrics", "lk-1:9464"),
            ("https://lk.example/shop/", "https://lk.example/shop/metrics", "https://lk.example/shop"),
            ("http://ops:canary@lk-1:9464", "http://ops:canary@lk-1:9464/metrics", "ops:***@lk-1:9464"),
        ];
        for (given, url, shown) in cases {
            let place = Place::new(given);
            assert_eq!((place.url.as_str(), place.shown.as_str()), (url, shown));
        }
    }
}
