//! The way of spans to the collector: a bounded queue, batches, OTLP over HTTP.
//!
//! The SDK's batch processor does the batching on a thread of its own. It keeps to itself what it
//! drops, so the bound is ours: [`Queue`] lets a span in only where there is room, and counts
//! what it turns away. The thread has no runtime, so [`Courier`] sends on the server's own.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Collected, Limited};
use metrics::Counter;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, Sampler,
    SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use tokio::runtime::Handle;

use super::{TraceSettings, names};
use crate::telemetry::Telemetry;

/// How often a failure to export is told.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);
/// Ended spans that wait for the collector; further ones are dropped and counted.
const QUEUE_SPANS_MAX: usize = 2048;
/// How long one try to send a batch may take, and how long a batch is tried again.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a connection to the collector stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a collector's answer; a longer one is left unread.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is no HTTP client for the collector.
    #[error("cannot make a client for the collector (are CA certificates installed?)")]
    Client(#[from] reqwest::Error),
    /// There is no exporter: an `OTEL_…` variable says what cannot be.
    #[error("cannot export traces")]
    Exporter(#[from] ExporterBuildError),
}

/// Begins exporting.
pub(super) fn provider(
    settings: &TraceSettings,
    telemetry: &Telemetry,
) -> Result<SdkTracerProvider, TraceError> {
    let endpoint = format!("{}/v1/traces", settings.endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Courier::new(settings)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(SEND_TIMEOUT)
        .build()?;
    let queue = Arc::new(Queue::new(QUEUE_SPANS_MAX, telemetry.spans_dropped("queue-full")));
    let failed = telemetry.spans_dropped("export-failed");
    let exporter = CountedExporter { exporter, queue: Arc::clone(&queue), failed };
    Ok(SdkTracerProvider::builder()
        .with_span_processor(QueuedProcessor::new(exporter, queue))
        .with_sampler(sampler(settings.sample))
        .with_resource(resource())
        .build())
}

/// The caller's sampled flag decides; where a trace begins here, the share does.
pub(super) fn sampler(share: f64) -> Sampler {
    Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)))
}

/// Who we are to the collector. More can be said by `OTEL_RESOURCE_ATTRIBUTES`.
fn resource() -> Resource {
    // As random as it needs to be: it tells one start of one server from all others.
    let instance = RandomIdGenerator::default().new_trace_id().to_string();
    Resource::builder()
        .with_service_name(names::SERVICE)
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

/// How many ended spans wait to be sent.
#[derive(Debug)]
struct Queue {
    spans_max: usize,
    waiting: AtomicUsize,
    turned_away: Counter,
}

impl Queue {
    fn new(spans_max: usize, turned_away: Counter) -> Queue {
        Queue { spans_max, waiting: AtomicUsize::new(0), turned_away }
    }

    /// Whether there is room for one more span; it is then counted as waiting.
    fn enter(&self) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.spans_max {
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.turned_away.increment(1);
        false
    }

    fn leave(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
    }
}

/// The SDK's batches behind our bound.
#[derive(Debug)]
struct QueuedProcessor {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl QueuedProcessor {
    /// The SDK's own queue has the same bound. A span leaves it before it leaves ours, so that it
    /// never has to drop one.
    fn new<E>(exporter: CountedExporter<E>, queue: Arc<Queue>) -> QueuedProcessor
    where
        E: opentelemetry_sdk::trace::SpanExporter + 'static,
    {
        let config = BatchConfigBuilder::default().with_max_queue_size(queue.spans_max).build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        QueuedProcessor { batches, queue }
    }
}

impl SpanProcessor for QueuedProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter whose failures are counted.
#[derive(Debug)]
struct CountedExporter<E> {
    exporter: E,
    queue: Arc<Queue>,
    failed: Counter,
}

impl<E: opentelemetry_sdk::trace::SpanExporter> opentelemetry_sdk::trace::SpanExporter
    for CountedExporter<E>
{
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queue.leave(spans);
        let exported = self.exporter.export(batch).await;
        if exported.is_err() {
            self.failed.increment(spans as u64);
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Carries batches to the collector. It is asked from a thread without a runtime, and sends on
/// the server's.
struct Courier {
    client: reqwest::Client,
    headers: HeaderMap,
    runtime: Handle,
    complained: Mutex<Option<Instant>>,
}

impl Courier {
    fn new(settings: &TraceSettings) -> Result<Courier, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(SEND_TIMEOUT);
        if settings.endpoint.scheme() == "http" {
            // TLS is never spoken, and the machine's certificate authorities may be missing.
            builder = builder.tls_certs_only([]);
        }
        Ok(Courier {
            client: builder.build()?,
            headers: settings.headers.clone(),
            runtime: Handle::current(),
            complained: Mutex::new(None),
        })
    }

    /// Tells the operator that spans are lost, and why, from time to time.
    fn complain(&self, why: &dyn std::fmt::Display) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if is_due(&mut complained, Instant::now()) {
            tracing::warn!("the collector did not take spans: {why}");
        }
    }
}

/// Whether the next complaint is due; it then counts as made.
fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.duration_since(last) >= NOTE_INTERVAL);
    if due {
        *last = Some(now);
    }
    due
}

