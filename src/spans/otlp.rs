//! The exporter: the SDK's batches, on a thread and a bounded queue of their own, sent over HTTP.
//!
//! The SDK reads the standard variables. HTTP is `ureq`'s, which this program has anyway; the SDK's own client would bring
//! a second HTTP stack and a second TLS library.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TIMEOUT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT,
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::{JobSpan, SpansError};

/// A tracer and what exports its spans.
#[derive(Clone, Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    /// An exporter to the collector that the environment names; `None` when it names none or turns the SDK off.
    pub(super) fn from_environment() -> Result<Option<Self>, SpansError> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let is_off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let named = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT]
            .into_iter()
            .any(|name| set(name).is_some());
        if is_off || !named {
            return Ok(None);
        }
        let protocol = [OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL].into_iter().find_map(set);
        let protocol = protocol_of(protocol.as_deref())?;
        let limit = [OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT]
            .into_iter()
            .find_map(|name| set(name)?.trim().parse().ok().map(Duration::from_millis));
        let client = Client::new(limit.unwrap_or(Duration::from_secs(10)));
        let exporter = SpanExporter::builder().with_http().with_http_client(client).with_protocol(protocol).build();
        let exporter = exporter.map_err(|error| SpansError(error.to_string()))?;
        let mut resource = Resource::builder();
        if set("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("lockkeeper");
        }
        let resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build();
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        // The provider's own end would wait five seconds for a collector that is silent, also after a second signal. So it
        // has none: what is left is exported by `finish`.
        std::mem::forget(provider.clone());
        let tracer = provider.tracer("lockkeeper");
        Ok(Some(Self { provider, tracer }))
    }

    /// The job's span is a child of the producer's, so that both are one trace, and has a link to it, as the conventions for
    /// messaging want. Without a valid trace context it begins a trace of its own.
    pub(super) fn record(&self, span: &JobSpan<'_>) {
        let carrier = span.traceparent.map(|text| ("traceparent".to_owned(), text.to_owned()));
        let carrier: HashMap<String, String> = carrier.into_iter().collect();
        let producer = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        let mut builder = self.tracer.span_builder(format!("process {}", span.queue));
        builder.span_kind = Some(SpanKind::Consumer);
        builder.start_time = Some(span.began);
        builder.attributes = Some(attributes(span));
        let origin = producer.span().span_context().clone();
        if origin.is_valid() {
            builder = builder.with_links(vec![opentelemetry::trace::Link::with_context(origin)]);
        }
        let mut recorded = builder.start_with_context(&self.tracer, &producer);
        if span.outcome == "dead" {
            recorded.set_status(opentelemetry::trace::Status::error(span.reason.unwrap_or_default().to_owned()));
        }
        recorded.end_with_timestamp(span.ended);
    }

    /// On a thread of its own, which the end of the process need not wait for.
    pub(super) async fn finish(&self, limit: Duration) {
        let provider = self.provider.clone();
        let (done, flushed) = tokio::sync::oneshot::channel();
        let flush = move || drop(done.send(provider.shutdown_with_timeout(limit)));
        if std::thread::Builder::new().name("spans".to_owned()).spawn(flush).is_err() {
            return;
        }
        match tokio::time::timeout(limit, flushed).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not exported"),
            Ok(Err(_)) | Err(_) => tracing::warn!("the last spans were not exported in time"),
        }
    }
}

/// The protocol of this name; without one `http/protobuf`, as the specification has it.
fn protocol_of(name: Option<&str>) -> Result<Protocol, SpansError> {
    match name {
        None | Some("http/protobuf") => Ok(Protocol::HttpBinary),
        Some("http/json") => Ok(Protocol::HttpJson),
        Some(other) => Err(SpansError(format!(
            "{OTEL_EXPORTER_OTLP_PROTOCOL} must be http/protobuf or http/json, and is {other:?}"
        ))),
    }
}

fn attributes(span: &JobSpan<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("messaging.system", "redis"),
        KeyValue::new("messaging.operation.type", "process"),
        KeyValue::new("messaging.operation.name", "process"),
        KeyValue::new("messaging.destination.name", span.queue.to_owned()),
        KeyValue::new("messaging.message.id", span.entry.to_string()),
        KeyValue::new("job.id", span.id.to_string()),
        KeyValue::new("job.type", span.job_type.unwrap_or("other")),
        KeyValue::new("job.outcome", span.outcome),
        KeyValue::new("batch.jobs", i64::try_from(span.batch_jobs).unwrap_or(i64::MAX)),
    ];
    let aggregate = span.aggregate.map(|aggregate| KeyValue::new("aggregate.id", aggregate.to_string()));
    let reason = span.reason.map(|reason| KeyValue::new("job.reason", reason.to_owned()));
    attributes.extend(aggregate.into_iter().chain(reason));
    attributes
}

/// HTTP for the exporter's thread, where waiting is allowed.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new(limit: Duration) -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).build();
        Self(config.into())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, mut body) = self.0.run(request.map(|body| body.to_vec()))?.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.send(request) })
    }
}
