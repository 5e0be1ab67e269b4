//! `cache-server demo`: the cache in front of a bundled, simulated model API.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cache_server::api::admin::hit_ratio;
use cache_server::app::App;
use cache_server::config::Config;
use cache_server::config::sources::{Loaded, Origin};
use cache_server::config::written::{File, Upstream};
use cache_server::server::{self, Listeners};
use cache_server::simulation::{self, Calls, Simulation};
use cache_server::telemetry::log::{LogControl, LogFormat};
use cache_server::telemetry::{Outcome, Totals};
use tokio::net::TcpListener;

use super::{DemoOptions, Failure, serve};

/// Clears the live line; it is drawn again below.
const CLEAR_LINE: &str = "\r\x1b[K";
/// How often the live line is renewed on a terminal, and printed anew elsewhere if it changed.
const ON_A_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &DemoOptions) -> Result<(), Failure> {
    let terminal = std::io::stderr().is_terminal();
    serve::runtime()?.block_on(async {
        let (model, config) = prepare(options).await?;
        let clears = if terminal { CLEAR_LINE } else { "" };
        let (log, _log_guard) = LogControl::start(&config.log, clears).map_err(Failure::start)?;
        let (app, listeners) = serve::start(config, log).await.map_err(Failure::start)?;
        let calls = Arc::new(Calls::default());
        let simulation = Simulation {
            latency: options.latency,
            jitter: options.jitter,
            error_rate: options.error_rate,
            ..Simulation::default()
        };
        let simulated = tokio::spawn(simulation::serve(
            model,
            simulation,
            Arc::clone(&calls),
            std::future::pending(),
        ));
        let stop = serve::stop_signal().map_err(Failure::start)?;
        introduce(&app, &listeners, options).map_err(Failure::start)?;
        let live = tokio::spawn(show_totals(Arc::clone(&app), Arc::clone(&calls), terminal));
        server::serve(app, listeners, stop).await;
        live.abort();
        simulated.abort();
        Ok(())
    })
}

/// Binds the simulated model and points every provider's mount at it.
async fn prepare(options: &DemoOptions) -> Result<(TcpListener, Config), Failure> {
    let model = TcpListener::bind("127.0.0.1:0")
        .await
        .context("cannot listen on loopback for the simulated model")
        .map_err(Failure::start)?;
    let address = model.local_addr().map_err(Failure::start)?;
    let url = format!("http://{address}");
    let file = File {
        upstream: vec![
            Upstream::named("openai", &url, None),
            Upstream::named("anthropic", &url, None),
            Upstream::named("gemini", &url, None),
            Upstream::named("simulated", &url, Some("/")),
        ],
        ..File::default()
    };
    let Loaded { mut config, effective } = options.sources().load_over(&file)?;
    for upstream in &mut config.upstreams {
        // The simulation listens on another port each time, and is the same upstream.
        upstream.identity = "simulation".into();
    }
    // The demo is for people, wherever its lines go.
    config.log.format = LogFormat::Text;
    // What a simulation said must never be found by the real thing.
    if effective.origin("cache.data_dir") == Origin::Default {
        config.local.data_dir.push("demo");
    }
    Ok((model, config))
}

fn introduce(app: &App, listeners: &Listeners, options: &DemoOptions) -> anyhow::Result<()> {
    let data = listeners.data_address()?;
    let latency = humantime::format_duration(options.latency);
    eprintln!(
        "cache-server demo: the model API behind this cache is SIMULATED; it takes {latency} to answer."
    );
    eprintln!();
    eprintln!("Ask the same thing twice; the second answer comes from the cache:");
    eprintln!();
    let chat = r#"'{"model":"gpt-4o-mini","temperature":0,"messages":[{"role":"user","content":"Why is the sky blue?"}]}'"#;
    let embed = r#"'{"model":"text-embedding-3-small","input":"Why is the sky blue?"}'"#;
    let stream = r#"'{"model":"claude-sonnet-5-5","max_tokens":200,"temperature":0,"stream":true,"messages":[{"role":"user","content":"Why is the sky blue?"}]}'"#;
    eprintln!(
        "  curl -i http://{data}/openai/v1/chat/completions -H 'content-type: application/json' -d {chat}"
    );
    eprintln!(
        "  curl -i http://{data}/openai/v1/embeddings -H 'content-type: application/json' -d {embed}"
    );
    eprintln!(
        "  curl -iN http://{data}/anthropic/v1/messages -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' -d {stream}"
    );
    eprintln!();
    serve::print_base_urls(app, data);
    serve::print_addresses(app, listeners)
}

/// One live line of what the cache has done so far.
async fn show_totals(app: Arc<App>, calls: Arc<Calls>, terminal: bool) {
    let interval = if terminal { ON_A_TERMINAL } else { ELSEWHERE };
    let mut shown = String::new();
    loop {
        let line = totals_line(&app.telemetry.totals(), &calls);
        // A line of the log may have taken its place on the terminal.
        if terminal || line != shown {
            let (before, after) = if terminal { (CLEAR_LINE, "") } else { ("", "\n") };
            let mut stderr = std::io::stderr().lock();
            let _ = write!(stderr, "{before}{line}{after}");
            let _ = stderr.flush();
            shown = line;
        }
        tokio::time::sleep(interval).await;
    }
}

fn totals_line(totals: &Totals, calls: &Calls) -> String {
    let saved = Duration::from_millis(totals.milliseconds_saved);
    format!(
        "hits {} ({:.0} %) · misses {} · coalesced {} · bypasses {} · saved {} tokens and {:.1} s · \
         the simulated model was asked {} times",
        totals.ended(Outcome::Hit) + totals.ended(Outcome::Stale),
        100.0 * hit_ratio(totals),
        totals.ended(Outcome::Miss),
        totals.ended(Outcome::Collapsed),
        totals.ended(Outcome::Bypass),
        totals.input_tokens_saved + totals.output_tokens_saved,
        saved.as_secs_f64(),
        calls.answered(),
    )
}
