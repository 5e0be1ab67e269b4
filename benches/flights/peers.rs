//! The peers: nginx and Varnish as their manuals set them up for this, where they are installed.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::installed;
use crate::shared::process::Server;

/// How long a stale answer may be given while it is refreshed: pages say so.
pub(crate) const STALE_FOR: Duration = Duration::from_secs(60);

/// A lock for each key, and refreshes behind stale answers.
const NGINX: &str = "proxy_cache_key $request_uri;
            proxy_cache_lock on;
            proxy_cache_use_stale updating;
            proxy_cache_background_update on;";

/// Two pools, and threads for all callers and refreshes from the beginning: it is slow to make them
/// in a storm.
const VARNISH: [&str; 4] = ["-p", "listen_depth=4096", "-p", "thread_pool_min=600"];

/// Starts nginx in front of the upstream; nothing if it is not installed.
pub(crate) async fn nginx(
    folder: &Path,
    upstream: SocketAddr,
    core: Option<usize>,
) -> anyhow::Result<Option<Server>> {
    installed::nginx(folder, upstream, core, NGINX).await
}

/// Starts Varnish in front of the upstream; nothing if it is not installed.
pub(crate) async fn varnish(
    folder: &Path,
    upstream: SocketAddr,
    core: Option<usize>,
) -> anyhow::Result<Option<Server>> {
    installed::varnish(folder, upstream, core, &VARNISH).await
}
