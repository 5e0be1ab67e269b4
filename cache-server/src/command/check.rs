//! `cache-server check`: validates a config and says in words what it means.

use cache_server::config::policy::{Asked, default_lifetime};
use cache_server::config::{Config, Overrides};
use humantime::format_duration;
use keyspec::ModelRoute;

use super::{CheckOptions, Failure, load_config};

pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let config = load_config(Some(&options.config), &Overrides::default())?;
    print!("{}", explain(&config));
    Ok(())
}

fn explain(config: &Config) -> String {
    let mut lines = vec![format!("{} upstream(s):", config.upstreams.len())];
    for upstream in &config.upstreams {
        lines.push(format!(
            "  {}/ → {} ({}; connect within {}, silent for {} at most)",
            upstream.prefix,
            upstream.base,
            upstream.name,
            format_duration(upstream.connect_timeout),
            format_duration(upstream.read_timeout),
        ));
    }
    lines.push(format!(
        "Callers connect to {}; health, metrics and stats are on {}.",
        config.server.listen, config.server.admin_listen
    ));
    lines.push(tier_line(config));
    lines.push("For a caller of no named tenant, by upstream and route:".into());
    for upstream in &config.upstreams {
        for route in ModelRoute::ALL {
            lines.push(format!("  {}", policy_line(config, &upstream.name, route)));
        }
    }
    lines.push(format!("{} credential(s) belong to named tenants.", config.tenants.len()));
    lines.push("The config is valid.\n".into());
    lines.join("\n")
}

fn tier_line(config: &Config) -> String {
    let local = &config.local;
    let size = |bytes: usize| bytesize::ByteSize::b(bytes as u64);
    let memory = size(local.memory_bytes_max);
    if local.disk_bytes_max == 0 {
        return format!("Entries are kept in {memory} of memory, and are gone after a restart.");
    }
    format!(
        "Entries are kept in {memory} of memory in front of {} of disk in {}.",
        size(local.disk_bytes_max),
        local.data_dir.display()
    )
}

fn policy_line(config: &Config, upstream: &str, route: ModelRoute) -> String {
    let asked = Asked { tenant: None, model: None, endpoint: route, upstream };
    let policy = config.policies.policy(&asked);
    let changed = if policy.lifetime == default_lifetime(route.kind(), policy.reuse) {
        ""
    } else {
        " (set by a route)"
    };
    let lifetime = if policy.obey_upstream {
        "as long as the upstream says".to_owned()
    } else {
        format!("for {}{changed}", format_duration(policy.lifetime.fresh))
    };
    format!(
        "{upstream} {}: reused if {}, {lifetime}; stale for {} while refreshed, for {} if the \
         upstream fails",
        route.name(),
        policy.reuse,
        format_duration(policy.lifetime.stale_while_revalidate),
        format_duration(policy.lifetime.stale_if_error),
    )
}
