//! Hostile bytes: what no caller sends who means well.

use fastrand::Rng;

use crate::upstream::SMUGGLED_PATH;

/// A name for it, and the bytes.
type Case = (&'static str, fn(&mut Rng) -> Vec<u8>);

/// The upstream knows nothing at `/hostile`: whatever is answered, it is no success.
const CASES: [Case; 16] = [
    ("noise", noise),
    ("noise with line ends", noisy_lines),
    ("a head that does not end", |_| b"GET /hostile HTTP/1.1\r\nhost: soak\r\nx-y: ".to_vec()),
    ("many fields", many_fields),
    ("one long field", one_long_field),
    ("a long target", |_| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(200_000)).into_bytes()),
    ("length and chunks", length_and_chunks),
    ("two lengths", |_| post("content-length: 4\r\ncontent-length: 40\r\n", b"true")),
    ("a length below zero", |_| post("content-length: -5\r\n", b"true")),
    ("a bad chunk size", |_| post("transfer-encoding: chunked\r\n", b"ffffffffffffffffff\r\nx")),
    ("a chunk cut off", |_| post("transfer-encoding: chunked\r\n", b"10\r\nabc")),
    ("a body cut off", |_| post("content-length: 1000\r\n", b"{\"model\":")),
    ("a field with a zero byte", |_| post("x-y: a\0b\r\n", b"")),
    ("deep nesting", deep_nesting),
    ("a TLS greeting", |_| b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(30)),
    ("an HTTP/2 preface and noise", preface_and_noise),
];

/// One of them.
pub(crate) fn any(rng: &mut Rng) -> (&'static str, Vec<u8>) {
    let (name, bytes) = CASES[rng.usize(..CASES.len())];
    (name, bytes(rng))
}

fn post(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST /hostile/v1/embeddings HTTP/1.1\r\nhost: soak\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(1..4_000);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn noisy_lines(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = b"GET /hostile HTTP/1.1\r\n".to_vec();
    for _ in 0..rng.usize(1..40) {
        bytes.extend(noise(rng).iter().take(50));
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

fn many_fields(_: &mut Rng) -> Vec<u8> {
    let fields: String = (0..5_000).map(|number| format!("x-{number}: y\r\n")).collect();
    post(&fields, b"")
}

fn one_long_field(_: &mut Rng) -> Vec<u8> {
    post(&format!("x-y: {}\r\n", "z".repeat(300_000)), b"")
}

/// By the length, the body holds a request; by the chunks, that is the next one.
fn length_and_chunks(_: &mut Rng) -> Vec<u8> {
    let hidden = format!("GET {SMUGGLED_PATH} HTTP/1.1\r\nhost: soak\r\n\r\n");
    let body = format!("0\r\n\r\n{hidden}");
    let fields = format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", body.len());
    post(&fields, body.as_bytes())
}

/// A body that is one, and would overflow a careless parser.
fn deep_nesting(_: &mut Rng) -> Vec<u8> {
    let body = "[".repeat(100_000);
    post(&format!("content-length: {}\r\n", body.len()), body.as_bytes())
}

fn preface_and_noise(rng: &mut Rng) -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), noise(rng)].concat()
}
