//! Tests of which requests are sampled, and of what the upstream is told.

use keyspec::ModelRoute;

use super::*;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Traces that go nowhere, of this share of requests.
fn traces(share: f64) -> Traces {
    let provider = SdkTracerProvider::builder().with_sampler(export::sampler(share)).build();
    let tracer = provider.tracer("test");
    Traces(Some(Exporting { provider, tracer }))
}

fn request(fields: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::post("/v1/embeddings");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// What the upstream is sent for this request.
fn forwarded(traces: &Traces, request: &Request<()>) -> HeaderMap {
    let trace = traces.begin(request).unwrap_or_default();
    let base = Url::parse("http://upstream:8080/base").unwrap();
    let mut headers = request.headers().clone();
    let call = Call {
        method: request.method(),
        route: Some(Route::Model(ModelRoute::OpenAiEmbeddings)),
        upstream: "upstream",
        base: &base,
        path: "/base/v1/embeddings",
    };
    let _span = trace.fetch(&call, &mut headers);
    headers
}

fn is_sampled(traces: &Traces, request: &Request<()>) -> bool {
    let trace = traces.begin(request).expect("traces are on");
    trace.lookup().context().is_some()
}

#[test]
fn a_request_without_a_trace_is_sampled_by_the_share() {
    assert!(is_sampled(&traces(1.0), &request(&[])));
    assert!(!is_sampled(&traces(0.0), &request(&[])));
    let half = traces(0.5);
    let sampled = (0..1000).filter(|_| is_sampled(&half, &request(&[]))).count();
    // Beyond twelve standard deviations.
    assert!((300..700).contains(&sampled), "{sampled} of 1000");
}

#[test]
fn the_callers_flag_goes_before_the_share() {
    assert!(is_sampled(&traces(0.0), &request(&[("traceparent", SAMPLED)])));
    assert!(!is_sampled(&traces(1.0), &request(&[("traceparent", UNSAMPLED)])));
}

#[test]
fn the_upstream_is_told_of_our_span_in_the_callers_trace_and_its_flag_is_kept() {
    for (traceparent, flags) in [(SAMPLED, "01"), (UNSAMPLED, "00")] {
        let asked =
            request(&[("traceparent", traceparent), ("tracestate", "a=1"), ("baggage", "b=2")]);
        let headers = forwarded(&traces(1.0), &asked);
        let told = headers["traceparent"].to_str().unwrap();
        assert_eq!((&told[..36], &told[53..]), (&traceparent[..36], flags));
        assert_ne!(told[36..52], traceparent[36..52], "the parent is our span");
        assert_eq!(headers["tracestate"], "a=1");
        assert_eq!(headers["baggage"], "b=2");
    }
}

#[test]
fn without_a_usable_traceparent_a_new_trace_begins_and_takes_no_tracestate_along() {
    for fields in [
        &[("tracestate", "a=1"), ("baggage", "b=2")][..],
        &[("traceparent", "00-nonsense-01"), ("tracestate", "a=1"), ("baggage", "b=2")][..],
    ] {
        let traces = traces(1.0);
        let headers = forwarded(&traces, &request(fields));
        assert!(context::parent(&headers).is_some(), "{headers:?}");
        assert_eq!(headers.get("tracestate"), None);
        assert_eq!(headers["baggage"], "b=2");
        assert_ne!(forwarded(&traces, &request(fields))["traceparent"], headers["traceparent"]);
    }
}

#[test]
fn with_traces_off_headers_stay_as_they_came() {
    let off = Traces(None);
    for traceparent in [SAMPLED, UNSAMPLED, "00-nonsense-01"] {
        let asked = request(&[("traceparent", traceparent), ("tracestate", "a=1")]);
        assert!(off.begin(&asked).is_none());
        assert_eq!(&forwarded(&off, &asked), asked.headers());
    }
}