impl std::fmt::Debug for Courier {
    /// Without the headers: they may hold a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Courier")
    }
}

#[async_trait]
impl HttpClient for Courier {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        let sending = self.runtime.spawn(send(self.client.clone(), request));
        let sent = sending.await.map_err(HttpError::from).and_then(|sent| sent);
        match &sent {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.complain(&answer.status()),
            Err(error) => self.complain(&innermost(error.as_ref())),
        }
        sent
    }
}

async fn send(
    client: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let answer: Response<reqwest::Body> = client.execute(request.try_into()?).await?.into();
    let (parts, body) = answer.into_parts();
    let whole = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    // The status says whether the batch was taken. Not to have read the rest is no reason to send
    // it again.
    let body = whole.map(Collected::to_bytes).unwrap_or_default();
    Ok(Response::from_parts(parts, body))
}

/// The cause that says most; the client's own words would repeat the URL.
fn innermost<'e>(error: &'e (dyn Error + 'static)) -> &'e (dyn Error + 'static) {
    std::iter::successors(Some(error), |&error| error.source()).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Levels;
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use std::sync::mpsc;

    const QUEUE_FULL: &str = "cache_server_spans_dropped_total{reason=\"queue-full\"}";
    const EXPORT_FAILED: &str = "cache_server_spans_dropped_total{reason=\"export-failed\"}";

    /// Holds every batch until the test lets go of it, then fails.
    #[derive(Debug)]
    struct Held {
        came: mpsc::SyncSender<usize>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl opentelemetry_sdk::trace::SpanExporter for Held {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.came.send(batch.len()).unwrap();
            self.go_on.lock().unwrap().recv().unwrap();
            Err(OTelSdkError::InternalFailure("as told".into()))
        }
    }

    fn counted(telemetry: &Telemetry, series: &str) -> Option<String> {
        let text = telemetry.render(&Levels::default());
        text.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
    }

    #[test]
    fn a_collector_that_is_gone_is_complained_of_once_in_an_interval() {
        let (mut last, start) = (None, Instant::now());
        assert!(is_due(&mut last, start));
        assert!(!is_due(&mut last, start + NOTE_INTERVAL / 2));
        assert!(is_due(&mut last, start + NOTE_INTERVAL));
        assert!(!is_due(&mut last, start + NOTE_INTERVAL * 3 / 2));
    }

    #[test]
    fn a_span_without_room_in_the_queue_is_dropped_and_counted_and_so_are_failed_batches() {
        let telemetry = Telemetry::silent();
        let (came, arrived) = mpsc::sync_channel(9);
        let (let_go, go_on) = mpsc::sync_channel(9);
        let queue = Arc::new(Queue::new(4, telemetry.spans_dropped("queue-full")));
        let exporter = CountedExporter {
            exporter: Held { came, go_on: Mutex::new(go_on) },
            queue: Arc::clone(&queue),
            failed: telemetry.spans_dropped("export-failed"),
        };
        let processor = QueuedProcessor::new(exporter, queue);
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");

        drop(tracer.start("taken up at once"));
        let flushing = std::thread::spawn({
            let provider = provider.clone();
            move || provider.force_flush()
        });
        assert_eq!(arrived.recv().unwrap(), 1);
        // The collector hangs: four wait, and three find no room. None of them blocks.
        for _ in 0..7 {
            drop(tracer.start("ended meanwhile"));
        }
        assert_eq!(counted(&telemetry, QUEUE_FULL).as_deref(), Some("3"));

        let_go.send(()).unwrap();
        let_go.send(()).unwrap();
        assert!(flushing.join().unwrap().is_err());
        assert!(provider.shutdown().is_ok());
        assert_eq!(arrived.recv().unwrap(), 4);
        assert_eq!(counted(&telemetry, QUEUE_FULL).as_deref(), Some("3"));
        assert_eq!(counted(&telemetry, EXPORT_FAILED).as_deref(), Some("5"));
    }
}
