//! The peers: how nginx and Varnish are started where they are installed. What they are to do is
//! said by who starts them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use crate::shared::process::Server;

/// Where servers are installed that are for administrators.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Starts nginx in front of the upstream, with these lines for all that is asked of it; nothing if
/// it is not installed. Its upstream is named `model`, and its cache `bench`.
pub(crate) async fn nginx(
    folder: &Path,
    upstream: SocketAddr,
    core: Option<usize>,
    location: &str,
) -> anyhow::Result<Option<Server>> {
    nginx_with(folder, core, |folder, address| cache(folder, address, upstream, location)).await
}

/// Starts nginx with what `http` says for its folder and its address; nothing if it is not installed.
pub(crate) async fn nginx_with(
    folder: &Path,
    core: Option<usize>,
    http: impl FnOnce(&Path, SocketAddr) -> String,
) -> anyhow::Result<Option<Server>> {
    let Some(binary) = program("nginx") else { return Ok(None) };
    let folder = folder.join("nginx");
    std::fs::create_dir(&folder)?;
    let address = free_address()?;
    let config = folder.join("nginx.conf");
    std::fs::write(&config, nginx_config(&folder, &http(&folder, address)))?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(&config).arg("-p").arg(&folder).args(["-e", "stderr"]);
    start("nginx", command, core, address).await.map(Some)
}

/// Starts Varnish in front of the upstream, with these arguments besides; nothing if it is not
/// installed.
pub(crate) async fn varnish(
    folder: &Path,
    upstream: SocketAddr,
    core: Option<usize>,
    arguments: &[&str],
) -> anyhow::Result<Option<Server>> {
    let upstream = upstream.to_string();
    let all = [&["-b", &upstream, "-s", "malloc,256m"], arguments].concat();
    varnish_with(folder, core, &all).await
}

/// Starts Varnish with arguments that say what is behind it and where it keeps entries; nothing if
/// it is not installed.
pub(crate) async fn varnish_with(
    folder: &Path,
    core: Option<usize>,
    arguments: &[&str],
) -> anyhow::Result<Option<Server>> {
    let Some(binary) = program("varnishd") else { return Ok(None) };
    let folder = folder.join("varnish");
    std::fs::create_dir(&folder)?;
    let address = free_address()?;
    let mut command = Command::new(binary);
    command
        .args(["-F", "-j", "none", "-T", "none"])
        .arg("-n")
        .arg(&folder)
        .args(["-a", &address.to_string()])
        .args(arguments);
    start("Varnish", command, core, address).await.map(Some)
}

/// Starts a server that says nothing of where it listens, on a core, and waits until it does.
pub(crate) async fn start(
    name: &'static str,
    command: Command,
    core: Option<usize>,
    address: SocketAddr,
) -> anyhow::Result<Server> {
    let listens = |_: &str| std::net::TcpStream::connect(address).is_ok().then_some(address);
    Server::start_and_wait(name, command, core, listens).await
}

/// One worker, as there is one core at most.
fn nginx_config(folder: &Path, http: &str) -> String {
    let folder = folder.display();
    format!(
        r#"user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/proxied;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"#
    )
}

/// A cache in front of the upstream.
fn cache(folder: &Path, address: SocketAddr, upstream: SocketAddr, location: &str) -> String {
    let folder = folder.display();
    format!(
        r#"proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:32m max_size=1g inactive=1h use_temp_path=off;
    upstream model {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000;
    }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache bench;
            {location}
        }}
    }}"#
    )
}

/// A free port of loopback. Whoever starts next takes it: nothing else is started in between.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    Ok(listener.local_addr()?)
}

/// A program of this name, if it is installed.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(MORE_FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}
