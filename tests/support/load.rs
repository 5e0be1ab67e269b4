//! Callers that ask without a pause, and look at every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{Answer, Client, Reply, Server, Upstream, eventually};

/// Pages that all callers ask for again and again; every other one is asked for once.
const COMMON: usize = 50;

/// Callers at work. They stop when it is dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

/// What the page at this path says: no two say the same.
#[must_use]
pub fn page(path: &str) -> Bytes {
    format!("this is {path}, and nothing else. ").repeat(20).into()
}

impl Upstream {
    /// Starts one whose pages are for all, and say where they are.
    pub async fn of_pages() -> Upstream {
        Upstream::start(|received| {
            let path = received.uri.path();
            Reply::bytes(page(path)).with("cache-control", "public, max-age=600")
        })
        .await
    }
}

/// Asks for a page and sees that it is that one.
///
/// # Panics
/// When it is not.
pub async fn ask(client: &Client, path: &str) -> Answer {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.cache_status());
    assert!(answer.body == page(path), "{path} got {:?}", answer.body);
    answer
}

impl Load {
    /// Puts so many callers on a server in front of [`Upstream::of_pages`].
    #[must_use]
    pub fn on(server: &Server, callers: usize) -> Load {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let client = server.client();
            tasks.spawn(async move {
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    ask(&client, &format!("/common/{}", (caller + round) % COMMON)).await;
                    ask(&client, &format!("/own/{caller}/{round}")).await;
                    round += 1;
                    answered.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        Load { stop, answered, callers: tasks }
    }

    /// Waits until so many more answers have come, all of them right.
    ///
    /// # Panics
    /// When one was wrong, or none came.
    pub async fn goes_on(&mut self, count: usize) {
        let until = self.answered.load(Ordering::Relaxed) + count;
        let answered = Arc::clone(&self.answered);
        let goes_on = eventually("more answers", || async {
            (answered.load(Ordering::Relaxed) >= until).then_some(())
        });
        tokio::select! {
            () = goes_on => {}
            Some(ended) = self.callers.join_next() => ended.expect("all answers are right"),
        }
    }

    /// Stops the callers, and says how many answers they got.
    ///
    /// # Panics
    /// When one of them was wrong.
    pub async fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.callers.join_next().await {
            ended.expect("all answers are right");
        }
        self.answered.load(Ordering::Relaxed)
    }
}
