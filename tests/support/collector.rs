//! A collector: a real HTTP server that takes traces by OTLP and shows the spans that came.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;

use crate::upstream::Gate;
use crate::{Reply, Setup, Upstream, eventually};

/// A running collector.
#[derive(Debug)]
pub struct Collector(Upstream);

/// A span that was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Its name.
    pub name: String,
    /// Its trace, in hex.
    pub trace: String,
    /// Its own id, in hex.
    pub id: String,
    /// Its parent's id, in hex; empty if it has none.
    pub parent: String,
    /// Whether it serves, asks, or neither.
    pub kind: SpanKind,
    /// Its attributes, as texts.
    pub attributes: BTreeMap<String, String>,
    /// The spans that it is linked to: trace and id.
    pub links: Vec<(String, String)>,
    /// Whether it ended with an error.
    pub is_error: bool,
    /// How long it lasted.
    pub nanoseconds: u64,
}

impl Exported {
    /// An attribute's value, or the empty text.
    #[must_use]
    pub fn says(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }

    fn of(span: Span) -> Exported {
        Exported {
            kind: span.kind(),
            is_error: span.status.is_some_and(|status| status.code() == StatusCode::Error),
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            attributes: texts(span.attributes),
            links: span
                .links
                .iter()
                .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                .collect(),
            nanoseconds: span.end_time_unix_nano - span.start_time_unix_nano,
        }
    }
}

impl Collector {
    /// Starts one that takes everything.
    pub async fn start() -> Collector {
        Collector(Upstream::start(|_| Reply::bytes("")).await)
    }

    /// Starts one that answers nothing until the gate is opened.
    pub async fn held_by(gate: Gate) -> Collector {
        Collector(Upstream::start(move |_| Reply::bytes("").held_by(&gate)).await)
    }

    /// How to start a server in front of `upstream` that exports to this one, without much delay.
    #[must_use]
    pub fn behind(&self, upstream: &Upstream) -> Setup {
        Setup::in_front_of(upstream)
            .config(&format!("[trace]\nendpoint = \"{}\"", self.url()))
            .variable("OTEL_BSP_SCHEDULE_DELAY", "20")
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// How many batches have come.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.0.calls()
    }

    /// Everything that came, as bytes: fields and bodies.
    #[must_use]
    pub fn raw(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.received().into_iter().map(|batch| (batch.headers, batch.body)).collect()
    }

    /// All spans that came so far.
    ///
    /// # Panics
    /// When something came that is no batch of spans.
    #[must_use]
    pub fn spans(&self) -> Vec<Exported> {
        let scopes = self.resources().into_iter().flat_map(|(_, spans)| spans);
        scopes.map(Exported::of).collect()
    }

    /// What the first batch says of who sends it.
    ///
    /// # Panics
    /// When none came.
    #[must_use]
    pub fn resource(&self) -> BTreeMap<String, String> {
        let (resource, _) = self.resources().into_iter().next().expect("a batch has come");
        texts(resource)
    }

    fn resources(&self) -> Vec<(Vec<KeyValue>, Vec<Span>)> {
        let mut resources = Vec::new();
        for batch in self.0.received() {
            assert_eq!((batch.method.as_str(), batch.uri.path()), ("POST", "/v1/traces"));
            assert_eq!(batch.headers["content-type"], "application/x-protobuf");
            let batch = ExportTraceServiceRequest::decode(batch.body).expect("a batch of spans");
            for of_resource in batch.resource_spans {
                let resource = of_resource.resource.unwrap_or_default().attributes;
                let scopes = of_resource.scope_spans.into_iter();
                resources.push((resource, scopes.flat_map(|scope| scope.spans).collect()));
            }
        }
        resources
    }

    /// Waits for a span of this name in this trace.
    pub async fn span(&self, trace: &str, name: &str) -> Exported {
        eventually(&format!("the span {name} of {trace}"), || async {
            self.spans().into_iter().find(|span| span.trace == trace && span.name == name)
        })
        .await
    }

    /// Waits for the span of the request in this trace, and gives all of the trace that came
    /// until then, by name; `fetch` stands for the call upstream.
    pub async fn request(&self, trace: &str) -> BTreeMap<String, Exported> {
        eventually(&format!("the request's span of {trace}"), || async {
            let spans = self.spans().into_iter().filter(|span| span.trace == trace);
            let named = |span: Exported| match span.kind {
                SpanKind::Server => ("request".to_owned(), span),
                SpanKind::Client => ("fetch".to_owned(), span),
                _ => (span.name.clone(), span),
            };
            let spans: BTreeMap<String, Exported> = spans.map(named).collect();
            spans.contains_key("request").then_some(spans)
        })
        .await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for attribute in attributes {
        let value = attribute.value.and_then(|AnyValue { value }| value);
        let text = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => panic!("{}: {other:?} is no text and no number", attribute.key),
        };
        let twice = texts.insert(attribute.key.clone(), text);
        assert_eq!(twice, None, "{} is there twice", attribute.key);
    }
    texts
}
