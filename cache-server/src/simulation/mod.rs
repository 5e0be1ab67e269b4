//! A simulated model API on loopback, for trying the cache without a key or a network.
//!
//! It answers as OpenAI, Anthropic and Gemini do, streaming and not, and says in every text that
//! it is simulated. The same request gets the same text: words are drawn by a hash of what was
//! asked. Only what real providers vary is varied: ids, times, and (if asked for) latency and
//! errors.

mod anthropic;
mod gemini;
mod openai;
mod speech;

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keyspec::{ModelRoute, Provider};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Larger bodies get a 413.
const BODY_BYTES_MAX: usize = 32 << 20;

/// How the simulated API behaves.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Until the first byte of an answer.
    pub latency: Duration,
    /// Up to this much more.
    pub jitter: Duration,
    /// The share of requests answered by an error, 0 to 1.
    pub error_rate: f64,
    /// Between the events of a stream.
    pub token_interval: Duration,
}

impl Default for Simulation {
    fn default() -> Simulation {
        Simulation {
            latency: Duration::from_millis(800),
            jitter: Duration::from_millis(200),
            error_rate: 0.0,
            token_interval: Duration::from_millis(30),
        }
    }
}

/// How often the simulated API was asked: what a real one would have charged for.
#[derive(Debug, Default)]
pub struct Calls {
    received: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Calls {
    /// Answers given.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Errors simulated.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Serves on the listener until `shutdown` resolves.
pub async fn serve(
    listener: TcpListener,
    simulation: Simulation,
    calls: Arc<Calls>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = shutdown.as_mut() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Descriptors have run out: a spin would not bring them back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (simulation, calls) = (simulation.clone(), Arc::clone(&calls));
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &simulation, &calls));
            // A caller that hangs up ends its connection and nothing else.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// What is answered, before it takes its time.
enum Reply {
    /// A whole JSON answer.
    Json(StatusCode, Value),
    /// A stream of pieces, paced.
    Stream(&'static str, Vec<Bytes>),
}

impl Reply {
    fn ok(body: Value) -> Reply {
        Reply::Json(StatusCode::OK, body)
    }

