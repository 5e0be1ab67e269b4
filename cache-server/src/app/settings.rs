//! What may change while the server runs: replaced as a whole when the config is read anew. A
//! request keeps those that it began with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use keyspec::CredentialDigest;

use crate::clock::Clock;
use crate::config::policy::Policies;
use crate::config::{Config, FillSettings, ServerSettings};
use crate::telemetry::Telemetry;
use crate::upstream::client::{Upstream, UpstreamSettings};
use crate::upstream::mount;

/// The part of the config that is read with each request.
#[derive(Debug)]
pub struct Settings {
    /// Tells these settings from those before and after.
    pub generation: u64,
    /// Listeners and their limits.
    pub server: ServerSettings,
    /// What is reused, and for how long.
    pub policies: Policies,
    /// Which credential belongs to which tenant.
    pub tenants: HashMap<CredentialDigest, Arc<str>>,
    /// Those with hosts of their own first, then the longest prefix.
    pub upstreams: Vec<Arc<Upstream>>,
    /// How long fills and waits for them may take.
    pub fills: FillSettings,
    /// How long after its refusal a credential still gets stored answers while the upstream is
    /// down.
    pub suspension_grace: Duration,
}

impl Settings {
    /// Makes the settings of a config. An upstream that is in `before` as it is in the config keeps
    /// its connections, its health and its figures.
    ///
    /// # Errors
    /// When a client cannot be made.
    pub fn of(
        config: Config,
        before: &[Arc<Upstream>],
        telemetry: &Telemetry,
        clock: &Clock,
    ) -> anyhow::Result<Settings> {
        let upstream = |settings: UpstreamSettings| {
            if let Some(known) = before.iter().find(|known| *known.settings() == settings) {
                return Ok(Arc::clone(known));
            }
            let name = settings.name.clone();
            let made = Upstream::new(settings, telemetry.upstream(&name), clock.clone());
            made.map(Arc::new).with_context(|| {
                format!("cannot make a client for upstream {name} (are CA certificates installed?)")
            })
        };
        Ok(Settings {
            generation: 0,
            server: config.server,
            policies: config.policies,
            tenants: config.tenants,
            upstreams: config.upstreams.into_iter().map(upstream).collect::<Result<_, _>>()?,
            fills: config.fills,
            suspension_grace: config.suspension_grace,
        })
    }

    /// The upstream that a request is for, and its path there.
    #[must_use]
    pub fn upstream_for<'p>(
        &self,
        host: Option<&str>,
        path: &'p str,
    ) -> Option<(&Arc<Upstream>, &'p str)> {
        self.upstreams
            .iter()
            .filter(|upstream| upstream.settings().answers_to(host))
            .find_map(|upstream| Some((upstream, mount::behind(upstream.prefix(), path)?)))
    }
}
