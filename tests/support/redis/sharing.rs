//! Servers that share a Redis, and what they say of it.

use serde_json::Value;

use crate::{Server, Setup, eventually};

impl Setup {
    /// With this Redis behind its own tiers. It waits long for Redis: what is asserted is not to hang
    /// on a machine that is busy. Tests of deadlines say another one.
    #[must_use]
    pub fn sharing(self, url: &str) -> Setup {
        self.argument("--redis")
            .argument(url)
            .variable("CACHE_SERVER_REDIS_DEADLINE", "3s")
            .variable("CACHE_SERVER_REDIS_WRITE_DEADLINE", "3s")
    }

    /// With another field of `[redis]`.
    #[must_use]
    pub fn redis(self, field: &str, value: &str) -> Setup {
        let name = format!("CACHE_SERVER_REDIS_{}", field.to_ascii_uppercase());
        self.variable(&name, value)
    }
}

impl Server {
    /// What it says of Redis in its figures.
    pub async fn redis(&self) -> Value {
        self.stats().await["redis"].clone()
    }

    /// How many values it has written to Redis.
    pub async fn written(&self) -> f64 {
        self.metric("cache_server_redis_writes_total{outcome=\"written\"}").await
    }

    /// Waits until it has written so many.
    pub async fn has_written(&self, count: u32) {
        eventually(&format!("{count} values written"), || async {
            (self.written().await >= f64::from(count)).then_some(())
        })
        .await;
    }

    /// How many of its reads of Redis ended like this: `found`, `absent`, `failed` or `skipped`.
    pub async fn redis_reads(&self, outcome: &str) -> f64 {
        self.metric(&format!("cache_server_redis_reads_total{{outcome=\"{outcome}\"}}")).await
    }

    /// How many calls of Redis failed for this reason.
    pub async fn redis_errors(&self, kind: &str) -> f64 {
        let labels = format!("tier=\"redis\",kind=\"{kind}\"");
        self.metric(&format!("cache_server_tier_errors_total{{{labels}}}")).await
    }

    /// How many values it dropped instead of writing them, for this reason.
    pub async fn redis_drops(&self, reason: &str) -> f64 {
        let series = format!("cache_server_redis_write_drops_total{{reason=\"{reason}\"}}");
        self.metric(&series).await
    }

    /// What it says when it is asked whether it is ready.
    ///
    /// # Panics
    /// When it is not.
    pub async fn readiness(&self) -> String {
        let answer = self.admin_client().get("/readyz").await;
        assert_eq!(answer.status, 200, "it serves");
        String::from_utf8(answer.body.to_vec()).expect("text").trim().to_owned()
    }

    /// Waits until it says this when it is asked whether it is ready.
    pub async fn is_ready(&self, said: &str) {
        eventually(&format!("{said:?}"), || async {
            (self.readiness().await == said).then_some(())
        })
        .await;
    }
}
