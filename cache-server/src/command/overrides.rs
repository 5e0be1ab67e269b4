//! `cache-server override`: pulls a lever for a while, shows those that are pulled, and lets one
//! go before its time.

use std::time::Duration;

use cache_server::cache::overrides::Lever;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::admin_client::{self, AdminClient, AdminOptions, plain};
use super::{Failure, print};

#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct OverrideOptions {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Pull a lever for a while; it reverts by itself
    Add(AddOptions),
    /// Show the levers that are pulled
    List(ListOptions),
    /// Let a lever go before its time
    Remove(RemoveOptions),
}

#[derive(Debug, Args)]
struct AddOptions {
    /// bypass: requests go past the cache. lifetimes: times FACTOR, for what is stored already
    /// too. stale-only: what is stored answers however old, without asking the upstream.
    /// negative-off: negative entries are neither used nor stored
    #[arg(value_name = "LEVER", value_parser = PossibleValuesParser::new(Lever::NAMES))]
    lever: String,
    /// How many times as long lifetimes are: above 0, and at most 1000
    #[arg(long, value_name = "FACTOR", required_if_eq("lever", "lifetimes"))]
    factor: Option<f64>,
    /// Only for this model route, this [[key_spec]], or `http` for all that is neither
    #[arg(long, value_name = "NAME")]
    route: Option<String>,
    /// Only for this model, or those that begin so: gpt-4*
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only for this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// For how long: from 1s to 30days
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    r#for: Duration,
    /// For what reason
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who pulls it
    #[arg(long, value_name = "NAME", env = "USER")]
    who: String,
    #[command(flatten)]
    server: AdminOptions,
}

#[derive(Debug, Args)]
struct ListOptions {
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: AdminOptions,
}

#[derive(Debug, Args)]
struct RemoveOptions {
    /// Its number
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    server: AdminOptions,
}

pub(crate) fn run(options: &OverrideOptions) -> Result<(), Failure> {
    let said = match &options.action {
        Action::Add(options) => {
            let client = options.server.client()?;
            admin_client::run(add(&client, options))?
        }
        Action::List(options) => {
            let client = options.server.client()?;
            admin_client::run(list(&client, options.json))?
        }
        Action::Remove(options) => {
            let client = options.server.client()?;
            admin_client::run(remove(&client, options.id))?
        }
    };
    print(said.as_bytes())
}

async fn add(client: &AdminClient, options: &AddOptions) -> anyhow::Result<String> {
    let asked = client.ask(Method::POST, "/overrides", Some(&body(options))).await?;
    let added: Pulled = asked.json()?;
    Ok(format!("{} is pulled for {}, as number {}.\n", added.lever(), added.left(), added.id))
}

/// What the server is sent: only what was given.
fn body(options: &AddOptions) -> Value {
    let lasts = humantime::format_duration(options.r#for).to_string();
    let given: [(&str, Option<Value>); 8] = [
        ("lever", Some(options.lever.as_str().into())),
        ("factor", options.factor.map(Value::from)),
        ("route", options.route.as_deref().map(Value::from)),
        ("model", options.model.as_deref().map(Value::from)),
        ("tenant", options.tenant.as_deref().map(Value::from)),
        ("for", Some(lasts.into())),
        ("who", Some(options.who.as_str().into())),
        ("why", Some(options.why.as_str().into())),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<String, Value>>())
}

async fn list(client: &AdminClient, json: bool) -> anyhow::Result<String> {
    let asked = client.ask(Method::GET, "/overrides", None).await?;
    if json {
        return Ok(format!("{}\n", asked.json::<Value>()?));
    }
    Ok(table(&asked.json::<Vec<Pulled>>()?))
}

async fn remove(client: &AdminClient, id: u64) -> anyhow::Result<String> {
    client.ask(Method::DELETE, &format!("/overrides/{id}"), None).await?.granted()?;
    Ok(format!("Number {id} is let go.\n"))
}

/// An override, as the server shows it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pulled {
    id: u64,
    lever: String,
    factor: Option<f64>,
    route: Option<String>,
    model: Option<String>,
    tenant: Option<String>,
    left_s: u64,
    who: String,
    why: String,
}

impl Pulled {
    fn lever(&self) -> String {
        match self.factor {
            Some(factor) => format!("{} × {factor}", plain(&self.lever)),
            None => plain(&self.lever),
        }
    }

    fn selects(&self) -> String {
        let named = [("route", &self.route), ("model", &self.model), ("tenant", &self.tenant)];
        let named = named.into_iter().filter_map(|(what, name)| Some((what, name.as_deref()?)));
        let named: Vec<String> =
            named.map(|(what, name)| format!("{what} {}", plain(name))).collect();
        if named.is_empty() { "every request".to_owned() } else { named.join(", ") }
    }

    fn left(&self) -> String {
        humantime::format_duration(Duration::from_secs(self.left_s.max(1))).to_string()
    }
}

