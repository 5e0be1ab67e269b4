//! `cache-server top`: what a running server does, from its figures.

mod figures;
mod table;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cache_server::telemetry::latency::in_words;

use super::{Failure, TopOptions, serve};
use figures::{Figures, Sample};
use table::render;

/// How long a server may take to show its figures.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of figures that are read at most.
const FIGURES_BYTES_MAX: usize = 4 << 20;

/// Columns and rows where the terminal does not tell.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// A table on a pipe is not cut.
const UNCUT: (usize, usize) = (usize::MAX, usize::MAX);

pub(crate) fn run(options: &TopOptions) -> Result<(), Failure> {
    let once = options.once || !std::io::stdout().is_terminal();
    serve::runtime()?.block_on(async {
        let server = Server::at(&options.admin).map_err(Failure::start)?;
        if once {
            let sample = server.look().await.map_err(Failure::start)?;
            return print(&render(None, &sample, UNCUT.0, UNCUT.1)).map_err(Failure::start);
        }
        let stop = serve::stop_signal().map_err(Failure::start)?;
        let screen = Screen::open().map_err(Failure::start)?;
        tokio::select! {
            () = stop => Ok(()),
            ended = watch(&server, &screen, options.interval) => ended.map_err(Failure::start),
        }
    })
}

/// Looks and draws until it is stopped; a server that is away is asked again.
async fn watch(server: &Server, screen: &Screen, interval: Duration) -> anyhow::Result<()> {
    let mut previous: Option<Sample> = None;
    loop {
        match server.look().await {
            Ok(sample) => {
                let (width, height) = screen.size();
                screen.draw(&render(previous.as_ref(), &sample, width, height))?;
                previous = Some(sample);
            }
            Err(error) => {
                let pause = in_words(interval);
                screen
                    .draw(&format!("{error:#}\nTrying again every {pause}; Ctrl-C ends it.\n"))?;
                previous = None;
            }
        }
        tokio::time::sleep(interval).await;
    }
}

/// The admin listener of a server.
struct Server {
    address: String,
    client: reqwest::Client,
}

impl Server {
    fn at(address: &str) -> anyhow::Result<Server> {
        // A second call finds a provider installed already, and that one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // The admin listener speaks no TLS: no certificate authorities are needed.
            .tls_certs_only([])
            .timeout(PATIENCE)
            .build()?;
        Ok(Server { address: address.to_owned(), client })
    }

    async fn look(&self) -> anyhow::Result<Sample> {
        let figures = self.figures().await;
        let figures =
            figures.with_context(|| format!("no figures from http://{}/stats", self.address))?;
        Ok(Sample { taken: Instant::now(), figures })
    }

    async fn figures(&self) -> anyhow::Result<Figures> {
        let asked = self.client.get(format!("http://{}/stats", self.address)).send();
        // The address is said already; a second time would only hide the cause.
        let mut answer = asked.await.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("it answers {}", answer.status());
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + piece.len() > FIGURES_BYTES_MAX {
                bail!("it answers with more than {FIGURES_BYTES_MAX} bytes");
            }
            body.extend_from_slice(&piece);
        }
        serde_json::from_slice(&body).context("it answers with something else")
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the table")
}

/// A terminal that is drawn over. Its cursor is hidden until this is dropped.
struct Screen(());

impl Screen {
    fn open() -> anyhow::Result<Screen> {
        print("\x1b[2J\x1b[?25l")?;
        Ok(Screen(()))
    }

    /// Draws over what was there, without a flicker: each line is cleared behind its text, and
    /// all that is below.
    fn draw(&self, text: &str) -> anyhow::Result<()> {
        print(&format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")))
    }

    /// Columns, and rows less the one that the cursor stands on.
    fn size(&self) -> (usize, usize) {
        let told = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
        let told = told.map(|size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let (columns, rows) =
            told.filter(|(columns, rows)| *columns > 0 && *rows > 1).unwrap_or(USUAL_SIZE);
        (columns, rows - 1)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told if the terminal is gone.
        let _ = print("\x1b[?25h");
    }
}
