//! How commands ask a running server: its admin listener, within a deadline and a bound, with the
//! admin token where there is one.

use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use cache_server::config::admin_token::{self, AdminToken};
use clap::Args;
use http::uri::Authority;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::{Failure, variable};

/// How long a server may take to show something.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to change something, or to look for it on disk.
const PATIENCE_FOR_WORK: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read at most. The largest is an entry's body, as JSON.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// Bytes of a token's file that are read at most: more than any token.
const TOKEN_FILE_BYTES_MAX: u64 = 4 << 10;
/// Characters that are shown at most of what a server says is wrong.
const SENTENCE_CHARS_MAX: usize = 1000;

/// Which server is asked.
#[derive(Debug, Args)]
pub(crate) struct AdminAddress {
    /// The server's admin listener [env: CACHE_SERVER_ADMIN_LISTEN] [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    admin: Option<Authority>,
}

impl AdminAddress {
    /// Where it is.
    pub(crate) fn authority(&self) -> Result<Authority, Failure> {
        const VARIABLE: &str = "CACHE_SERVER_ADMIN_LISTEN";
        if let Some(admin) = &self.admin {
            return Ok(admin.clone());
        }
        let Some(named) = variable(VARIABLE) else {
            return Ok(Authority::from_static("127.0.0.1:8081"));
        };
        let named = named.to_string_lossy();
        address(&named)
            .map_err(|allowed| anyhow::anyhow!("{VARIABLE}: {named:?} is not {allowed}"))
            .map_err(Failure::usage)
    }
}

/// Which server is asked, and with what right.
#[derive(Debug, Args)]
pub(crate) struct AdminOptions {
    #[command(flatten)]
    address: AdminAddress,
    /// The file that holds its admin token, if it has one; it goes before
    /// CACHE_SERVER_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
}

impl AdminOptions {
    /// A client of that server.
    pub(crate) fn client(&self) -> Result<AdminClient, Failure> {
        let token = match &self.admin_token_file {
            Some(file) => Some(read_token(file).map_err(Failure::usage)?),
            None => {
                variable(admin_token::VARIABLE).map(|token| token.to_string_lossy().into_owned())
            }
        };
        let token = token.map(|text| bearer(&text)).transpose().map_err(Failure::usage)?;
        let client = AdminClient::new(&self.address.authority()?, PATIENCE_FOR_WORK);
        Ok(AdminClient { token, ..client.map_err(Failure::start)? })
    }
}

/// A host and a port.
fn address(text: &str) -> Result<Authority, String> {
    let address = text.parse::<Authority>().ok();
    address
        .filter(|address| address.port_u16().is_some() && !text.contains('@'))
        .ok_or_else(|| "a host and a port, such as 127.0.0.1:8081".to_owned())
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = File::open(file)
        .and_then(|opened| opened.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text));
    read.with_context(|| format!("cannot read the admin token from {}", file.display()))?;
    Ok(text)
}

/// What shows a token (RFC 6750 section 2.1).
fn bearer(text: &str) -> anyhow::Result<HeaderValue> {
    let is_token = AdminToken::new(text).is_some();
    ensure!(is_token, "the admin token must have 1 to 1024 visible ASCII characters");
    let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The admin listener of a server.
#[derive(Debug)]
pub(crate) struct AdminClient {
    address: Authority,
    token: Option<HeaderValue>,
    patience: Duration,
    http: reqwest::Client,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct AdminAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl AdminClient {
    /// A client without a token, whose answers must be there within `patience`.
    pub(crate) fn new(address: &Authority, patience: Duration) -> anyhow::Result<AdminClient> {
        // A second call finds a provider installed already, and that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // The admin listener speaks no TLS: no certificate authorities are needed.
            .tls_certs_only([])
            .timeout(patience)
            .build()?;
        Ok(AdminClient { address: address.clone(), token: None, patience, http })
    }

    /// Where the server is.
    pub(crate) fn address(&self) -> &Authority {
        &self.address
    }

    /// Asks, and takes whatever the answer is.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<AdminAnswer> {
        let mut request = self.http.request(method, format!("http://{}{target}", self.address));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json");
            request = request.body(body.to_string());
        }
        self.take(request).await.map_err(|error| match error.downcast::<reqwest::Error>() {
            Ok(error) if error.is_timeout() => {
                anyhow!("{} does not answer within {:?}", self.address, self.patience)
            }
            // The address is said already; a second time would only hide the cause.
            Ok(error) => {
                anyhow!(error.without_url()).context(format!("cannot ask {}", self.address))
            }
            Err(error) => error,
        })
    }

    async fn take(&self, request: reqwest::RequestBuilder) -> anyhow::Result<AdminAnswer> {
        let mut answer = request.send().await?;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                bail!("it answers with more than {ANSWER_BYTES_MAX} bytes");
            }
            body.extend_from_slice(&piece);
        }
        Ok(AdminAnswer { status: answer.status(), body })
    }
}

impl AdminAnswer {
    /// The body of an answer that says yes; otherwise what the server says is wrong.
    pub(crate) fn granted(self) -> anyhow::Result<Vec<u8>> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        /// A problem document (RFC 9457), as far as it is shown.
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            detail: String,
        }
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(Problem { code, detail }) => {
                let sentence: String = detail.chars().take(SENTENCE_CHARS_MAX).collect();
                bail!("{} ({})", plain(&sentence), plain(&code))
            }
            Err(_) => bail!("it answers {}", self.status),
        }
    }

    /// The JSON of an answer that says yes.
    pub(crate) fn json<T: for<'de> Deserialize<'de>>(self) -> anyhow::Result<T> {
        let body = self.granted()?;
        serde_json::from_slice(&body).context("it answers with something else")
    }
}

