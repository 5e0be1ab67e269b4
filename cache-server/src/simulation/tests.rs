//! The simulation, asked through a real socket.

use std::time::Instant;

use keyspec::Route;

use super::*;
use crate::upstream::answer::{Exchange, examine};

/// Every form: the path, the body, and whether it answers with an event stream.
fn forms() -> Vec<(&'static str, Value, bool)> {
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "why?"}]});
    let with = |base: &Value, name: &str, value: Value| {
        let mut body = base.clone();
        body[name] = value;
        body
    };
    let message = with(&chat, "max_tokens", json!(500));
    let response = json!({"model": "m", "input": "why?"});
    let contents = json!({"contents": [{"parts": [{"text": "why?"}]}]});
    let part = json!({"content": {"parts": [{"text": "why?"}]}});
    vec![
        ("/v1/chat/completions", chat.clone(), false),
        ("/v1/chat/completions", with(&chat, "stream", json!(true)), true),
        ("/v1/completions", json!({"model": "m", "prompt": "why?"}), false),
        ("/v1/completions", json!({"model": "m", "prompt": "why?", "stream": true}), true),
        ("/v1/responses", response.clone(), false),
        ("/v1/responses", with(&response, "stream", json!(true)), true),
        ("/v1/embeddings", response.clone(), false),
        ("/v1/moderations", response.clone(), false),
        ("/v1/messages", message.clone(), false),
        ("/v1/messages", with(&message, "stream", json!(true)), true),
        ("/v1/messages/count_tokens", chat, false),
        ("/v1beta/models/m:generateContent", contents.clone(), false),
        ("/v1beta/models/m:streamGenerateContent?alt=sse", contents.clone(), true),
        ("/v1beta/models/m:streamGenerateContent", contents.clone(), false),
        ("/v1beta/models/m:countTokens", contents, false),
        ("/v1beta/models/m:embedContent", part.clone(), false),
        ("/v1beta/models/m:batchEmbedContents", json!({"requests": [part]}), false),
    ]
}

async fn start(simulation: Simulation) -> (String, Arc<Calls>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let calls = Arc::new(Calls::default());
    tokio::spawn(serve(listener, simulation, Arc::clone(&calls), std::future::pending()));
    (base, calls)
}

fn at_once() -> Simulation {
    Simulation {
        latency: Duration::ZERO,
        jitter: Duration::ZERO,
        token_interval: Duration::ZERO,
        ..Simulation::default()
    }
}

async fn ask(base: &str, path: &str, body: &Value) -> (StatusCode, http::HeaderMap, Bytes) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("{base}{path}")).body(body.to_string());
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.bytes().await.unwrap())
}

#[tokio::test]
async fn every_form_is_a_whole_answer_that_a_cache_would_store() {
    let (base, calls) = start(at_once()).await;
    for (path, body, event_stream) in forms() {
        let (status, headers, answer) = ask(&base, path, &body).await;
        assert_eq!(status, 200, "{path} {body}");
        let content_type = headers[CONTENT_TYPE].to_str().unwrap();
        assert_eq!(content_type.starts_with("text/event-stream"), event_stream, "{path} {body}");
        let path = path.split('?').next().unwrap();
        let route = ModelRoute::match_request("POST", path).unwrap().route;
        let exchange = Exchange {
            route: Route::Model(route),
            event_stream,
            json: true,
            names_token_limit: false,
        };
        let report = examine(&exchange, &answer);
        assert_eq!(report.verdict, Ok(()), "{path} {body}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(calls.answered(), forms().len() as u64);
}

#[tokio::test]
async fn every_form_lacking_its_question_is_refused_by_name() {
    let (base, _) = start(at_once()).await;
    for (path, ..) in forms().into_iter().filter(|(path, ..)| !path.contains("countTokens")) {
        let (status, _, answer) = ask(&base, path, &json!({"model": "m"})).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(status == 400 && answer.contains("missing or malformed"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn errors_can_be_simulated_in_each_providers_form() {
    let (base, calls) = start(Simulation { error_rate: 1.0, ..at_once() }).await;
    for (path, body, _) in forms() {
        let (status, _, answer) = ask(&base, path, &body).await;
        assert!(matches!(status.as_u16(), 429 | 500 | 503 | 529), "{path}: {status}");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert!(answer["error"].is_object(), "{path}: {answer}");
    }
    assert_eq!(calls.failed(), forms().len() as u64);
}

#[tokio::test]
async fn answers_take_the_latency_that_was_set() {
    let latency = Duration::from_millis(60);
    let (base, _) = start(Simulation { latency, ..at_once() }).await;
    let begun = Instant::now();
    let (path, body, _) = &forms()[0];
    ask(&base, path, body).await;
    assert!(begun.elapsed() >= latency);
}

#[test]
fn jitter_and_errors_are_drawn_evenly() {
    let draws: Vec<f64> = (0..1000).map(|number| draw(number, "error")).collect();
    let below_half = draws.iter().filter(|draw| **draw < 0.5).count();
    assert!((400..600).contains(&below_half), "{below_half} of 1000 were below a half");
    assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
}
