//! Traces: a span for each request and for the steps of its path, exported to a collector.
//!
//! Without a collector in the config there are no spans: [`Traces::begin`] gives nothing, and
//! trace headers pass through as they came. With one, spans go by OTLP over HTTP (`export`),
//! in batches, from a thread of their own: no request waits for the collector.
//!
//! What spans say is bounded (`names`), and never a query, a header's value, a body or a
//! credential.

mod context;
mod export;
mod names;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::header::HeaderName;
use http::{HeaderMap, Method, Request, StatusCode};
use keyspec::Route;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use tokio::time::Instant;
use url::Url;

use super::{Outcome, Telemetry, TierName};
pub use export::TraceError;

/// Where the trace and the caller's span stand (W3C Trace Context section 3.2).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What tracing systems say to themselves (W3C Trace Context section 3.3).
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// How long the last spans may take to reach the collector when the server stops: at least the
/// shorter even past the drain deadline, and at most the longer.
const FLUSH_MIN: Duration = Duration::from_secs(1);
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// Where traces go, as configured.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The base URL of an OTLP/HTTP collector.
    pub endpoint: Url,
    /// The share of requests without a trace of their own that begin one, 0 to 1.
    pub sample: f64,
    /// What the collector is sent besides; all values are marked sensitive.
    pub headers: HeaderMap,
}

/// The traces of this server: exported, or off.
pub struct Traces(Option<Exporting>);

struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Begins exporting; without settings, traces are off. Opens no connection yet.
    ///
    /// # Errors
    /// When the client or the exporter cannot be made.
    ///
    /// # Panics
    /// With settings, outside of a Tokio runtime.
    pub fn new(
        settings: Option<TraceSettings>,
        telemetry: &Telemetry,
    ) -> Result<Traces, TraceError> {
        let Some(settings) = settings else { return Ok(Traces(None)) };
        let provider = export::provider(&settings, telemetry)?;
        let tracer = provider.tracer(names::SERVICE);
        tracing::info!(endpoint = %settings.endpoint, "traces are exported");
        Ok(Traces(Some(Exporting { provider, tracer })))
    }

    /// Whether requests have traces.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of a request, as a child of its caller's span; nothing if traces are off.
    /// Where the `traceparent` is missing or malformed, a new trace begins.
    pub fn begin<B>(&self, request: &Request<B>) -> Option<RequestTrace> {
        let exporting = self.0.as_ref()?;
        let parent = context::parent(request.headers());
        let starts_here = parent.is_none();
        let above = parent
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent));
        let begun = opentelemetry::time::now();
        let span = SpanBuilder::from_name(names::span(request.method(), None))
            .with_kind(SpanKind::Server)
            .with_start_time(begun)
            .with_attributes(names::of_request(request.method(), request.uri()));
        let tracer = exporting.tracer.clone();
        let context = above.with_span(tracer.build_with_context(span, &above));
        let model = OnceLock::new();
        Some(RequestTrace(Some(Arc::new(Recorded { tracer, context, begun, starts_here, model }))))
    }

    /// Exports what is left, until `deadline` or a little longer, and ends. Spans that end later
    /// are lost.
    pub async fn shut_down(&self, deadline: Instant) {
        let Some(exporting) = &self.0 else { return };
        let left = deadline.saturating_duration_since(Instant::now());
        let within = left.clamp(FLUSH_MIN, FLUSH_MAX);
        let provider = exporting.provider.clone();
        // It blocks, and the export that it waits for runs on this runtime.
        let ending =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(within)).await;
        if !matches!(ending, Ok(Ok(()))) {
            tracing::warn!("the last spans did not reach the collector in time");
        }
    }
}

impl std::fmt::Debug for Traces {
    /// Without the exporter: it holds what the collector is sent as a credential.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.are_on() { "Traces(on)" } else { "Traces(off)" })
    }
}

/// The trace of one request; empty if traces are off. Clones are of the same trace.
#[derive(Clone, Debug, Default)]
pub struct RequestTrace(Option<Arc<Recorded>>);

#[derive(Debug)]
struct Recorded {
    tracer: SdkTracer,
    /// Holds the request's span.
    context: Context,
    begun: SystemTime,
    /// The request brought no trace that it could be part of.
    starts_here: bool,
    /// What the model attribute of the request and its calls says, once it is known.
    model: OnceLock<KeyValue>,
}

impl Recorded {
    fn start(&self, span: SpanBuilder) -> Span {
        self.tracer.build_with_context(span, &self.context)
    }

    fn is_sampled(&self) -> bool {
        self.context.span().span_context().is_sampled()
    }
}

/// A call upstream, as its span tells it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: &'a Method,
    /// The model route, if it is one.
    pub route: Option<Route>,
    /// The upstream's name.
    pub upstream: &'a str,
    /// The upstream's base URL, for its host and port.
    pub base: &'a Url,
    /// The path that is asked for, without the query.
    pub path: &'a str,
}

impl RequestTrace {
    /// No trace.
    #[must_use]
    pub fn off() -> RequestTrace {
        RequestTrace(None)
    }

    /// Begins the span of the step that reads the request; it began when the request came.
    #[must_use]
    pub fn key(&self) -> Step {
        self.step(|trace| SpanBuilder::from_name(names::KEY).with_start_time(trace.begun))
    }

    /// Begins the span of looking for an entry.
    #[must_use]
    pub fn lookup(&self) -> Step {
        self.step(|_| SpanBuilder::from_name(names::LOOKUP))
    }