/// A line for each, in columns as wide as what is in them.
fn table(all: &[Pulled]) -> String {
    if all.is_empty() {
        return "No lever is pulled.\n".to_owned();
    }
    let heading = ["ID", "LEVER", "SELECTS", "LEFT", "WHO", "WHY"].map(str::to_owned);
    let row = |pulled: &Pulled| {
        let (who, why) = (plain(&pulled.who), plain(&pulled.why));
        [pulled.id.to_string(), pulled.lever(), pulled.selects(), pulled.left(), who, why]
    };
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(all.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::super::admin_client::tests::{options, server_saying};
    use super::super::{Arguments, Command};
    use super::*;

    fn typed(arguments: &str) -> Result<OverrideOptions, clap::Error> {
        let words = ["cache-server", "override"].into_iter().chain(arguments.split(' '));
        match Arguments::try_parse_from(words)?.command {
            Command::Override(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    fn typed_add(arguments: &str) -> AddOptions {
        match typed(arguments).unwrap().action {
            Action::Add(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_given_is_sent_and_nothing_else() {
        let all = typed_add(
            "add lifetimes --factor 2.5 --route openai.embeddings --model gpt-4* --tenant team \
             --for 90m --why slow --who kim",
        );
        let expected = json!({
            "lever": "lifetimes", "factor": 2.5, "route": "openai.embeddings", "model": "gpt-4*",
            "tenant": "team", "for": "1h 30m", "why": "slow", "who": "kim",
        });
        assert_eq!(body(&all), expected);
        let least = typed_add("add bypass --for 1s --why x --who kim");
        assert_eq!(body(&least), json!({"lever": "bypass", "for": "1s", "why": "x", "who": "kim"}));
    }

    #[test]
    fn what_could_mean_nothing_is_wrong_usage() {
        for wrong in [
            "add explode --for 1s --why x --who k",
            "add lifetimes --for 1s --why x --who k",
            "add bypass --why x --who k",
            "add bypass --for soon --why x --who k",
            "add bypass --for 1s --who k",
            "remove first",
            "remove",
            "list 7",
        ] {
            assert_eq!(typed(wrong).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_override_that_was_added_is_told_with_its_number() {
        let shown = json!({
            "id": 7, "lever": "lifetimes", "factor": 3.0, "left_s": 3600, "who": "kim",
            "why": "x", "since": "2026-01-01T00:00:00.000Z", "until": "2026-01-01T01:00:00.000Z",
        });
        let (address, asked) = server_saying("201 Created", shown.to_string()).await;
        let typed = typed_add("add lifetimes --factor 3 --for 1h --why x --who kim");
        let said = add(&options(&address).client().unwrap(), &typed).await.unwrap();
        assert_eq!(said, "lifetimes × 3 is pulled for 1h, as number 7.\n");
        assert!(asked.await.unwrap().starts_with("POST /overrides HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn the_list_is_a_table_or_the_servers_json() {
        let shown = json!([
            {"id": 1, "lever": "stale-only", "left_s": 61, "who": "kim", "why": "it is down"},
            {"id": 12, "lever": "lifetimes", "factor": 0.5, "model": "gpt-4*", "tenant": "team",
             "left_s": 0, "who": "lee\u{1b}", "why": "y"},
        ]);
        let (address, asked) = server_saying("200 OK", shown.to_string()).await;
        let said = list(&options(&address).client().unwrap(), false).await.unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "ID  LEVER            SELECTS                    LEFT   WHO        WHY",
                "1   stale-only       every request              1m 1s  kim        it is down",
                "12  lifetimes × 0.5  model gpt-4*, tenant team  1s     lee\\u{1b}  y",
            ]
        );
        assert!(asked.await.unwrap().starts_with("GET /overrides HTTP/1.1\r\n"));
        let (address, _asked) = server_saying("200 OK", shown.to_string()).await;
        let said = list(&options(&address).client().unwrap(), true).await.unwrap();
        assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), shown);
        let (address, _asked) = server_saying("200 OK", "[]").await;
        let said = list(&options(&address).client().unwrap(), false).await.unwrap();
        assert_eq!(said, "No lever is pulled.\n");
    }

    #[tokio::test]
    async fn a_lever_is_let_go_by_its_number() {
        let (address, asked) = server_saying("204 No Content", "").await;
        remove(&options(&address).client().unwrap(), 7).await.unwrap();
        assert!(asked.await.unwrap().starts_with("DELETE /overrides/7 HTTP/1.1\r\n"));
        let problem = json!({"code": "no-such-override", "detail": "there is none"});
        let (address, _asked) = server_saying("404 Not Found", problem.to_string()).await;
        let refused = remove(&options(&address).client().unwrap(), 7).await.unwrap_err();
        assert_eq!(refused.to_string(), "there is none (no-such-override)");
    }
}