    /// Server-sent events, each a name (or none) and its data.
    fn events(events: impl IntoIterator<Item = (Option<&'static str>, String)>) -> Reply {
        let framed = events.into_iter().map(|(name, data)| match name {
            Some(name) => Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
            None => Bytes::from(format!("data: {data}\n\n")),
        });
        Reply::Stream("text/event-stream; charset=utf-8", framed.collect())
    }
}

type PacedBody = StreamBody<Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>> + Send>>>;

async fn answer(
    request: Request<Incoming>,
    simulation: &Simulation,
    calls: &Calls,
) -> Result<Response<PacedBody>, Infallible> {
    let number = calls.received.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    let wanted = ModelRoute::match_request(parts.method.as_str(), parts.uri.path());
    let provider = wanted.map_or(Provider::OpenAi, |found| found.route.provider());
    let reply = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Err(_) => error(provider, StatusCode::PAYLOAD_TOO_LARGE, "request too large"),
        Ok(_) if parts.method == Method::GET && parts.uri.path().ends_with("/v1/models") => {
            Reply::ok(openai::models())
        }
        Ok(body) => match wanted {
            None => error(provider, StatusCode::NOT_FOUND, "unknown address (simulated)"),
            Some(_) if draw(number, "error") < simulation.error_rate => {
                calls.failed.fetch_add(1, Ordering::Relaxed);
                simulated_error(provider, number)
            }
            Some(found) => {
                let query = parts.uri.query().unwrap_or("");
                let model = found.model_in_path.unwrap_or("");
                reply(found.route, model, query, &body.to_bytes(), number)
            }
        },
    };
    tokio::time::sleep(simulation.latency + simulation.jitter.mul_f64(draw(number, "jitter")))
        .await;
    calls.answered.fetch_add(1, Ordering::Relaxed);
    Ok(dress(provider, reply, simulation, number))
}

fn reply(route: ModelRoute, model: &str, query: &str, body: &[u8], number: u64) -> Reply {
    let Ok(asked) = serde_json::from_slice::<Value>(body) else {
        return error(route.provider(), StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    let made = match route.provider() {
        Provider::OpenAi => openai::reply(route, model, &asked, number),
        Provider::Anthropic => anthropic::reply(route, &asked, number),
        Provider::Gemini => gemini::reply(route, model, query, &asked),
    };
    let refuse = |why: String| error(route.provider(), StatusCode::BAD_REQUEST, &why);
    made.unwrap_or_else(|Missing(member)| refuse(format!("missing or malformed: {member}")))
}

/// A member that the request must have.
struct Missing(&'static str);

/// A number from 0 to 1 that looks random, and is the same for the same call.
#[expect(clippy::cast_precision_loss, reason = "53 bits of it are enough")]
fn draw(number: u64, what: &str) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes()).update(what.as_bytes());
    let mut bits = [0; 8];
    hasher.finalize_xof().fill(&mut bits);
    (u64::from_le_bytes(bits) >> 11) as f64 / (1_u64 << 53) as f64
}

/// An error as overloaded or limiting providers send it.
fn simulated_error(provider: Provider, number: u64) -> Reply {
    let status = match (number % 2, provider) {
        (0, _) => 429,
        (_, Provider::Anthropic) => 529,
        (_, Provider::OpenAi) => 500,
        (_, Provider::Gemini) => 503,
    };
    let status = StatusCode::from_u16(status).expect("a known status");
    error(provider, status, "simulated error")
}

fn error(provider: Provider, status: StatusCode, message: &str) -> Reply {
    let (openai, anthropic, gemini) = match status.as_u16() {
        429 => ("rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        404 => ("invalid_request_error", "not_found_error", "NOT_FOUND"),
        400..=499 => ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
        529 => ("server_error", "overloaded_error", "UNAVAILABLE"),
        _ => ("server_error", "api_error", "UNAVAILABLE"),
    };
    let body = match provider {
        Provider::OpenAi => json!({"error": {
            "message": message, "type": openai, "param": null, "code": null,
        }}),
        Provider::Anthropic => json!({
            "type": "error", "error": {"type": anthropic, "message": message},
        }),
        Provider::Gemini => json!({"error": {
            "code": status.as_u16(), "message": message, "status": gemini,
        }}),
    };
    Reply::Json(status, body)
}

/// Gives a reply the fields that providers send, and its pace.
fn dress(
    provider: Provider,
    reply: Reply,
    simulation: &Simulation,
    number: u64,
) -> Response<PacedBody> {
    let pause = simulation.token_interval;
    let (status, content_type, pieces) = match reply {
        Reply::Json(status, body) => {
            (status, "application/json", vec![Bytes::from(body.to_string())])
        }
        Reply::Stream(content_type, pieces) => (StatusCode::OK, content_type, pieces),
    };
    let length = (pieces.len() == 1).then(|| pieces[0].len());
    let paced =
        stream::iter(pieces.into_iter().enumerate()).then(move |(index, piece)| async move {
            if index > 0 {
                tokio::time::sleep(pause).await;
            }
            Ok(Frame::data(piece))
        });
    let body: PacedBody = StreamBody::new(Box::pin(paced));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.extend(length.map(|length| (http::header::CONTENT_LENGTH, HeaderValue::from(length))));
    for (name, value) in provider_fields(provider, number, simulation) {
        let value = HeaderValue::from_str(&value).expect("plain text");
        headers.insert(http::HeaderName::from_static(name), value);
    }
    response
}

fn provider_fields(
    provider: Provider,
    number: u64,
    simulation: &Simulation,
) -> Vec<(&'static str, String)> {
    let id = format!("req_simulated_{number:08x}");
    let left = 10_000 - number % 10_000;
    let common = [
        ("cf-cache-status", "DYNAMIC".to_owned()),
        ("set-cookie", format!("__cf_bm=simulated{number}; path=/; HttpOnly; Secure")),
    ];
    let own = match provider {
        Provider::OpenAi => vec![
            ("x-request-id", id),
            ("openai-processing-ms", simulation.latency.as_millis().to_string()),
            ("openai-version", "2020-10-01".into()),
            ("x-ratelimit-limit-requests", "10000".into()),
            ("x-ratelimit-remaining-requests", left.to_string()),
        ],
        Provider::Anthropic => vec![
            ("request-id", id),
            ("anthropic-ratelimit-requests-limit", "10000".into()),
            ("anthropic-ratelimit-requests-remaining", left.to_string()),
        ],
        Provider::Gemini => vec![
            ("server-timing", format!("gfet4t7; dur={}", simulation.latency.as_millis())),
            ("cache-control", "private".into()),
        ],
    };
    common.into_iter().chain(own).collect()
}

/// Seconds since the Unix epoch, for members such as `created`.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
