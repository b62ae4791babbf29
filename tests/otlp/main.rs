//! Spans of jobs, as a collector receives them: `make otlp`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use serde_json::Value;

use support::{eventually, lockkeeper, world::World};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// What was sent to a collector: path, headers, body.
type Exports = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;

/// A collector that keeps what it gets.
struct Collector {
    endpoint: String,
    exports: Exports,
}

impl Collector {
    async fn new() -> Self {
        let exports = Exports::default();
        let kept = exports.clone();
        let keep = async move |uri: Uri, headers: HeaderMap, body: Bytes| {
            kept.lock().expect("no test panics here").push((uri.path().to_owned(), headers, body));
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let serve = async move { axum::serve(listener, Router::new().fallback(keep)).await };
        tokio::spawn(serve);
        Self { endpoint, exports }
    }

    fn exports(&self) -> Vec<(String, HeaderMap, Bytes)> {
        self.exports.lock().expect("no test panics here").clone()
    }

    /// The spans so far, of exports in JSON.
    fn spans(&self) -> Vec<Value> {
        let bodies = self.exports().into_iter().map(|(_, _, body)| body);
        let exports = bodies.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
        let of = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let scopes = exports.flat_map(|export| of(&export, "resourceSpans")).flat_map(|part| of(&part, "scopeSpans"));
        scopes.flat_map(|scope| of(&scope, "spans")).collect()
    }

    /// The span of a job, once it is here.
    async fn span(&self, job: impl std::fmt::Display) -> Value {
        let job = job.to_string();
        let find = || self.spans().into_iter().find(|span| attribute(span, "job.id") == Some(job.clone()));
        eventually(&format!("the span of {job} is exported"), async || find()).await
    }
}

fn attribute(span: &Value, name: &str) -> Option<String> {
    let attributes = span["attributes"].as_array()?;
    let value = &attributes.iter().find(|attribute| attribute["key"] == name)?["value"];
    value["stringValue"].as_str().or(value["intValue"].as_str()).map(str::to_owned)
}

#[tokio::test]
async fn a_job_s_span_continues_its_producer_s_trace_and_is_linked_to_it() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let daemon = world
        .daemon(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop"),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ])
        .await;
    let pen = world.id("pen");
    world.item_on_sale(&pen, 1).await;
    let push = async |quantity: u32, traceparent: &str| {
        let data = format!(r#"{{"quantity":{quantity}}}"#);
        world.push_with("item.restock", &pen, &data, &[("traceparent", traceparent)]).await
    };
    let unsampled = push(1, &format!("00-{TRACE}-{PARENT}-00")).await;
    let traced = push(1, &format!("00-{TRACE}-{PARENT}-01")).await;
    let dead = push(0, &format!("00-{TRACE}-{PARENT}-01")).await;
    let garbled = push(1, "00-nonsense").await;

    let span = collector.span(traced).await;
    assert_eq!((span["traceId"].as_str(), span["parentSpanId"].as_str()), (Some(TRACE), Some(PARENT)), "{span}");
    assert_eq!(span["links"][0]["traceId"], TRACE, "{span}");
    assert_eq!(span["links"][0]["spanId"], PARENT, "{span}");
    assert_eq!((span["name"].clone(), span["kind"].clone()), (format!("process {}", world.stream).into(), 5.into()));
    let expected = [
        ("messaging.destination.name", world.stream.clone()),
        ("job.type", "item.restock".to_owned()),
        ("job.outcome", "applied".to_owned()),
        ("aggregate.id", format!("item/{pen}")),
    ];
    for (name, value) in expected {
        assert_eq!(attribute(&span, name), Some(value), "{name} of {span}");
    }
    let nanos = |name: &str| span[name].as_str().and_then(|text| text.parse::<u64>().ok()).expect("a time");
    let took = nanos("endTimeUnixNano") - nanos("startTimeUnixNano");
    assert!((1..60_000_000_000).contains(&took), "{took} ns");

    let dead = collector.span(dead).await;
    assert_eq!(dead["status"]["code"], 2, "a dead job is an error: {dead}");
    let garbled = collector.span(garbled).await;
    assert!(garbled["traceId"] != TRACE && garbled["links"].as_array().is_none_or(Vec::is_empty), "{garbled}");
    assert!(garbled["parentSpanId"].as_str().is_none_or(str::is_empty), "{garbled}");

    world.drained().await;
    let (path, headers, body) = collector.exports().remove(0);
    assert_eq!((path.as_str(), &headers["x-tenant"]), ("/v1/traces", &"shop".parse().expect("a header")));
    let export: Value = serde_json::from_slice(&body).expect("JSON");
    let service = attribute(&export["resourceSpans"][0]["resource"], "service.name");
    assert_eq!(service.as_deref(), Some("lockkeeper"), "{export}");
    let spans = collector.spans();
    let of = |job: lockkeeper::job::JobId| {
        let job = Some(job.to_string());
        spans.iter().filter(|span| attribute(span, "job.id") == job).count()
    };
    assert_eq!(of(traced), 1, "one span per job");
    assert_eq!(of(unsampled), 0, "the producer chose not to sample this trace");
    drop(daemon);
}

#[tokio::test]
async fn what_is_left_is_exported_when_the_daemon_drains_as_protobuf_unless_told_otherwise() {
    let (world, collector) = (World::new().await, Collector::new().await);
    let endpoint = format!("{}/traces-only", collector.endpoint);
    let mut daemon = world
        .daemon(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")])
        .await;
    let pen = world.id("pen");
    let with = [("traceparent", format!("00-{TRACE}-{PARENT}-01"))];
    let with = with.each_ref().map(|(name, value)| (*name, value.as_str()));
    let job = world.push_with("item.restock", &pen, r#"{"quantity":1}"#, &with).await;
    assert_eq!(world.receipt(job).await.outcome, "rejected");
    world.drained().await;
    assert_eq!(collector.exports().len(), 0, "an hour has not passed");
    assert_eq!(daemon.terminate().await, Some(0), "{}", daemon.process.last_lines());
    let [(path, headers, body)] = &collector.exports()[..] else { panic!("one export: {:?}", collector.exports()) };
    assert_eq!((path.as_str(), headers["content-type"].as_bytes()), ("/traces-only", &b"application/x-protobuf"[..]));
    let trace = u128::from_str_radix(TRACE, 16).expect("hexadecimal").to_be_bytes();
    let has = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    assert!(has(&trace) && has(job.to_string().as_bytes()) && has(b"item_not_found"), "{body:?}");
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_neither_slows_nor_stops_jobs_nor_the_drain() {
    let world = World::new().await;
    // It accepts connections, since the kernel does, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    for endpoint in ["http://127.0.0.1:1", &silent_endpoint] {
        let mut daemon = world
            .daemon(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
                ("OTEL_BSP_SCHEDULE_DELAY", "20"),
                ("OTEL_BSP_MAX_QUEUE_SIZE", "64"),
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64"),
            ])
            .await;
        let mut pipeline = redis::pipe();
        for _ in 0..3000 {
            let command = pipeline.cmd("XADD").arg(&world.stream).arg("*").arg("type").arg("item.restock");
            command.arg("key").arg("pen").arg("data").arg(r#"{"quantity":1}"#).ignore();
        }
        pipeline.query_async::<()>(&mut world.redis.clone()).await.expect("the jobs are pushed");
        world.drained().await;
        let since = Instant::now();
        assert_eq!(daemon.terminate().await, Some(0), "{}", daemon.process.last_lines());
        assert!(since.elapsed() < Duration::from_secs(5), "{endpoint}: the drain took {:?}", since.elapsed());
        let words = daemon.process.words();
        assert!(words.lines().count() < 60, "the log is flooded: {words}");
        assert!(words.contains("lockkeeper has ended"), "{words}");
    }
    let mut daemon = world.daemon(&[("OTEL_EXPORTER_OTLP_ENDPOINT", silent_endpoint.as_str())]).await;
    world.receipt(world.push("item.restock", "pen", r#"{"quantity":1}"#).await).await;
    daemon.process.signal("TERM").expect("SIGTERM is sent");
    eventually("the daemon drains", async || daemon.process.words().contains("draining").then_some(())).await;
    let since = Instant::now();
    daemon.terminate().await;
    assert!(since.elapsed() < Duration::from_secs(1), "after a second signal it took {:?}", since.elapsed());
}

#[tokio::test]
async fn a_protocol_that_is_not_spoken_is_refused_at_start() {
    let world = World::new().await;
    let mut environment = world.environment();
    let more = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    environment.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let (code, output) = lockkeeper(&["run"], &environment).await;
    assert_eq!(code, Some(78), "{output}");
    assert!(output.contains("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or http/json"), "{output}");
}
