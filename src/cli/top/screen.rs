//! The view as text and colours. Pure: the same for the terminal, for `--once` and for the tests.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, Widget, Wrap};

use crate::view::{Daemon, Finding, Jobs, Locks, Node, Queue, Severity, Store, View, count, seconds};

/// Everything at a glance: what is wrong on top, then the flow, the queues, the locks, the database, the processes.
pub struct Screen<'a> {
    /// What there is to show.
    pub view: &'a View,
    /// Jobs per second of the last moments, to be drawn as a line.
    pub history: &'a [u64],
}

/// Stands for what nobody knows.
const UNKNOWN: &str = "–";

enum Content<'a> {
    Text(Paragraph<'a>),
    Table(Table<'a>),
    Graph(&'a [u64]),
}

impl<'a> Screen<'a> {
    /// How many lines it takes.
    pub fn height(&self, width: u16) -> u16 {
        self.parts(width).iter().map(|(height, _)| height).sum()
    }

    /// The parts from top to bottom, each with its height.
    fn parts(&self, width: u16) -> Vec<(u16, Content<'a>)> {
        let view = self.view;
        let mut parts = vec![title(view), findings(&view.findings, width), jobs(&view.jobs)];
        if self.history.iter().any(|rate| *rate > 0) {
            // The newest are on the right.
            let shown = self.history.len().saturating_sub(usize::from(width));
            parts.push((2, Content::Graph(&self.history[shown..])));
        }
        parts.extend([queues(&view.queues), nodes(&view.locks), locks(&view.locks), store(&view.store)]);
        if !view.subscriptions.is_empty() {
            parts.push(subscriptions(view));
        }
        parts.push(daemons(&view.daemons));
        parts
    }
}

impl Widget for &Screen<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let mut y = area.y;
        for (height, content) in self.parts(area.width) {
            // What does not fit any more is left out: the most urgent comes first.
            let part = Rect { y, height: height.min(area.bottom().saturating_sub(y)), ..area };
            y += part.height;
            match content {
                Content::Text(text) => text.render(part, buffer),
                Content::Table(table) => table.render(part, buffer),
                Content::Graph(rates) => Sparkline::default().data(rates).fg(Color::Cyan).render(part, buffer),
            }
        }
    }
}

fn title<'a>(view: &View) -> (u16, Content<'a>) {
    let answering = view.daemons.iter().filter(|daemon| daemon.away.is_none()).count();
    let text = format!("lockkeeper: {answering} of {} daemons answer", view.daemons.len());
    let line = Line::from(vec![text.bold(), "     q quits".dim()]);
    (1, Content::Text(Paragraph::new(line)))
}

fn findings<'a>(findings: &[Finding], width: u16) -> (u16, Content<'a>) {
    let line = |finding: &Finding| {
        let colour = match finding.severity {
            Severity::Critical => Color::Red,
            Severity::Warning => Color::Yellow,
            Severity::Info => Color::Blue,
        };
        let severity = Span::styled(format!("{:<9}", finding.severity), Style::new().fg(colour).bold());
        Line::from(vec![severity, Span::raw(finding.text.clone())])
    };
    let lines = match findings {
        [] => vec![Line::from("nothing is wrong".green())],
        findings => findings.iter().map(line).collect(),
    };
    let height: usize = lines.iter().map(|line| line.width().div_ceil(usize::from(width.max(1))).max(1)).sum();
    let text = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false });
    (u16::try_from(height).unwrap_or(u16::MAX).saturating_add(1), Content::Text(text))
}

fn jobs<'a>(jobs: &Jobs) -> (u16, Content<'a>) {
    let outcome = |name: &str| jobs.outcomes_per_second.get(name).copied();
    let header = [
        ("JOBS/S", 6),
        ("applied", 7),
        ("rejected", 8),
        ("duplicate", 9),
        ("expired", 7),
        ("dead", 6),
        ("p50", 6),
        ("p99", 6),
        ("in flight", 9),
        ("waiting", 7),
    ];
    let cells = [
        rate(jobs.ended_per_second),
        rate(outcome("applied")),
        rate(outcome("rejected")),
        rate(outcome("duplicate")),
        rate(outcome("expired")),
        rate(outcome("dead")),
        time(jobs.p50_seconds),
        time(jobs.p99_seconds),
        number(jobs.in_flight),
        number(jobs.waiting),
    ];
    table(&header, vec![row(cells, None)])
}

fn queues<'a>(queues: &[Queue]) -> (u16, Content<'a>) {
    let header = [
        ("QUEUE", 16),
        ("entries", 9),
        ("unread", 9),
        ("pending", 7),
        ("oldest", 9),
        ("scheduled", 9),
        ("dead", 6),
        ("lost", 6),
    ];
    let rows = queues.iter().map(|queue| {
        let bad = queue.lost.is_some_and(|lost| lost > 0.0);
        let cells = [
            queue.name.clone(),
            number(queue.length),
            number(queue.lag),
            number(queue.pending),
            time(queue.oldest_seconds),
            number(queue.scheduled),
            number(queue.dead_letters),
            number(queue.lost),
        ];
        row(cells, bad.then_some(Color::Red))
    });
    table(&header, rows.collect())
}

fn nodes<'a>(locks: &Locks) -> (u16, Content<'a>) {
    let rows = locks.nodes.iter().map(|node| {
        let (state, colour) = node_state(node);
        row([node.name.clone(), state, rate(node.answers_per_second), rate(node.failures_per_second)], colour)
    });
    let (height, table) =
        table(&[("LOCK NODE", 16), ("state", 10), ("answers/s", 10), ("failures/s", 10)], rows.collect());
    // The next line belongs to it.
    (height - 1, table)
}