    /// Begins the span of joining or beginning a flight and waiting for the head of its answer.
    #[must_use]
    pub fn coalesce(&self) -> Step {
        self.step(|_| SpanBuilder::from_name(names::COALESCE))
    }

    /// Begins the span of storing an answer.
    #[must_use]
    pub fn store(&self) -> Step {
        self.step(|_| SpanBuilder::from_name(names::STORE))
    }

    /// A request that is not sampled has no steps.
    fn step(&self, span: impl FnOnce(&Recorded) -> SpanBuilder) -> Step {
        let sampled = self.0.as_ref().filter(|trace| trace.is_sampled());
        Step(sampled.map(|trace| Box::new(trace.start(span(trace)))))
    }

    /// Begins the span of a call upstream, and has `headers` say so: the upstream's span becomes
    /// a child of this one, sampled or not. A new trace has no use for a `tracestate` that came
    /// with none (W3C Trace Context section 4.2).
    #[must_use]
    pub fn fetch(&self, call: &Call<'_>, headers: &mut HeaderMap) -> Step {
        let Some(trace) = &self.0 else { return Step(None) };
        let span = SpanBuilder::from_name(names::span(call.method, call.route))
            .with_kind(SpanKind::Client)
            .with_attributes(names::of_call(call).into_iter().chain(trace.model.get().cloned()));
        let span = trace.start(span);
        if span.span_context().is_valid() {
            headers.insert(TRACEPARENT, context::traceparent(span.span_context()));
            if trace.starts_here {
                headers.remove(TRACESTATE);
            }
        }
        Step(Some(Box::new(span)))
    }

    /// Notes which model route the request is for.
    pub fn note_route(&self, method: &Method, route: Route) {
        self.edit(|span| {
            span.update_name(names::span(method, Some(route)));
            span.set_attributes(names::of_route(route));
        });
    }

    /// Notes which model the request asks for, for its own span and those of its calls. Only what
    /// is noted first counts.
    pub fn note_model(&self, model: Option<&str>) {
        let (Some(trace), Some(model)) = (&self.0, model) else { return };
        let model = names::of_model(model);
        if trace.model.set(model.clone()).is_ok() {
            trace.context.span().set_attribute(model);
        }
    }

    /// Notes how the request is answered. Only statuses from 500 on are a server's errors; says
    /// whether this is one.
    pub fn note_answer(&self, status: StatusCode, answer: Option<&Answered>) -> bool {
        let failed = status.is_server_error();
        self.edit(|span| {
            span.set_attribute(names::status(status));
            span.set_attributes(answer.into_iter().flat_map(names::of_answer));
            if failed {
                span.set_attribute(names::error(status.as_str()));
                span.set_status(Status::error(""));
            }
        });
        failed
    }

    /// Ends the request's span: its answer has been sent.
    pub fn end(&self) {
        self.edit(|span| span.end());
    }

    /// Ends the request's span as failed: its answer was cut off. `why` is a word of this program,
    /// or nothing where the span has an error already.
    pub fn end_cut(&self, why: Option<&'static str>) {
        self.edit(|span| {
            span.set_attributes(why.map(names::error));
            span.set_status(Status::error("the answer was cut off"));
            span.end();
        });
    }

    fn edit(&self, edit: impl FnOnce(opentelemetry::trace::SpanRef<'_>)) {
        if let Some(trace) = &self.0 {
            edit(trace.context.span());
        }
    }
}

/// How a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The outcome.
    pub outcome: Outcome,
    /// Why, in a word of this program; may be empty.
    pub reason: &'static str,
    /// The tier whose entry answered.
    pub tier: Option<TierName>,
}

/// The span of one step of a request's path, if there is one. It ends when this is dropped.
#[derive(Debug, Default)]
pub struct Step(Option<Box<Span>>);

impl Step {
    /// Notes which tier had an entry.
    pub fn note_tier(&mut self, tier: TierName) {
        self.note(|| names::tier(tier));
    }

    /// Notes what the request is on its flight, in a word of this program.
    pub fn note_role(&mut self, role: &'static str) {
        self.note(|| names::role(role));
    }

    /// Notes why an answer was not stored, in a word of this program.
    pub fn note_reason(&mut self, reason: &'static str) {
        self.note(|| names::reason(reason));
    }

    /// Notes what an upstream answered: statuses from 400 on are a client's errors.
    pub fn note_status(&mut self, status: StatusCode) {
        let Some(span) = &mut self.0 else { return };
        span.set_attribute(names::status(status));
        if status.is_client_error() || status.is_server_error() {
            span.set_attribute(names::error(status.as_str()));
            span.set_status(Status::error(""));
        }
    }

    /// Links this span to that of another trace whose work it waited for.
    pub fn link(&mut self, other: Option<&SpanContext>) {
        if let (Some(span), Some(other)) = (&mut self.0, other) {
            span.add_link(other.clone(), Vec::new());
        }
    }

    /// What others may link to, if the span is exported.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        let context = self.0.as_ref()?.span_context();
        context.is_sampled().then(|| context.clone())
    }

    /// Ends it as failed. `why` is a word of this program. After the end it does nothing.
    pub fn fail(&mut self, why: &'static str) {
        if let Some(mut span) = self.0.take() {
            span.set_attribute(names::error(why));
            span.set_status(Status::error(""));
        }
    }

    /// Ends it.
    pub fn end(&mut self) {
        self.0 = None;
    }

    fn note(&mut self, attribute: impl FnOnce() -> KeyValue) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(attribute());
        }
    }
}
