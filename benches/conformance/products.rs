//! The caches under test: each a reverse proxy and a shared cache, set up as a careful operator
//! would for whom the RFCs count.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use tokio::process::Command;

use crate::installed;
use crate::shared::process::{self, Server};
use crate::upstream::Upstream;

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Product {
    /// The one under test.
    CacheServer,
    /// nginx, where it is installed.
    Nginx,
    /// Varnish, where it is installed.
    Varnish,
}

impl Product {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Product::CacheServer => "cache-server",
            Product::Nginx => "nginx",
            Product::Varnish => "Varnish",
        }
    }

    /// Starts it; nothing if it is a peer that is not installed.
    pub(crate) async fn start(
        self,
        folder: &Path,
        upstream: &Upstream,
        server: Option<&Path>,
    ) -> anyhow::Result<Option<Server>> {
        let address = upstream.address;
        match self {
            Product::CacheServer => cache_server(folder, upstream, server).await.map(Some),
            Product::Nginx => installed::nginx(folder, address, None, NGINX).await,
            Product::Varnish => installed::varnish(folder, address, None, &VARNISH).await,
        }
    }
}

/// nginx honours `stale-while-revalidate` and `stale-if-error` by itself; `proxy_cache_use_stale`
/// would give stale answers that nobody permits, and so is not set. It takes no notice of
/// `Authorization` unless it is told to, which its manual shows in this way, and compares dates only
/// for being the same unless it is told to look which is later.
const NGINX: &str = "proxy_cache_key $request_uri;
            proxy_cache_revalidate on;
            proxy_cache_lock on;
            proxy_cache_background_update on;
            proxy_cache_bypass $http_authorization;
            proxy_no_cache $http_authorization;
            if_modified_since before;";

/// The VCL that Varnish brings. Without a grace of its own it gives stale answers only where
/// `stale-while-revalidate` permits, and it keeps them for a while to revalidate them.
const VARNISH: [&str; 4] = ["-p", "default_grace=0", "-p", "default_keep=3600"];

/// The defaults, one route for HTTP at large, and guesses where the upstream says nothing, as some
/// rules are about those. Each credential is a tenant; callers without one share what is stored.
async fn cache_server(
    folder: &Path,
    upstream: &Upstream,
    server: Option<&Path>,
) -> anyhow::Result<Server> {
    let binary = process::binary(server, "conformance")?;
    let config = folder.join("cache-server.toml");
    let data_dir = folder.join("cache-server");
    let text = format!(
        r#"version = 1
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[cache]
data_dir = {data_dir:?}
[[upstream]]
name = "origin"
url = "http://{}"
prefix = "/"
[[route]]
endpoint = "http"
upstream = "origin"
heuristic_fresh_max = "10m"
vary_normalize = ["accept-encoding", "accept-language"]
"#,
        upstream.address
    );
    std::fs::write(&config, text).context("cannot write the config")?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("--config").arg(&config);
    Server::start("cache-server", command, None).await
}
