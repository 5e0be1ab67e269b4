//! What the config declares by `[[key_spec]]`: which requests beyond the model routes are cached,
//! and which of them are one.

use black_box_tests::{Answer, Client, Reply, Server, Setup, Upstream, credential_digest, run};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const SEARCH: &str = r#"
[[key_spec]]
name = "acme.search"
version = 1
path = "/v1/indexes/{index}/search"
deterministic = true
headers = ["accept-language"]
ignore_query = ["trace"]
ignore_members = ["trace_id"]
set_members = ["tags"]
defaults = { limit = 10 }
"#;

async fn numbering() -> Upstream {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Upstream::start(move |_| {
        let answer = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::json(&json!({ "answer": answer }))
    })
    .await
}

async fn declaring(upstream: &Upstream, specs: &str) -> Server {
    Server::start(Setup::in_front_of(upstream).config(specs)).await
}

/// Whether both are answered, and the second from the cache.
async fn is_one(client: &Client, path: &str, one: &Value, other: &Value) -> bool {
    let first = client.ask(path, one).await;
    let second = client.ask(path, other).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!(second.is_hit(), first.body == second.body, "{}", second.cache_status());
    second.is_hit()
}

#[tokio::test]
async fn a_declared_request_is_answered_once_by_its_meaning() {
    let upstream = numbering().await;
    let server = declaring(&upstream, SEARCH).await;
    let client = server.client();
    let path = "/v1/indexes/a/search";
    let one = json!({ "q": "x", "tags": ["a", "b"], "limit": 10, "trace_id": "1" });
    assert!(is_one(&client, path, &one, &json!({ "tags": ["b", "a", "b"], "q": "x" })).await);
    for other in
        [json!({ "q": "y" }), json!({ "q": "x", "tags": ["a"] }), json!({ "q": "x", "limit": 11 })]
    {
        assert!(!is_one(&client, path, &one, &other).await, "{other}");
    }
    let answer = client.ask("/v1/indexes/a/search?trace=7", &one).await;
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert!(!client.ask("/v1/indexes/b/search", &one).await.is_hit(), "another index");
    assert!(!client.ask("/v1/indexes/a/search?page=2", &one).await.is_hit(), "another page");
    let german = client.post(path, &one).header("accept-language", "de");
    assert!(!Answer::of(german).await.is_hit(), "another language");
    let label = "cache_server_requests_total{route=\"declared\",outcome=\"hit\",reason=\"memory\"}";
    assert!(server.metric(label).await >= 2.0);
}

/// Answers that tell what was asked for, and by whom.
async fn telling() -> Upstream {
    Upstream::start(|received| {
        let cookie = received.headers.get("cookie").map(|value| value.to_str().expect("text"));
        Reply::json(&json!({ "of": received.uri.to_string(), "for": cookie }))
    })
    .await
}

const PROFILE: &str = r#"
[[key_spec]]
name = "acme.profile"
version = 1
path = "/profile"
methods = ["GET"]
deterministic = true
"#;

#[tokio::test]
async fn a_cookie_tells_the_callers_of_a_declared_spec_apart() {
    let upstream = telling().await;
    let server = declaring(&upstream, PROFILE).await;
    let client = server.client();
    for round in 0..2 {
        for cookie in [Some("id=alice"), Some("id=bob"), None] {
            let request = client.request(Method::GET, "/profile");
            let answer = match cookie {
                Some(cookie) => Answer::of(request.header("cookie", cookie)).await,
                None => Answer::of(request).await,
            };
            assert_eq!(answer.json()["for"], json!(cookie));
            assert_eq!(answer.is_hit(), round == 1, "{}", answer.cache_status());
        }
    }
}

