//! Conformance: holds a running HTTP cache to the rules of RFC 9110 (sections 9, 13 to 15), 9111,
//! 5861, 9211, 9213, 9875 and 10008, rule by rule, and nginx and Varnish, where they are installed,
//! to the same ones.
//!
//! A rule is data: what is asked, what the upstream says, what must come of it. Nothing here knows
//! of the inside of a cache; whether an answer was stored is told by the upstream's count of calls.
//!
//! - [`rule`], [`expect`]: what a rule is, and how it is written; [`rules`]: all of them;
//! - [`upstream`], [`caller`], [`message`]: the two ends of each connection, in bare HTTP/1.1;
//! - [`products`], [`run`], [`judge`]: who is tested, how, and by what measure;
//! - [`verdict`], [`table`]: what comes of it.

mod caller;
mod expect;
#[path = "../shared/peers.rs"]
mod installed;
mod judge;
mod message;
mod products;
mod rule;
mod rules;
mod run;
#[path = "../shared/mod.rs"]
#[allow(dead_code, reason = "what measures load shares more than processes")]
mod shared;
mod table;
mod upstream;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tempfile::TempDir;

use products::Product;
use rule::{Kind, Rule};
use shared::single_thread;
use table::Standing;
use upstream::Upstream;

/// Holds caches to the rules of HTTP, one by one.
#[derive(Debug, Parser)]
struct Arguments {
    /// Run this cache alone. Repeatable
    #[arg(long, value_name = "CACHE", value_enum)]
    only: Vec<Product>,
    /// Run the rules whose sentence has this in it, and what they need
    #[arg(long, value_name = "TEXT")]
    rule: Option<String>,
    /// Tell what is broken by the peers, too
    #[arg(long)]
    peers: bool,
    /// Tell of every rule, in columns
    #[arg(long)]
    every: bool,
    /// The server under test [default: cache-server beside this binary]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let conducted = single_thread().and_then(|runtime| runtime.block_on(conduct(&arguments)));
    match conducted {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("conformance: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all and prints what comes of it. Says whether the server under test keeps every MUST, but for
/// those that it breaks knowingly.
async fn conduct(arguments: &Arguments) -> anyhow::Result<bool> {
    let rules = chosen(arguments.rule.as_deref());
    let upstream = Upstream::start().await?;
    let mut results = Vec::new();
    for product in [Product::CacheServer, Product::Nginx, Product::Varnish] {
        if arguments.only.is_empty() || arguments.only.contains(&product) {
            results.extend(result(product, arguments, &rules, &upstream).await?);
        }
    }
    let told: Vec<Product> = results
        .iter()
        .map(|result| result.product)
        .filter(|product| arguments.peers || *product == Product::CacheServer)
        .collect();
    print!("{}", table::text(&rules, &results, &told));
    if arguments.every {
        results.iter().for_each(|result| print!("{}", table::every(&rules, result)));
    }
    let ours = results.iter().filter(|result| result.product == Product::CacheServer);
    let breaks_a_must = |result: &Standing| {
        let mut broken = verdict::broken(&rules, &result.outcomes, Kind::Must);
        broken.any(|(rule, _)| !is_let_be(rule))
    };
    Ok(!ours.into_iter().any(breaks_a_must))
}

/// Whether cache-server breaks a rule knowingly. Interim answers end at it: whoever reads along, and
/// whoever is given what is stored, could have none.
fn is_let_be(rule: &Rule) -> bool {
    rule.section.rfc == 9110 && rule.section.number == [15, 2]
}

/// Runs all rules against one cache; nothing if it is not installed.
async fn result(
    product: Product,
    arguments: &Arguments,
    rules: &[Rule],
    upstream: &Upstream,
) -> anyhow::Result<Option<Standing>> {
    let folder = TempDir::new().context("cannot make a temporary folder")?;
    let server = product.start(folder.path(), upstream, arguments.server.as_deref()).await?;
    let Some(server) = server else {
        eprintln!("{} is not installed", product.name());
        return Ok(None);
    };
    let outcomes = run::all(rules, product.name(), server.address, upstream).await?;
    server.stop().await?;
    Ok(Some(Standing { product, outcomes: verdict::settle(rules, outcomes) }))
}

/// The rules with this text in their sentence and those that they need; all without one.
fn chosen(text: Option<&str>) -> Vec<Rule> {
    let mut rules = rules::all();
    let Some(text) = text else { return rules };
    let is_named = |rule: &Rule| rule.id.contains(text);
    let mut wanted: Vec<String> =
        rules.iter().filter(|rule| is_named(rule)).map(|rule| rule.id.clone()).collect();
    let mut next = 0;
    while let Some(id) = wanted.get(next).cloned() {
        let needed = rules.iter().filter(|rule| rule.id == id).flat_map(|rule| &rule.given);
        let needed: Vec<String> = needed.map(|id| (*id).to_owned()).collect();
        for id in needed {
            if !wanted.contains(&id) {
                wanted.push(id);
            }
        }
        next += 1;
    }
    rules.retain(|rule| wanted.contains(&rule.id));
    rules
}
