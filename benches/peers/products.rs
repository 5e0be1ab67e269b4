//! The peers, as good as their manuals allow for chat completions: nginx and Varnish with the body of
//! a request in the key, as it is. Each says in `Cache-Status` where an answer is from.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::installed;
use crate::shared::process::Server;

/// nginx: one server on some addresses. On its own it is a cache in memory, by HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Nginx {
    pub(crate) server: Server,
    /// The same cache by HTTP/2 in clear.
    pub(crate) http2: SocketAddr,
    /// A cache on disk.
    pub(crate) disk: SocketAddr,
    /// A proxy without a cache.
    pub(crate) plain: SocketAddr,
}

/// Varnish, or why it takes no part.
#[derive(Debug)]
pub(crate) enum Varnish {
    Runs(Box<Server>),
    NotInstalled,
    /// What hashes bodies is in a package of its own.
    WithoutModule,
}

/// Two pools, and threads for all callers of a storm from the beginning: it is slow to make them then.
const VARNISH: [&str; 6] =
    ["-s", "malloc,1g", "-p", "listen_depth=4096", "-p", "thread_pool_min=600"];

/// Starts nginx in front of the upstream; nothing if it is not installed. It keeps entries in files
/// alone, those of `memory` in a folder that is in memory.
pub(crate) async fn nginx(
    folder: &Path,
    memory: &Path,
    upstream: SocketAddr,
    core: Option<usize>,
) -> anyhow::Result<Option<Nginx>> {
    let (http2, disk) = (installed::free_address()?, installed::free_address()?);
    let plain = installed::free_address()?;
    let http = |folder: &Path, http1: SocketAddr| {
        let stores = store("memory", memory) + &store("disk", &folder.join("cache"));
        let caches = cache("memory", &http1.to_string())
            + &cache("memory", &format!("{http2} http2"))
            + &cache("disk", &disk.to_string());
        format!("{NGINX}{}{stores}{caches}{}", model(upstream), proxy(plain))
    };
    let server = installed::nginx_with(folder, core, http).await?;
    Ok(server.map(|server| Nginx { server, http2, disk, plain }))
}

/// The whole body is in memory when the key is made of it: `$request_body` is empty otherwise. The
/// files of entries stay open, and what is read from them is in the page cache.
const NGINX: &str = r#"sendfile on;
    client_body_buffer_size 16k;
    client_body_in_single_buffer on;
    proxy_buffer_size 16k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    open_file_cache max=20000 inactive=1h;
    open_file_cache_valid 1h;
    map $upstream_cache_status $cache_said {
        HIT "peer; hit";
        MISS "peer; fwd=miss";
        default "peer; detail=$upstream_cache_status";
    }
"#;

/// A folder of entries.
fn store(name: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "    proxy_cache_path {folder} levels=1:2 keys_zone={name}:64m max_size=1g inactive=1h \
         use_temp_path=off;\n"
    )
}

/// The upstream, on connections that stay open.
fn model(upstream: SocketAddr) -> String {
    format!(
        "    upstream model {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}\n"
    )
}

/// A cache with this store.
fn cache(store: &str, listen: &str) -> String {
    format!(
        r#"    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_cache {store};
            proxy_cache_methods POST;
            proxy_cache_key "$request_uri$request_body";
            proxy_cache_valid 200 1h;
            proxy_cache_lock on;
            add_header Cache-Status $cache_said;
        }}
    }}
"#
    )
}

/// A proxy without a cache, that passes on what comes from upstream at once.
fn proxy(listen: SocketAddr) -> String {
    format!(
        r#"    server {{
        listen {listen} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_buffering off;
            add_header Cache-Status "peer; fwd=bypass";
        }}
    }}
"#
    )
}

/// Starts Varnish in front of the upstream, if it is there with the module that hashes bodies.
pub(crate) async fn varnish(
    folder: &Path,
    upstream: SocketAddr,
    core: Option<usize>,
) -> anyhow::Result<Varnish> {
    let Some(binary) = installed::program("varnishd") else { return Ok(Varnish::NotInstalled) };
    let program = folder.join("peers.vcl");
    std::fs::write(&program, varnish_program(upstream))?;
    let mut check = Command::new(binary);
    check.arg("-C").arg("-n").arg(folder.join("checked")).arg("-f").arg(&program);
    let checked = check.output().await.context("varnishd cannot be started")?;
    let said = String::from_utf8_lossy(&checked.stderr);
    if !checked.status.success() && said.contains("bodyaccess") {
        return Ok(Varnish::WithoutModule);
    }
    ensure!(checked.status.success(), "Varnish does not take its program: {said}");
    let program = program.to_str().context("the folder's name is no text")?;
    let arguments = [&VARNISH, ["-f", program].as_slice()].concat();
    let server = installed::varnish_with(folder, core, &arguments).await?;
    Ok(server.map_or(Varnish::NotInstalled, |server| Varnish::Runs(Box::new(server))))
}

/// Varnish caches no POST by itself, and would fetch by GET. What its own program does with a
/// credential (it does not cache) is left out by ending each step.
fn varnish_program(upstream: SocketAddr) -> String {
    let (host, port) = (upstream.ip(), upstream.port());
    format!(
        r#"vcl 4.1;
import std;
import bodyaccess;

backend model {{
    .host = "{host}";
    .port = "{port}";
}}

sub vcl_recv {{
    if (req.method != "POST") {{
        return (pass);
    }}
    std.cache_req_body(16KB);
    return (hash);
}}

sub vcl_hash {{
    hash_data(req.url);
    bodyaccess.hash_req_body();
    return (lookup);
}}

sub vcl_backend_fetch {{
    set bereq.method = "POST";
    return (fetch);
}}

sub vcl_backend_response {{
    set beresp.ttl = 1h;
    return (deliver);
}}

sub vcl_deliver {{
    if (obj.hits > 0) {{
        set resp.http.Cache-Status = "peer; hit";
    }} else {{
        set resp.http.Cache-Status = "peer; fwd=miss";
    }}
    return (deliver);
}}
"#
    )
}

/// How a program calls itself and its version; nothing if it is not installed.
pub(crate) async fn version(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(installed::program(program)?).arg(argument).output().await.ok()?;
    let said = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&said).lines().next()?.trim().to_owned())
}
