//! `cache-server top`: what a running server does, from its figures.

mod figures;
mod table;

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use cache_server::telemetry::latency::in_words;
use http::Method;

use super::admin_client::{AdminAnswer, AdminClient, PATIENCE};
use super::{Failure, TopOptions, serve};
use figures::{Figures, Sample};
use table::render;

/// Columns and rows where the terminal does not tell.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// A table on a pipe is not cut.
const UNCUT: (usize, usize) = (usize::MAX, usize::MAX);

pub(crate) fn run(options: &TopOptions) -> Result<(), Failure> {
    let once = options.once || !std::io::stdout().is_terminal();
    serve::runtime()?.block_on(async {
        let server =
            AdminClient::new(&options.server.authority()?, PATIENCE).map_err(Failure::start)?;
        if once {
            let sample = look(&server).await.map_err(Failure::start)?;
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
async fn watch(server: &AdminClient, screen: &Screen, interval: Duration) -> anyhow::Result<()> {
    let mut previous: Option<Sample> = None;
    loop {
        match look(server).await {
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

/// A server's figures now.
async fn look(server: &AdminClient) -> anyhow::Result<Sample> {
    let asked = server.ask(Method::GET, "/stats", None).await;
    let figures = asked.and_then(AdminAnswer::json::<Figures>);
    let figures =
        figures.with_context(|| format!("no figures from http://{}/stats", server.address()))?;
    Ok(Sample { taken: Instant::now(), figures })
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
