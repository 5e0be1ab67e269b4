//! The callers that do not behave: they hang up, take nothing, and send what is no request.

use std::time::Duration;

use anyhow::{Context, ensure};
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::callers::{PATIENCE, Stage, any_shape};
use crate::hostile;
use crate::question::{Fate, Question, Shape};

/// Longer than the server's `write_timeout`.
const TAKES_NOTHING: Duration = Duration::from_secs(8);

impl Stage {
    /// Hangs up: before the answer, in the midst of it, or in the midst of the request.
    pub(crate) async fn hang_up(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let moment = Duration::from_millis(rng.u64(..40));
        let shape = any_shape(rng);
        match rng.u8(..3) {
            0 => {
                let question = self.new_question(rng, shape, Fate::Large);
                let client = if rng.bool() { &self.http1 } else { &self.leaving };
                // Whether the answer comes sooner or not, nobody waits for the rest of it.
                let _ = timeout(moment, self.send(client, &question)).await;
            }
            1 => {
                let question = self.new_question(rng, shape, Fate::Large);
                let mut response = self.send(&self.http1, &question).await.context("no answer")?;
                response.chunk().await.context("the answer is cut")?;
            }
            _ => {
                let question = self.new_question(rng, shape, Fate::Small);
                let request = request(&question);
                let mut stream = TcpStream::connect(self.address).await?;
                stream.write_all(&request[..rng.usize(1..request.len())]).await?;
                sleep(moment).await;
            }
        }
        Ok(())
    }

    /// Asks for more than the sockets hold and takes nothing for longer than it may. What was
    /// sent until then must be the answer's beginning, and the connection must end.
    pub(crate) async fn take_nothing(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let question = self.new_question(rng, Shape::Chat, Fate::Huge);
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(16 << 10)?;
        let mut stream = socket.connect(self.address).await?;
        stream.write_all(&request(&question)).await?;
        sleep(TAKES_NOTHING).await;
        let mut came = Vec::new();
        // A cut may show as an error; what came before it counts.
        let end = timeout(PATIENCE, stream.read_to_end(&mut came)).await;
        let _ = end.context("one who takes nothing is not cut off")?;
        let body = came.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
        let body = &came[body.context("no head")?..];
        let answer = question.answer();
        ensure!(answer.starts_with(body), "A WRONG ANSWER to one who takes nothing");
        ensure!(body.len() < answer.len(), "who takes nothing was served for {TAKES_NOTHING:?}");
        Ok(())
    }

    /// Sends what is no request. It must be refused or cut off, and soon.
    pub(crate) async fn attack(&self, rng: &mut Rng) -> anyhow::Result<()> {
        let (name, bytes) = hostile::any(rng);
        let mut stream = TcpStream::connect(self.address).await?;
        // The server may have had enough before the end.
        let _ = timeout(PATIENCE, stream.write_all(&bytes)).await.context(name)?;
        if rng.bool() {
            let _ = stream.shutdown().await;
        }
        let mut came = vec![0; 1024];
        let read = timeout(PATIENCE, stream.read(&mut came)).await;
        let length = read.with_context(|| format!("{name}: no answer and no end"))?.unwrap_or(0);
        let came = String::from_utf8_lossy(&came[..length]);
        let is_refused = ["HTTP/1.1 1", "HTTP/1.1 2", "HTTP/1.1 3"]
            .iter()
            .all(|status| !came.starts_with(status));
        ensure!(is_refused, "{name} is answered: {came}");
        Ok(())
    }
}

/// The question on the wire.
fn request(question: &Question) -> Vec<u8> {
    let body = question.body();
    format!(
        "POST {} HTTP/1.1\r\nhost: soak\r\nauthorization: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        question.path(),
        question.credential(),
        body.len()
    )
    .into_bytes()
}
