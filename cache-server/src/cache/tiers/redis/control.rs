//! Control: what servers ask of Redis beside entries, on a connection that no entry's bytes hold up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use keyspec::Key;
use redis::{Cmd, Value};
use tokio::sync::watch;

use super::link::{Link, Reach};
use super::settings::RedisSettings;
use crate::cache::tiers::TierError;

/// A way to ask Redis.
#[derive(Clone, Debug)]
pub struct Control {
    link: Arc<Link>,
    prefix: Arc<str>,
    /// What the names of values begin with.
    values: Arc<str>,
    /// What this process calls itself; no other does.
    process: Arc<str>,
    /// For what a fetch waits for.
    deadline: Duration,
    /// For what nobody waits for.
    patient_deadline: Duration,
}

impl Control {
    /// One for these settings, where the names of values begin so.
    pub(super) fn new(
        link: Arc<Link>,
        settings: &RedisSettings,
        values: &str,
        process: &Arc<str>,
    ) -> Control {
        Control {
            link,
            prefix: settings.prefix.as_str().into(),
            values: values.into(),
            process: Arc::clone(process),
            deadline: settings.patience(),
            patient_deadline: settings.write_deadline,
        }
    }

    /// What the names of all keys begin with, before a colon.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What this process calls itself; no other does.
    #[must_use]
    pub fn process(&self) -> &str {
        &self.process
    }

    /// The name of a key's lease.
    #[must_use]
    pub fn lease_name(&self, key: &Key) -> Vec<u8> {
        lease_name(&self.prefix, &super::name(&self.values, key))
    }

    /// Sends a command about one key's value or lease, for a fetch that waits.
    ///
    /// # Errors
    /// When Redis is not to be asked, does not answer in time, or says something else.
    pub async fn ask(&self, key: &Key, command: &Cmd) -> Result<Value, TierError> {
        let name = super::name(&self.values, key);
        self.link.control(&name, command, self.deadline).await
    }

    /// Sends a command about keys with this hash tag, for which nobody waits.
    ///
    /// # Errors
    /// As [`Control::ask`].
    pub async fn call(&self, tag: &[u8], command: &Cmd) -> Result<Value, TierError> {
        self.link.control(tag, command, self.patient_deadline).await
    }

    /// From now on no entry is read unless it was noted that all that is purged is known.
    pub fn need_touch(&self) {
        self.link.touch().need();
    }

    /// All that is purged is known, as of an exchange that began on these connections.
    pub fn note_touch(&self, connection: u64) {
        self.link.touch().note(connection);
    }

    /// How often connections were made, now and later.
    #[must_use]
    pub fn connected(&self) -> watch::Receiver<u64> {
        self.link.connected()
    }

    /// Whether Redis can be reached, as far as is known.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.link.is_up()
    }

    /// Waits until Redis can be reached; nothing if it never will.
    pub async fn reachable(&self) -> Option<()> {
        let mut reach: watch::Receiver<Reach> = self.link.reach();
        reach.wait_for(|reach| *reach == Reach::Up).await.ok().map(|_| ())
    }

    /// Calls `heard` with each message that is published on these channels, and its channel; before that
    /// once with neither, when it begins to listen, for what it may have missed. It ends when the
    /// connection does.
    ///
    /// # Errors
    /// When there is no connection in time.
    pub async fn listen(
        &self,
        channels: &[String],
        mut heard: impl FnMut(&str, &[u8]),
    ) -> Result<(), TierError> {
        let mut listening = self.link.listen(channels).await?;
        heard("", &[]);
        let mut messages = listening.on_message();
        while let Some(message) = messages.next().await {
            heard(message.get_channel_name(), message.get_payload_bytes());
        }
        Ok(())
    }
}

/// The name of the lease of a value: in a cluster it is where the value is.
pub(super) fn lease_name(prefix: &str, value: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), b":lease:{", value, b"}"].concat()
}
