//! nginx in front of servers, with what `deploy/three-servers/nginx.conf` says of balancing.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;

use crate::installed;
use crate::shared::process::Server;

/// How nginx chooses a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    /// One after the other.
    RoundRobin,
    /// By a hash of the affinity field, or of the URI where there is none.
    Hash,
}

impl Balance {
    fn directive(self) -> &'static str {
        match self {
            Balance::RoundRobin => "",
            Balance::Hash => "hash $affinity consistent;",
        }
    }
}

/// Starts nginx in front of these.
pub(crate) async fn nginx(
    folder: &Path,
    servers: &[SocketAddr],
    balance: Balance,
    core: Option<usize>,
) -> anyhow::Result<Server> {
    std::fs::create_dir(folder)?;
    let http = |_: &Path, address| http(address, servers, balance);
    let started = installed::nginx_with(folder, core, http).await?;
    started.context("nginx is not installed; Debian has it in nginx-light")
}

fn http(address: SocketAddr, servers: &[SocketAddr], balance: Balance) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("server {server} max_fails=1 fail_timeout=2s;"))
        .collect();
    let (servers, directive) = (servers.join(" "), balance.directive());
    format!(
        r#"map $http_x_cache_affinity $affinity {{
        default $http_x_cache_affinity;
        ""      $request_uri;
    }}
    upstream cache {{
        {directive}
        {servers}
        keepalive 64;
        keepalive_requests 1000000;
    }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://cache;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_next_upstream error timeout non_idempotent;
            proxy_next_upstream_timeout 10s;
        }}
    }}"#
    )
}