fn node_state(node: &Node) -> (String, Option<Color>) {
    match node {
        Node { up_for: 0, .. } => ("down".to_owned(), Some(Color::Red)),
        Node { up_for, known_to, .. } if up_for < known_to => (format!("up for {up_for}/{known_to}"), Some(Color::Red)),
        Node { quarantined: true, .. } => ("kept out".to_owned(), Some(Color::Yellow)),
        Node { breaker_open: true, .. } => ("too slow".to_owned(), Some(Color::Red)),
        _ => ("up".to_owned(), None),
    }
}

fn locks<'a>(locks: &Locks) -> (u16, Content<'a>) {
    let quorum = locks.quorum.map_or(UNKNOWN.to_owned(), count);
    let text = format!(
        "{quorum} of {} must grant; a second: {} granted, {} busy, {} without quorum, {} lost",
        locks.nodes.len(),
        rate(locks.acquired_per_second),
        rate(locks.contended_per_second),
        rate(locks.no_quorum_per_second),
        rate(locks.lost_per_second),
    );
    (2, Content::Text(Paragraph::new(text)))
}

fn store<'a>(store: &Store) -> (u16, Content<'a>) {
    let header = [
        ("DATABASE", 12),
        ("events/s", 8),
        ("commit p99", 10),
        ("conflicts/s", 11),
        ("repeated/s", 10),
        ("pool", 7),
        ("head", 11),
    ];
    let errors: Vec<&str> = store.errors_per_second.keys().map(String::as_str).collect();
    let state = match (&errors[..], store.connections_max) {
        ([], None) => UNKNOWN.to_owned(),
        ([], Some(_)) => "no errors".to_owned(),
        (errors, _) => errors.join(","),
    };
    let cells = [
        state,
        rate(store.events_per_second),
        time(store.append_p99_seconds),
        rate(store.conflicts_per_second),
        rate(store.retries_per_second),
        format!("{}/{}", number(store.connections_used), number(store.connections_max)),
        number(store.head_position),
    ];
    table(&header, vec![row(cells, (!errors.is_empty()).then_some(Color::Red))])
}

fn subscriptions<'a>(view: &View) -> (u16, Content<'a>) {
    let rows = view.subscriptions.iter().map(|subscription| {
        let state = subscription.state.clone().unwrap_or_else(|| UNKNOWN.to_owned());
        let stopped = (state == "stopped").then_some(Color::Red);
        let cells = [
            subscription.name.clone(),
            state,
            number(subscription.position),
            number(subscription.lag_events),
            time(subscription.lag_seconds),
            number(subscription.readers),
        ];
        row(cells, stopped)
    });
    let header = [("SUBSCRIPTION", 16), ("state", 10), ("position", 12), ("behind", 9), ("for", 9), ("readers", 7)];
    table(&header, rows.collect())
}

fn daemons<'a>(daemons: &[Daemon]) -> (u16, Content<'a>) {
    let header = [
        ("DAEMON", 14),
        ("role", 8),
        ("epoch", 5),
        ("version", 7),
        ("up", 9),
        ("memory", 9),
        ("cores", 5),
        ("jobs/s", 6),
        ("in flight", 9),
    ];
    let rows = daemons.iter().map(|daemon| {
        let cells = [
            daemon.url.clone(),
            role(daemon),
            number(daemon.epoch),
            daemon.version.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            time(daemon.up_seconds),
            daemon.memory_bytes.map_or(UNKNOWN.to_owned(), |bytes| format!("{} MiB", count(bytes / 1_048_576.0))),
            daemon.cpu_cores.map_or(UNKNOWN.to_owned(), |cores| format!("{cores:.2}")),
            rate(daemon.ended_per_second),
            number(daemon.in_flight),
        ];
        row(cells, daemon.away.is_some().then_some(Color::Red))
    });
    table(&header, rows.collect())
}

/// What it is to its streams, while it runs as it should.
fn role(daemon: &Daemon) -> String {
    let runs = daemon.state == "running";
    daemon.role.clone().filter(|_| runs).unwrap_or_else(|| daemon.state.clone())
}

/// A table of columns with these names and least widths, of which the first takes what the others leave; a blank line
/// follows.
fn table<'a>(columns: &[(&'static str, u16)], rows: Vec<Row<'a>>) -> (u16, Content<'a>) {
    let height = u16::try_from(rows.len()).unwrap_or(u16::MAX).saturating_add(2);
    let bold = Style::new().add_modifier(Modifier::BOLD).fg(Color::Cyan);
    let titles = columns.iter().enumerate().map(|(at, (name, _))| cell(at, (*name).to_owned()));
    let widths = columns.iter().enumerate().map(|(at, (_, width))| match at {
        0 => Constraint::Min(*width),
        _ => Constraint::Length(*width),
    });
    let table = Table::new(rows, widths).header(Row::new(titles).style(bold)).column_spacing(1);
    (height, Content::Table(table))
}

fn row<'a, const N: usize>(cells: [String; N], colour: Option<Color>) -> Row<'a> {
    let row = Row::new(cells.into_iter().enumerate().map(|(at, text)| cell(at, text)));
    colour.map_or(row.clone(), |colour| row.fg(colour))
}

/// Names on the left, numbers on the right.
fn cell<'a>(at: usize, text: String) -> Cell<'a> {
    let alignment = if at == 0 { Alignment::Left } else { Alignment::Right };
    Cell::from(Text::from(text).alignment(alignment))
}

fn number(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.to_owned(), count)
}

fn rate(value: Option<f64>) -> String {
    match value {
        None => UNKNOWN.to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) if value < 9.95 => format!("{value:.1}"),
        Some(value) => count(value),
    }
}

fn time(value: Option<f64>) -> String {
    value.map_or(UNKNOWN.to_owned(), seconds)
}
