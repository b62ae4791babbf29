//! A real Prometheus that scrapes daemons of a test and evaluates the repository's alerts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use throwaway::servers::{Folder, Process, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::panels::text;

/// One series of an answer.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its labels, without the name.
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

pub struct Prometheus {
    process: Process,
    address: String,
}

/// What the test's copy of the alerts has in place of what operators get, so that a fault shows within seconds.
const SHORTER: [(&str, &str); 7] = [
    ("for: 15m", "for: 1s"),
    ("for: 5m", "for: 1s"),
    ("for: 2m", "for: 1s"),
    ("for: 1m", "for: 1s"),
    ("[15m]", "[10s]"),
    ("[5m]", "[10s]"),
    ("[1m]", "[10s]"),
];

impl Prometheus {
    /// Starts one with the configuration of docker-compose.yml, which scrapes every second and scrapes `targets` instead.
    pub async fn start(folder: &Arc<Folder>, targets: &[String]) -> Self {
        let rules = SHORTER.iter().fold(text("grafana/alerts/lockkeeper.yml"), |rules, (long, short)| {
            assert!(rules.contains(long), "no alert has {long}");
            rules.replace(long, short)
        });
        let late = "(lockkeeper_stream_paused) == bool 0) > 60";
        assert!(rules.contains(late));
        let rules_file = folder.path().join("rules.yml");
        std::fs::write(&rules_file, rules.replace(late, &late.replace("60", "5"))).expect("the rules are written");
        let targets: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
        let rules = rules_file.display().to_string();
        let config = configuration(&rules, &targets.join(", ")).replace("_interval: 5s", "_interval: 1s");
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("the configuration is written");
        let address = format!("127.0.0.1:{}", free_port().expect("a free port"));
        let arguments = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("prometheus").display()),
            format!("--web.listen-address={address}"),
            "--log.level=warn".to_owned(),
        ];
        let program = program("prometheus");
        let mut process = Process::start(folder, "prometheus", &program, arguments, &[]).expect("prometheus starts");
        let ready = || {
            let address = address.clone();
            async move { get(&address, "/-/ready").await.is_some_and(|(status, _)| status == 200) }
        };
        process.ready(Duration::from_secs(60), ready).await.expect("prometheus is ready");
        Self { process, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks `path` of the API; the answer's `data`, or why there is none.
    async fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let parameters: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let path = format!("/api/v1/{path}?{}", parameters.join("&"));
        let Some((_, body)) = get(&self.address, &path).await else {
            return Err(format!("no answer: {}", self.process.last_lines()));
        };
        let answer: Value = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer["error"].to_string()) }
    }

    /// The present value of an expression.
    pub async fn query(&self, expr: &str) -> Result<Vec<Series>, String> {
        let data = self.api("query", &[("query", expr)]).await?;
        let series = |one: &Value| {
            let labels = one["metric"].as_object()?.iter();
            let labels = labels.map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()));
            let labels = labels.filter(|(name, _)| name != "__name__").collect();
            Some(Series { labels, value: one["value"][1].as_str()?.parse().ok()? })
        };
        let list = data["result"].as_array().ok_or("the answer is no vector")?;
        list.iter().map(series).collect::<Option<_>>().ok_or_else(|| format!("not understood: {data}"))
    }

    /// All values that a label has had.
    pub async fn label_values(&self, label: &str, matching: &str) -> Vec<String> {
        let chosen = [("match[]", matching)];
        let chosen: &[_] = if matching.is_empty() { &[] } else { &chosen };
        let data = self.api(&format!("label/{label}/values"), chosen).await.expect("label values");
        serde_json::from_value(data).expect("a list of values")
    }

    /// Names and expressions of the alerts.
    pub async fn alerts(&self) -> Vec<(String, String)> {
        let data = self.api("rules", &[("type", "alert")]).await.expect("the rules");
        let rules = data["groups"].as_array().expect("groups").iter().flat_map(|group| group["rules"].as_array());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules.flatten().map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
    }

    /// The labels of all alerts that fire.
    pub async fn firing(&self) -> Vec<BTreeMap<String, String>> {
        let Ok(data) = self.api("alerts", &[]).await else { return Vec::new() };
        let alerts = data["alerts"].as_array().into_iter().flatten();
        let alerts = alerts.filter(|alert| alert["state"] == "firing");
        alerts.filter_map(|alert| serde_json::from_value(alert["labels"].clone()).ok()).collect()
    }
}

/// The configuration of docker-compose.yml with these rules and targets.
pub fn configuration(rules: &str, targets: &str) -> String {
    let config = text("grafana/prometheus/prometheus.yml");
    let (ours, theirs) = ("/etc/prometheus/alerts/lockkeeper.yml", "\"lockkeeper:9464\"");
    assert!(config.contains(ours) && config.contains(theirs), "{config}");
    config.replace(ours, rules).replace(theirs, targets)
}

/// Runs promtool with this on its standard input; all that it says, and whether it is content.
pub fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    use std::io::Write;
    let mut command = Command::new(program("promtool"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool runs");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.success(), said)
}

fn program(name: &str) -> PathBuf {
    let folders = std::env::var("PATH").unwrap_or_default();
    let file = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|file| file.exists());
    file.unwrap_or_else(|| panic!("{name} is not on the PATH: `make observability` installs it"))
}

/// Status and body of a GET by HTTP/1.0, which knows no chunks.
async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let ask = async {
        let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    };
    tokio::time::timeout(Duration::from_secs(10), ask).await.ok()?
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Checks a rule file or a configuration file with promtool.
pub fn check(kind: &str, path: &Path) {
    let (content, said) = promtool(&["check", kind, &path.display().to_string()], "");
    assert!(content, "promtool check {kind}: {said}");
}