#[tokio::test]
async fn what_may_be_a_credential_in_the_query_tells_the_requests_of_a_declared_spec_apart() {
    const SHARED: &str = "[[route]]\nendpoint = \"acme.profile\"\nscope = \"shared\"\n\
                          allow_unverified_callers = true\n";
    for route in ["", SHARED] {
        let upstream = telling().await;
        let server = declaring(&upstream, &format!("{PROFILE}{route}")).await;
        for query in ["", "?key=", "?key=a", "?key=b", "?key=a+b", "?key=a%2Bb", "?key=a&key=b"] {
            let path = format!("/profile{query}");
            let answer = server.client().get(&path).await;
            assert_eq!(answer.json()["of"], json!(path), "{route}");
            assert!(server.client().get(&path).await.is_hit(), "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_not_declared_to_be_deterministic_says_how_it_could_be_reused() {
    let upstream = numbering().await;
    let spec = "[[key_spec]]\nname = 'a'\nversion = 1\npath = '/do'\n\
                [[key_spec]]\nname = 'b'\nversion = 1\npath = '/any'\n\
                [[route]]\nendpoint = 'b'\nreuse = 'any'\nfresh_for = '5m'\n";
    let server = declaring(&upstream, spec).await;
    let client = server.client();
    let body = json!({ "x": 1 });
    for _ in 0..2 {
        let answer = client.ask("/do", &body).await;
        assert!(answer.cache_status().contains("detail=spec-not-deterministic"));
    }
    let declared = || client.post("/do", &body).header("cache-server-reuse", "yes");
    assert!(!Answer::of(declared()).await.is_hit());
    assert!(Answer::of(declared()).await.is_hit());
    assert!(is_one(&client, "/any", &body, &body).await, "its route says any");
    let ttl = client.ask("/any", &body).await.cache_status().to_owned();
    assert!(ttl.contains("ttl=299") || ttl.contains("ttl=300"), "{ttl}");
}

#[tokio::test]
async fn other_methods_other_paths_and_undeclared_posts_pass() {
    let upstream = numbering().await;
    let server = declaring(&upstream, SEARCH).await;
    let client = server.client();
    for (method, path) in [
        (Method::PUT, "/v1/indexes/a/search"),
        (Method::POST, "/v1/indexes/search"),
        (Method::POST, "/v1/indexes/a/search/"),
        (Method::POST, "/mcp"),
    ] {
        for _ in 0..2 {
            let request = client.request(method.clone(), path).body("{}");
            let answer = Answer::of(request).await;
            assert!(answer.cache_status().contains("not-a-model-route"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_form_a_get_and_files_in_parts_are_keyed_by_what_they_say() {
    let upstream = numbering().await;
    let specs = "[[key_spec]]\nname = 'form'\nversion = 1\npath = '/form'\nbody = 'form'\ndeterministic = true\n\
         [[key_spec]]\nname = 'get'\nversion = 1\npath = '/get'\nmethods = ['GET']\nbody = 'none'\ndeterministic = true\n\
         [[key_spec]]\nname = 'audio'\nversion = 1\npath = '/v1/audio/transcriptions'\nbody = 'multipart'\ndeterministic = true\n";
    let server = declaring(&upstream, specs).await;
    let client = server.client();
    let form = |body: &'static str| {
        let request = client.request(Method::POST, "/form").body(body);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Answer::of(request)
    };
    assert!(!form("a=1&b=x+y").await.is_hit());
    assert!(form("b=x%20y&a=1").await.is_hit());
    assert!(!form("a=1&b=x").await.is_hit());

    assert!(!client.get("/get?a=1").await.is_hit());
    assert!(client.get("/get?%61=1").await.is_hit());

    let upload = |boundary: &str, audio: &str| {
        let body = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
             --{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\
             content-type: audio/wav\r\n\r\n{audio}\r\n--{boundary}--\r\n"
        );
        let request = client.request(Method::POST, "/v1/audio/transcriptions").body(body);
        let media_type = format!("multipart/form-data; boundary={boundary}");
        Answer::of(request.header("content-type", media_type))
    };
    assert!(!upload("one", "RIFF 1").await.is_hit());
    // A client makes another boundary each time.
    assert!(upload("two", "RIFF 1").await.is_hit());
    assert!(!upload("two", "RIFF 2").await.is_hit());
}

#[tokio::test]
async fn an_answer_that_is_no_whole_json_or_a_stream_without_a_known_end_is_not_stored() {
    let upstream = Upstream::start(|request| match request.uri.path() {
        "/cut" => Reply::bytes("{\"a\":").with("content-type", "application/json"),
        _ => Reply::events("data: 1\n\n"),
    })
    .await;
    let specs = "[[key_spec]]\nname = 'a'\nversion = 1\npath = '/{x}'\ndeterministic = true\n";
    let server = declaring(&upstream, specs).await;
    for path in ["/cut", "/stream"] {
        for _ in 0..2 {
            assert!(!server.client().ask(path, &json!({})).await.is_hit(), "{path}");
        }
    }
    let not_stored = |reason: &str| {
        format!("cache_server_not_stored_total{{route=\"declared\",reason=\"{reason}\"}}")
    };
    assert_eq!(server.metric(&not_stored("malformed-answer")).await, 2.0);
    assert_eq!(server.metric(&not_stored("unknown-stream")).await, 2.0);
}

#[tokio::test]
async fn a_declared_spec_with_a_models_preset_reads_and_checks_as_the_model_route_does() {
    let upstream = Upstream::saying(json!({ "object": "list", "data": [], "model": "m" })).await;
    let specs = "[[key_spec]]\nname = 'ours'\nversion = 1\npreset = 'openai.embeddings'\n\
                 path = '/embed/{model}'\n";
    let server = declaring(&upstream, specs).await;
    let answer = server.client().ask("/embed/m", &json!({ "input": "x", "user": "u" })).await;
    let status = answer.cache_status();
    assert!(status.contains("detail=no-choices"), "an empty answer is not stored: {status}");
}

#[tokio::test]
async fn a_bad_spec_ends_the_start_with_2_and_names_its_field() {
    let twins = "[[key_spec]]\nname = 'a'\nversion = 1\npath = '/a/{x}'\n\
                 [[key_spec]]\nname = 'b'\nversion = 1\npath = '/{y}/b'\n";
    let ended = Server::check(twins).await;
    assert_eq!(ended.status.code(), Some(2));
    assert!(
        ended.stderr.contains("key_spec[1].path") && ended.stderr.contains("/a/b"),
        "{}",
        ended.stderr
    );
}

/// A request, as it is sent to the server and as it is told to `keyspec`.
struct Asked {
    path: &'static str,
    fields: &'static [(&'static str, &'static str)],
    body: &'static str,
    tenant: Option<&'static str>,
}

const MINE: (&str, &str) = ("authorization", "Bearer sk-mine");
const JSON: (&str, &str) = ("content-type", "application/json");

const ASKED: &[Asked] = &[
    Asked {
        path: "/v1/chat/completions",
        fields: &[MINE, JSON],
        body: r#"{"model":"m","seed":1,"messages":[],"user":"u"}"#,
        tenant: None,
    },
    Asked {
        path: "/v1/chat/completions?key=k&api-version=%31",
        fields: &[JSON, ("openai-beta", "x"), ("openai-organization", "o")],
        body: r#"{"model":"m","seed":1,"messages":[],"stream":true}"#,
        tenant: None,
    },
    Asked {
        path: "/v1/messages",
        fields: &[("x-api-key", "sk-mine"), JSON, ("anthropic-version", "2023-06-01")],
        body: r#"{"model":"m","temperature":0.0,"max_tokens":1,"messages":[]}"#,
        tenant: None,
    },
    Asked {
        path: "/v1beta/models/m:embedContent",
        fields: &[JSON],
        body: r#"{"content":{"parts":[{"text":"\u00e9"}]}}"#,
        tenant: None,
    },
    Asked {
        path: "/v1/embeddings",
        fields: &[("authorization", "Bearer sk-ours"), JSON],
        body: r#"{"model":"m","input":"x"}"#,
        tenant: Some("search-team"),
    },
    Asked {
        path: "/v1/indexes/a/search?trace=7",
        fields: &[MINE, JSON, ("accept-language", "de")],
        body: r#"{"q":"x","tags":["b","a"],"limit":10}"#,
        tenant: None,
    },
    Asked {
        path: "/v1/audio/transcriptions",
        fields: &[MINE, ("content-type", "multipart/form-data; boundary=b")],
        body: "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nw\r\n--b--\r\n",
        tenant: None,
    },
];

const AUDIO: &str = "
[[key_spec]]
name = 'acme.audio'
version = 2
path = '/v1/audio/transcriptions'
body = 'multipart'
deterministic = true
";

impl Asked {
    /// The key in the server's `Cache-Status`.
    async fn told(&self, client: &Client) -> String {
        let request = client.request(Method::POST, self.path).body(self.body);
        let add = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| {
            request.header(*name, *value)
        };
        let answer = Answer::of(self.fields.iter().fold(request, add)).await;
        let status = answer.cache_status();
        let key = status.split("key=\"").nth(1).and_then(|rest| rest.split('"').next());
        key.unwrap_or_else(|| panic!("{}: {status}", self.path)).to_owned()
    }

    /// The key that `keyspec key` prints.
    async fn printed(&self, folder: &TempDir, upstream: &str) -> String {
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("body"), self.body).expect("the body is written");
        let mut arguments = vec!["key", "--upstream", upstream, "--path", self.path, "--spec"];
        let specs = file("specs.toml");
        arguments.push(&specs);
        let headers: Vec<String> =
            self.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        headers.iter().for_each(|header| arguments.extend(["--header", header]));
        self.tenant.iter().for_each(|name| arguments.extend(["--tenant", name]));
        let body = file("body");
        arguments.push(&body);
        let ended = run("keyspec", &arguments).await;
        assert!(ended.status.success(), "{}: {}", self.path, ended.stderr);
        ended.stdout.trim_end().to_owned()
    }
}

#[tokio::test]
async fn the_key_on_the_command_line_is_the_one_in_cache_status() {
    let upstream = Upstream::of_whole_answers().await;
    let digest = credential_digest("sk-ours").await;
    let tenant = format!("[[tenant]]\nname = 'search-team'\ncredential_digests = ['{digest}']\n");
    let specs = format!("{SEARCH}{AUDIO}");
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("specs.toml");
    std::fs::write(file, format!("version = 1\n{specs}")).expect("the specs are written");
    for base in [upstream.url(), format!("{}/", upstream.url())] {
        let setup = Setup::default().argument("--upstream").argument(&base);
        let server = Server::start(setup.config(&format!("{specs}{tenant}"))).await;
        for asked in ASKED {
            let told = asked.told(&server.client()).await;
            assert_eq!(asked.printed(&folder, &base).await, told, "{}", asked.path);
        }
    }
}
