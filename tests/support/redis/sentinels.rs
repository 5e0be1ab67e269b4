//! A master, its copy, and three sentinels that watch over both.

use futures_util::future::join_all;

use super::{Redis, Said, folder};
use crate::eventually;
use crate::programs::lasting_port;

/// What the sentinels call the master.
const MASTER: &str = "answers";

/// Master, copy and sentinels.
#[derive(Debug)]
pub struct Sentinels {
    /// The master at first.
    pub master: Redis,
    /// What becomes the master when that one is gone.
    pub replica: Redis,
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts all of them, and waits until they know of each other.
    pub async fn start() -> Sentinels {
        let mut sentinels = Sentinels::of(3, None).await;
        sentinels.know_each_other().await;
        sentinels
    }

    /// Starts one sentinel alone, which wants this password of those who ask it.
    pub async fn with_password(password: &str) -> Sentinels {
        Sentinels::of(1, Some(password)).await
    }

    async fn of(count: usize, password: Option<&str>) -> Sentinels {
        let master = Redis::start().await;
        let replica = Redis::replica_of(&master).await;
        let sentinels = join_all((0..count).map(|_| sentinel(&master, password))).await;
        Sentinels { master, replica, sentinels }
    }

    async fn know_each_other(&mut self) {
        for sentinel in &self.sentinels {
            eventually("a sentinel that knows of all others", || async {
                let (mut others, mut copies) = (0, 0);
                for fields in sentinel.call(&["SENTINEL", "MASTERS"]).await.list() {
                    let fields: Vec<String> = fields.list().iter().map(Said::text).collect();
                    let field = |name: &str| {
                        let place = fields.iter().position(|field| field == name)?;
                        fields.get(place + 1)?.parse().ok()
                    };
                    others = field("num-other-sentinels").unwrap_or(0);
                    copies = field("num-slaves").unwrap_or(0);
                }
                (others == 2 && copies == 1).then_some(())
            })
            .await;
        }
    }

    /// Where they are, as in a URL.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.sentinels.iter().map(Redis::address).collect::<Vec<_>>().join(",")
    }

    /// The URL by which the master is found.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+sentinel://{}/{MASTER}", self.addresses())
    }

    /// Kills one of the sentinels.
    pub async fn kill_one(&mut self) {
        self.sentinels[0].kill().await;
    }
}

/// A sentinel changes its config file, which is its memory.
async fn sentinel(master: &Redis, password: Option<&str>) -> Redis {
    let (folder, port) = (folder(), lasting_port());
    let dir = folder.path().display();
    let mut lines = format!(
        "port {port}\nbind 127.0.0.1\ndir {dir}\nlogfile {dir}/log\n\
         sentinel monitor {MASTER} 127.0.0.1 {} 2\n\
         sentinel down-after-milliseconds {MASTER} 500\n\
         sentinel failover-timeout {MASTER} 5000\n",
        master.port
    );
    if let Some(password) = password {
        lines += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
    }
    let file = folder.path().join("sentinel.conf");
    std::fs::write(&file, lines).expect("the config is written");
    let arguments = vec![file.display().to_string(), "--sentinel".to_owned()];
    let mut sentinel = Redis::launch(folder, port, arguments).await;
    sentinel.login = password.map(Into::into);
    sentinel
}
