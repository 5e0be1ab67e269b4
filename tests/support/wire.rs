//! A fake upstream below HTTP: it shows each request as the bytes that came, and answers with
//! bytes that no HTTP library would send.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request, byte by byte.
#[derive(Clone, Debug)]
pub struct WireRequest {
    /// The connection that it came on, counted from 0.
    pub connection: usize,
    /// Request line and fields, with the empty line behind them.
    pub head: Vec<u8>,
    /// The body, out of its chunks.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

/// Fields that end at a proxy (RFC 9110 section 7.6.1), or that only a proxy may answer.
const NEVER_FORWARDED: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "upgrade",
    "http2-settings",
    "expect",
    "cache-server-reuse",
];

impl WireRequest {
    /// The target as it stands in the request line.
    #[must_use]
    pub fn target(&self) -> String {
        let line = String::from_utf8_lossy(self.lines().next().unwrap_or_default()).into_owned();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// All values of a field; what is not UTF-8 in them is replaced.
    #[must_use]
    pub fn fields(&self, name: &str) -> Vec<String> {
        let fields = self.lines().skip(1).filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (found, value) = (&line[..colon], &line[colon + 1..]);
            let value = || String::from_utf8_lossy(value.trim_ascii()).into_owned();
            found.eq_ignore_ascii_case(name.as_bytes()).then(value)
        });
        fields.collect()
    }

    /// What is wrong with its head for a strict reader of RFC 9112, or wrong for a proxy to send.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        let mut lines = self.lines();
        let line = lines.next().unwrap_or_default();
        if !is_request_line(line) {
            return Some("the request line");
        }
        if !lines.all(is_field_line) {
            return Some("a field line");
        }
        let (lengths, codings) = (self.fields("content-length"), self.fields("transfer-encoding"));
        if lengths.len() + codings.len() > 1 {
            return Some("more than one framing");
        }
        if lengths.iter().any(|length| !length.bytes().all(|byte| byte.is_ascii_digit())) {
            return Some("its length");
        }
        if codings.iter().any(|coding| coding != "chunked") {
            return Some("its transfer coding");
        }
        if self.fields("host").len() != 1 {
            return Some("its host");
        }
        NEVER_FORWARDED.into_iter().find(|name| !self.fields(name).is_empty())
    }

    /// The lines of the head, without their ends and without the empty one.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.head.strip_suffix(b"\r\n\r\n").unwrap_or(&self.head);
        head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }
}

fn is_token(text: &[u8]) -> bool {
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(in_token)
}

/// `METHOD /target HTTP/1.1`, one space between, visible ASCII alone.
fn is_request_line(line: &[u8]) -> bool {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else { return false };
    is_token(method) && target.starts_with(b"/") && target.iter().all(u8::is_ascii_graphic)
}

fn is_field_line(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let in_value = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    is_token(&line[..colon]) && line[colon + 1..].iter().all(in_value)
}

/// A running upstream of bytes.
#[derive(Debug)]
pub struct Wire {
    address: String,
    requests: Arc<Mutex<Vec<WireRequest>>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// Starts one that answers each request with these bytes. It keeps the connection, unless
    /// the answer says `connection: close` or is empty.
    pub async fn start(answer: impl Fn(&WireRequest) -> Vec<u8> + Send + Sync + 'static) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                tokio::spawn(converse(stream, connection, answer, seen));
                connection += 1;
            }
        });
        Wire { address, requests, task }
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request whose head has come, in the order in which they ended.
    #[must_use]
    pub fn requests(&self) -> Vec<WireRequest> {
        self.requests.lock().expect("the requests").clone()
    }

    /// How many there were.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.requests.lock().expect("the requests").len()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer as a well-behaved upstream sends it, with more lines of fields.
#[must_use]
pub fn answer(status: &str, fields: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n");
    (head + body).into_bytes()
}

async fn converse(
    stream: TcpStream,
    connection: usize,
    answer: Arc<impl Fn(&WireRequest) -> Vec<u8>>,
    seen: Arc<Mutex<Vec<WireRequest>>>,
) {
    let _ = stream.set_nodelay(true);
    let mut reader = Reader { stream, unread: Vec::new() };
    while let Some(head) = reader.until(b"\r\n\r\n").await {
        let mut request = WireRequest { connection, head, body: Vec::new(), whole: false };
        request.whole = reader.body(&mut request).await.is_some();
        let (whole, bytes) = (request.whole, answer(&request));
        seen.lock().expect("the requests").push(request);
        let said = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let closes = !whole || bytes.is_empty() || said.contains("connection: close");
        if reader.stream.write_all(&bytes).await.is_err() || closes {
            return;
        }
    }
}

/// The reading end of a connection; nothing comes back once it has ended.
struct Reader {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Reader {
    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.unread).await.unwrap_or(0);
        (read > 0).then_some(())
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            self.more().await?;
        }
        Some(self.unread.drain(..count).collect())
    }

    /// Up to this mark and with it.
    async fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.unread.windows(mark.len()).position(|window| window == mark);
            if let Some(position) = found {
                return self.exactly(position + mark.len()).await;
            }
            self.more().await?;
        }
    }

    async fn body(&mut self, request: &mut WireRequest) -> Option<()> {
        if let Some(length) = request.fields("content-length").first() {
            request.body = self.exactly(length.parse().ok()?).await?;
        } else if !request.fields("transfer-encoding").is_empty() {
            loop {
                let line = String::from_utf8(self.until(b"\r\n").await?).ok()?;
                let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
                let chunk = self.exactly(size + 2).await?;
                request.body.extend_from_slice(&chunk[..size]);
                if size == 0 {
                    break;
                }
            }
        }
        Some(())
    }
}
