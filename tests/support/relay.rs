//! A relay in front of one address, for what happens on the way there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What it does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Everything passes.
    Pass,
    /// Answers come so much later, one behind another no later than alone.
    Delay(Duration),
    /// Connections are taken, and nothing passes.
    Hold,
    /// New connections are reset; those that stand go on.
    Refuse,
    /// An answer longer than so many bytes is cut after them, and its connection with it.
    CutAnswers(usize),
    /// What Redis tells those who have subscribed is lost; answers pass.
    LoseMessages,
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    /// Where it takes connections.
    pub address: String,
    state: Arc<watch::Sender<State>>,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct State {
    manner: Manner,
    /// Where new connections lead.
    there: String,
    /// How often all connections were cut.
    cuts: usize,
}

impl Relay {
    /// Starts one in front of this address, where everything passes.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to(address: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("an address").to_string();
        let begins = State { manner: Manner::Pass, there: address.to_owned(), cuts: 0 };
        let state = Arc::new(watch::Sender::new(begins));
        let taken = Arc::new(AtomicUsize::new(0));
        let (told, counted) = (Arc::clone(&state), Arc::clone(&taken));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let state = told.subscribe();
                if state.borrow().manner == Manner::Refuse {
                    let _ = stream.set_zero_linger();
                    continue;
                }
                tokio::spawn(relay(stream, state));
            }
        });
        Relay { address: here, state, taken, task }
    }

    /// Its URL for Redis.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on it does this.
    pub fn will(&self, manner: Manner) {
        self.state.send_modify(|state| state.manner = manner);
    }

    /// New connections lead there; those that stand go on where they lead.
    pub fn leads_to(&self, address: &str) {
        self.state.send_modify(|state| address.clone_into(&mut state.there));
    }

    /// Cuts all connections that stand.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// How many connections have come.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn relay(here: TcpStream, state: watch::Receiver<State>) {
    let mut watched = state.clone();
    let State { there, cuts, .. } = watched.borrow().clone();
    let Ok(behind) = TcpStream::connect(&there).await else { return };
    let _ = (here.set_nodelay(true), behind.set_nodelay(true));
    let (asks, answered) = here.into_split();
    let (answers, asked) = behind.into_split();
    tokio::select! {
        () = questions(asks, asked, state.clone()) => {}
        () = replies(answers, answered, state) => {}
        _ = watched.wait_for(|state| state.cuts != cuts) => {}
    }
}

async fn questions(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        // It never ends: the relay outlives its connections.
        let _ = state.wait_for(|state| state.manner != Manner::Hold).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn replies(from: OwnedReadHalf, to: OwnedWriteHalf, state: watch::Receiver<State>) {
    let (sender, due) = mpsc::unbounded_channel();
    tokio::join!(take(from, sender, state.clone()), give(to, due, state));
}

/// Takes answers and says when each is to be given.
async fn take(
    mut from: OwnedReadHalf,
    due: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
    state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let delay = match state.borrow().manner {
            Manner::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        if due.send((Instant::now() + delay, bytes[..count].to_vec())).is_err() {
            return;
        }
    }
}

async fn give(
    mut to: OwnedWriteHalf,
    mut due: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    mut state: watch::Receiver<State>,
) {
    while let Some((when, bytes)) = due.recv().await {
        tokio::time::sleep_until(when).await;
        let _ = state.wait_for(|state| state.manner != Manner::Hold).await;
        let manner = state.borrow().manner;
        if let Manner::CutAnswers(after) = manner
            && bytes.len() > after
        {
            let _ = to.write_all(&bytes[..after]).await;
            return;
        }
        let bytes = if manner == Manner::LoseMessages { without_messages(&bytes) } else { bytes };
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// These bytes of RESP without the messages of channels in them, each of which is small and comes
/// in one piece.
fn without_messages(bytes: &[u8]) -> Vec<u8> {
    const HEAD: &[u8] = b"3\r\n$7\r\nmessage\r\n";
    let begins =
        |rest: &[u8]| matches!(rest.first(), Some(b'*' | b'>')) && rest[1..].starts_with(HEAD);
    let (mut kept, mut rest) = (Vec::new(), bytes);
    while let Some((first, more)) = rest.split_first() {
        if begins(rest) {
            // The channel, and what is said there.
            rest = behind_text(behind_text(&more[HEAD.len()..]));
        } else {
            kept.push(*first);
            rest = more;
        }
    }
    kept
}

/// What follows a text of RESP: `$`, its length, an end of line, as many bytes, an end of line.
fn behind_text(bytes: &[u8]) -> &[u8] {
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let length = std::str::from_utf8(bytes.get(1..line).unwrap_or_default());
    let length: usize = length.ok().and_then(|text| text.trim_end().parse().ok()).unwrap_or(0);
    bytes.get(line + 1 + length + 2..).unwrap_or_default()
}
