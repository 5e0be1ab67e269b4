//! A Redis of our own: a `redis-server` on a free port that keeps nothing on disk.

use std::net::SocketAddr;

use anyhow::Context;
use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;
use rustix::process::Pid;
use tempfile::TempDir;
use tokio::process::Command;

use crate::installed;
use crate::shared::process::Server;

/// A running Redis. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Redis {
    server: Server,
    connection: MultiplexedConnection,
    _folder: TempDir,
}

impl Redis {
    /// Starts one on a core.
    pub(crate) async fn start(core: Option<usize>) -> anyhow::Result<Redis> {
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let address = installed::free_address()?;
        let mut command = program("redis-server")?;
        command
            .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder.path())
            // It may be stopped when its time has come, and then hears of no gentler end.
            .kill_on_drop(true);
        let server = installed::start("redis-server", command, core, address).await?;
        let client = redis::Client::open(format!("redis://{address}"))?;
        let connection = client.get_multiplexed_async_connection().await;
        let connection = connection.with_context(|| server.state())?;
        Ok(Redis { server, connection, _folder: folder })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Its process.
    pub(crate) fn process(&self) -> anyhow::Result<Pid> {
        Pid::from_raw(i32::try_from(self.server.id()?)?).context("process 0 is nobody's")
    }

    /// Seconds of processor time that it has used so far.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<Option<f64>> {
        self.server.processor_seconds()
    }

    /// What it answers to a command: words that are separated by spaces.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &str) -> anyhow::Result<T> {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap_or_default());
        words.for_each(|word| {
            asked.arg(word);
        });
        let answer = asked.query_async(&mut self.connection.clone()).await;
        answer.with_context(|| format!("{command}: {}", self.server.state()))
    }

    /// A number that it says of itself.
    pub(crate) async fn said(&self, field: &str) -> anyhow::Result<f64> {
        let info: String = self.ask("INFO").await?;
        number(&info, field).with_context(|| format!("redis says no {field}"))
    }
}

fn number(info: &str, field: &str) -> Option<f64> {
    let mut fields = info.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| *name == field)?.1.trim().parse().ok()
}

/// One of Redis's programs.
pub(crate) fn program(name: &str) -> anyhow::Result<Command> {
    let missing = || format!("{name} is not installed; Debian has it in redis-server, redis-tools");
    Ok(Command::new(installed::program(name).with_context(missing)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let info = "# Memory\r\nused_memory_rss:9\r\nused_memory:7\r\nrole:master\r\n";
        assert_eq!(number(info, "used_memory"), Some(7.0));
        assert_eq!(number(info, "role"), None);
    }
}
