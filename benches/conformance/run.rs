//! Running: each rule in a folder of its own, many at once, as most of their time is a pause.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use crate::caller;
use crate::judge::{Calls, judge};
use crate::rule::{Ask, Rule, Step};
use crate::upstream::Upstream;

/// How many rules run at once: enough that pauses overlap, and few enough that no answer is late.
const AT_ONCE: usize = 64;

/// What became of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Kept,
    /// What happened instead.
    Broken(String),
    /// Why nothing can be said.
    NotShown(String),
}

/// Runs all rules against a cache; the outcomes are in their order. `name` tells its folders from
/// those of others.
pub(crate) async fn all(
    rules: &[Rule],
    name: &str,
    cache: SocketAddr,
    upstream: &Upstream,
) -> anyhow::Result<Vec<Outcome>> {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let running: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| {
            let (steps, room, upstream) = (rule.steps.clone(), Arc::clone(&room), upstream.clone());
            let folder = format!("{name}{index}");
            tokio::spawn(async move {
                let _place = room.acquire().await;
                one(&steps, &folder, cache, &upstream).await
            })
        })
        .collect();
    let ended = join_all(running).await;
    ended.into_iter().collect::<Result<_, _>>().context("a rule could not be run")
}

async fn one(steps: &[Step], folder: &str, cache: SocketAddr, upstream: &Upstream) -> Outcome {
    let many = steps.iter().filter(|step| matches!(step, Step::Ask(_))).count();
    let mut number = 0;
    for step in steps {
        let ask = match step {
            Step::Pause(duration) => {
                tokio::time::sleep(*duration).await;
                continue;
            }
            Step::Ask(ask) => ask,
        };
        number += 1;
        if let Err(wrong) = take(ask, folder, cache, upstream).await {
            let wrong = format!("answer {number} of {many}: {wrong}");
            let prepares = ask.prepares || ask.expect.is_empty();
            return if prepares { Outcome::NotShown(wrong) } else { Outcome::Broken(wrong) };
        }
    }
    Outcome::Kept
}

/// One step: all its callers ask at once, and each answer is judged.
async fn take(
    ask: &Ask,
    folder: &str,
    cache: SocketAddr,
    upstream: &Upstream,
) -> Result<(), String> {
    let before = upstream.calls(folder).len();
    upstream.say(folder, &ask.reply);
    let asking = (0..ask.callers).map(|_| caller::ask(cache, folder, ask));
    let answers = join_all(asking).await;
    let all = upstream.calls(folder);
    for answer in answers {
        judge(ask, &answer?, Calls { all: &all, before })?;
    }
    Ok(())
}
