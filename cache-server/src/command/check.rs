//! `cache-server check`: validates a config and says in words what it means.

use cache_server::cache::tiers::redis::settings::RedisSettings;
use cache_server::config::Config;
use std::fmt::Write as _;

use cache_server::config::policy::{Asked, Policy, default_lifetime, reuse_in_words};
use cache_server::config::schema;
use cache_server::config::sources::{Effective, LISTS, Loaded, Origin};
use humantime::format_duration;
use keyspec::{KeySpec, ModelRoute, Overlap};

use super::{Failure, ServeOptions};

pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    let Loaded { config, effective } = options.sources().load()?;
    print!("{}\n{}", values(&effective), explain(&config));
    Ok(())
}

/// Every value in force, where it comes from, and what it means.
fn values(effective: &Effective) -> String {
    let mut text = String::new();
    let mut section = String::new();
    for field in schema::fields() {
        let (its_section, name) = field.split();
        if its_section != section {
            section = its_section.to_owned();
            let _ = writeln!(text, "\n[{section}]");
        }
        let value = match effective.value(&field) {
            Some(value) => format!("{name} = {value}"),
            None => format!("# {name} is not set"),
        };
        let restart = if field.needs_restart { " (a change needs a restart)" } else { "" };
        let origin = effective.origin(&field.path);
        let meaning = field.meaning.trim_end_matches('.');
        let _ = writeln!(text, "{value:<44} # {origin}: {meaning}{restart}");
    }
    for list in LISTS {
        text.push_str(&list_of(effective, list));
    }
    for name in &effective.unknown_variables {
        let _ = writeln!(text, "\n# {name} is set and means nothing to this program");
    }
    text
}

/// The tables of a list, as a file would say them.
fn list_of(effective: &Effective, list: &str) -> String {
    let Some(toml::Value::Array(tables)) = effective.values.get(list) else { return String::new() };
    let (origin, mut text) = (effective.origin(list), String::new());
    for (index, table) in tables.iter().filter_map(toml::Value::as_table).enumerate() {
        let _ = writeln!(text, "\n[[{list}]]");
        for (name, value) in table {
            let value = format!("{name} = {value}");
            let given = effective.is_given(list, index, name);
            let origin = if given { &origin } else { &Origin::Default };
            let _ = writeln!(text, "{value:<44} # {origin}");
        }
    }
    text
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
    lines.extend(config.redis.as_ref().map(redis_line));
    lines.extend(config.trace.as_ref().map(|trace| {
        let (endpoint, sample) = (&trace.endpoint, trace.sample);
        format!("Traces are exported to {endpoint}; of those that begin here, a share of {sample}.")
    }));
    lines.push("Where no [[route]] by tenant or model says otherwise:".into());
    let specs = config.policies.specs();
    for spec in ModelRoute::ALL.map(|route| specs.preset(route)).into_iter().chain(specs.declared())
    {
        lines.extend(policy_lines(config, spec));
    }
    lines.extend(specs.overlaps().iter().map(overlap_line));
    let routes: Vec<String> = config.policies.routes_in_words().collect();
    lines.push(format!("{} route(s), the most specific first:", routes.len()));
    lines.extend(routes.iter().map(|route| format!("  {route}")));
    let mut tenants: Vec<&str> = config.tenants.values().map(AsRef::as_ref).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let credentials = config.tenants.len();
    lines.push(format!(
        "{} named tenant(s) with {credentials} credential(s): {}",
        tenants.len(),
        tenants.join(", ")
    ));
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

fn redis_line(redis: &RedisSettings) -> String {
    let tls = if redis.tls.is_some() { " over TLS" } else { "" };
    format!(
        "Behind them is what servers share, in Redis at {}{tls}, database {}, under {}: a read may \
         take {}.",
        redis.address,
        redis.database,
        redis.prefix,
        format_duration(redis.deadline)
    )
}

fn overlap_line(overlap: &Overlap) -> String {
    let Overlap { taken, over, path } = overlap;
    format!("  {path} is for {taken} and also for {over}: it is read by {taken}")
}

/// One line for a route if all upstreams agree on it, else one for each.
fn policy_lines(config: &Config, spec: &KeySpec) -> Vec<String> {
    let policies: Vec<(&str, Policy)> = config
        .upstreams
        .iter()
        .map(|upstream| {
            let upstream = upstream.name.as_str();
            let (endpoint, kind) = (spec.name(), spec.kind());
            let asked = Asked { tenant: None, model: None, endpoint, kind, upstream };
            (upstream, config.policies.policy(&asked))
        })
        .collect();
    if policies.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        let line = |(_, policy): &(&str, Policy)| format!("  {}", policy_line(spec, policy));
        return policies.first().map(line).into_iter().collect();
    }
    policies
        .iter()
        .map(|(upstream, policy)| format!("  {upstream} {}", policy_line(spec, policy)))
        .collect()
}

fn policy_line(spec: &KeySpec, policy: &Policy) -> String {
    let changed = if policy.lifetime == default_lifetime(spec.kind(), policy.reuse) {
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
        "{}: {}, {lifetime}; stale for {} while refreshed, for {} if the \
         upstream fails",
        spec.name(),
        reuse_in_words(policy.reuse),
        format_duration(policy.lifetime.stale_while_revalidate),
        format_duration(policy.lifetime.stale_if_error),
    )
}