/// Text of a server as it may be shown: nothing that a terminal obeys or that cannot be seen.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => plain.push(character),
            other => plain.extend(other.escape_debug()),
        }
    }
    plain
}

/// Runs a command that asks a server, and has nothing else to do meanwhile.
pub(crate) fn run<T>(asking: impl Future<Output = anyhow::Result<T>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .map_err(Failure::start)?;
    runtime.block_on(asking).map_err(Failure::start)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Options that name this server, as typed.
    pub(in super::super) fn options(address: &str) -> AdminOptions {
        AdminOptions {
            address: AdminAddress { admin: Some(address.parse().unwrap()) },
            admin_token_file: None,
        }
    }

    /// A server that gives one answer: its address, and what it was asked once it has answered.
    pub(in super::super) async fn server_saying(
        status: &str,
        body: impl Into<Vec<u8>>,
    ) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (status, body) = (status.to_owned(), body.into());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !is_whole(&asked) {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0, "it broke off");
            }
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, asked)
    }

    /// Whether a request is complete, as far as this client writes them.
    fn is_whole(asked: &[u8]) -> bool {
        let asked = String::from_utf8_lossy(asked).into_owned();
        let Some((head, body)) = asked.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        body.len() >= length.map_or(0, |length| length.parse().unwrap())
    }

    #[tokio::test]
    async fn a_question_carries_its_json_and_the_token_and_names_the_host() {
        let (address, asked) = server_saying("200 OK", r#"{"sequence":7}"#).await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"s3cret\n").unwrap();
        let options =
            AdminOptions { admin_token_file: Some(file.path().into()), ..options(&address) };
        let client = options.client().unwrap();
        let body = json!({"everything": true});
        let answer = client.ask(Method::POST, "/purge", Some(&body)).await.unwrap();
        assert_eq!(answer.json::<Value>().unwrap(), json!({"sequence": 7}));
        let asked = asked.await.unwrap();
        assert!(asked.starts_with("POST /purge HTTP/1.1\r\n"), "{asked}");
        for line in ["authorization: Bearer s3cret", &format!("host: {address}")] {
            assert!(asked.contains(&format!("{line}\r\n")), "no {line} in {asked}");
        }
        assert!(asked.ends_with(r#"{"everything":true}"#), "{asked}");
        assert!(!format!("{client:?}").contains("s3cret"), "a token is never shown");
    }

    #[tokio::test]
    async fn a_problem_is_told_in_a_sentence_that_no_terminal_obeys() {
        let problem = json!({"code": "bad-override", "detail": "for: at\u{1b}[31m least 1s"});
        let (address, _asked) = server_saying("400 Bad Request", problem.to_string()).await;
        let client = options(&address).client().unwrap();
        let answer = client.ask(Method::POST, "/overrides", None).await.unwrap();
        let error = answer.granted().unwrap_err().to_string();
        assert_eq!(error, "for: at\\u{1b}[31m least 1s (bad-override)");
    }

    #[tokio::test]
    async fn an_answer_without_a_problem_is_told_by_its_status() {
        let (address, _asked) = server_saying("502 Bad Gateway", "<html>").await;
        let client = options(&address).client().unwrap();
        let answer = client.ask(Method::GET, "/stats", None).await.unwrap();
        assert_eq!(answer.granted().unwrap_err().to_string(), "it answers 502 Bad Gateway");
        let (address, _asked) = server_saying("200 OK", "hello").await;
        let client = options(&address).client().unwrap();
        let answer = client.ask(Method::GET, "/stats", None).await.unwrap();
        let error = answer.json::<Value>().unwrap_err().to_string();
        assert_eq!(error, "it answers with something else");
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_not_waited_for_beyond_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let client = AdminClient::new(&address.parse().unwrap(), Duration::from_millis(50));
        let asked = client.unwrap().ask(Method::GET, "/readyz", None).await;
        let error = asked.unwrap_err().to_string();
        assert_eq!(error, format!("{address} does not answer within 50ms"));
        drop(listener);
        let asked = options(&address).client().unwrap().ask(Method::GET, "/readyz", None).await;
        let error = format!("{:#}", asked.unwrap_err());
        assert!(error.starts_with(&format!("cannot ask {address}: ")), "{error}");
        assert_eq!(error.matches(&address).count(), 1, "{error}");
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:8081", "localhost:1", "[::1]:8081", "cache.internal:8081"] {
            assert_eq!(address(good).unwrap().as_str(), good);
        }
        for bad in ["", "localhost", "127.0.0.1", "http://127.0.0.1:8081", "a@b:1", ":8081/x"] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_that_no_header_could_carry_is_wrong_usage() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"two words").unwrap();
        let with = |path: &Path| AdminOptions {
            admin_token_file: Some(path.into()),
            ..options("127.0.0.1:1")
        };
        for options in [with(file.path()), with(Path::new("/nonexistent/token"))] {
            let failure = options.client().unwrap_err();
            assert_eq!(failure.exit_code, 2, "{:#}", failure.why);
            assert!(!format!("{:#}", failure.why).contains("words"));
        }
    }
}
