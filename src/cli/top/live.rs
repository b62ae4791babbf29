//! The live view: one loop that draws, asks nobody, and gives the terminal back.

use std::io;
use std::thread;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::screen::Screen;
use crate::exit::Exit;
use crate::view::{self, News, PERIOD, Watch, Watched, unix_seconds};

/// Rates that are kept to be drawn.
const HISTORY: usize = 300;

/// What the keyboard says.
enum Said {
    Quit,
    /// The terminal has another size.
    Resized,
}

/// Gives the terminal back, whichever way the view ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // A terminal that is gone need not be given back.
        let _ = ratatui::try_restore();
    }
}

/// Shows the fleet until q, Ctrl-C or a signal.
pub async fn run(mut fleet: Vec<Watched>, mut watch: Watch) -> io::Result<u8> {
    let (mut hang_up, mut terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminal = ratatui::try_init()?;
    let _restore = Restore;
    let mut keyboard = keyboard();
    let mut history: Vec<u64> = Vec::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let view = view::view(&fleet, watch.since.elapsed(), unix_seconds());
        let screen = Screen { view: &view, history: &history };
        terminal.draw(|frame| frame.render_widget(&screen, frame.area()))?;
        tokio::select! {
            Some(News { daemon, at, result }) = watch.news.recv() => fleet[daemon].take(at, result),
            said = keyboard.recv() => match said {
                Some(Said::Resized) => {}
                Some(Said::Quit) | None => return Ok(Exit::OK),
            },
            _ = ticks.tick() => {
                if let Some(rate) = view.jobs.ended_per_second {
                    history.push(rate.round() as u64);
                    let surplus = history.len().saturating_sub(HISTORY);
                    history.drain(..surplus);
                }
            }
            _ = terminate.recv() => return Ok(Exit::OK),
            _ = interrupt.recv() => return Ok(Exit::OK),
            _ = hang_up.recv() => return Ok(Exit::OK),
        }
    }
}

/// Listens to the keyboard on a thread, since reading it blocks.
fn keyboard() -> mpsc::UnboundedReceiver<Said> {
    let (sender, said) = mpsc::unbounded_channel();
    thread::spawn(move || {
        // A keyboard that is gone ends the view, too: the sender is dropped.
        while let Ok(event) = event::read() {
            let told = match event {
                Event::Key(key) if key.kind == KeyEventKind::Release => continue,
                Event::Key(key) => match (key.code, key.modifiers) {
                    (KeyCode::Char('q') | KeyCode::Esc, _) => Said::Quit,
                    (KeyCode::Char('c'), KeyModifiers::CONTROL) => Said::Quit,
                    _ => continue,
                },
                Event::Resize(..) => Said::Resized,
                _ => continue,
            };
            if sender.send(told).is_err() {
                return;
            }
        }
    });
    said
}
