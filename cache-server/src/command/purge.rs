//! `cache-server purge`: orders a server to let go of what it has stored.

use clap::{ArgGroup, Args};
use http::Method;
use keyspec::Key;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::admin_client::{self, AdminClient, AdminOptions};
use super::{Failure, print};

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("what")
        .required(true)
        .multiple(true)
        .args(["key", "tag", "url", "route", "tenant", "everything"])
))]
pub(crate) struct PurgeOptions {
    /// The entry of this key. Repeatable, as all that follow: an entry is purged if any one fits
    #[arg(long, value_name = "KEY")]
    key: Vec<Key>,
    /// Every entry with this tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Every entry of this URL
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Every entry of this model route or [[key_spec]]
    #[arg(long, value_name = "NAME")]
    route: Vec<String>,
    /// Every entry of this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Vec<String>,
    /// All entries
    // Beside a narrower choice it would be a slip of the pen, and a costly one.
    #[arg(long, conflicts_with_all = ["key", "tag", "url", "route", "tenant"])]
    everything: bool,
    /// Make them stale instead: they may still answer as stale entries do
    #[arg(long)]
    soft: bool,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: AdminOptions,
}

/// What the server answers.
#[derive(Debug, Deserialize)]
struct Ordered {
    sequence: u64,
}

pub(crate) fn run(options: &PurgeOptions) -> Result<(), Failure> {
    let client = options.server.client()?;
    print(admin_client::run(purge(&client, options))?.as_bytes())
}

async fn purge(client: &AdminClient, options: &PurgeOptions) -> anyhow::Result<String> {
    let answer = client.ask(Method::POST, "/purge", Some(&body(options))).await?;
    if options.json {
        return Ok(format!("{}\n", answer.json::<Value>()?));
    }
    let Ordered { sequence } = answer.json()?;
    let done = if options.soft { "Purged softly" } else { "Purged" };
    Ok(format!("{done}, as number {sequence}.\n"))
}

/// What the server is sent: only what was given.
fn body(options: &PurgeOptions) -> Value {
    let keys: Vec<String> = options.key.iter().map(Key::to_string).collect();
    let lists = [
        ("keys", &keys),
        ("tags", &options.tag),
        ("urls", &options.url),
        ("routes", &options.route),
        ("tenants", &options.tenant),
    ];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let lists = lists.map(|(name, list)| (name.to_owned(), Value::from(list.as_slice())));
    let flags = [("everything", options.everything), ("soft", options.soft)];
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
    let flags = flags.map(|(name, is_set)| (name.to_owned(), Value::from(is_set)));
    Value::Object(lists.chain(flags).collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::super::admin_client::tests::{options, server_saying};
    use super::super::{Arguments, Command};
    use super::*;

    fn typed(arguments: &str) -> Result<PurgeOptions, clap::Error> {
        let words = arguments.split(' ').filter(|word| !word.is_empty());
        match Arguments::try_parse_from(["cache-server", "purge"].into_iter().chain(words))?.command
        {
            Command::Purge(options) => Ok(options),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_given_is_sent_and_nothing_else() {
        let key = Key::from_bytes([1; 32]);
        let all = format!(
            "--key {key} --tag a --tag b --url https://x.example/ --route openai.embeddings \
             --tenant team --soft"
        );
        let expected = json!({
            "keys": [key.to_string()], "tags": ["a", "b"], "urls": ["https://x.example/"],
            "routes": ["openai.embeddings"], "tenants": ["team"], "soft": true,
        });
        assert_eq!(body(&typed(&all).unwrap()), expected);
        assert_eq!(body(&typed("--everything").unwrap()), json!({"everything": true}));
    }

    #[test]
    fn an_order_that_names_nothing_or_too_much_is_wrong_usage() {
        for wrong in ["", "--soft", "--everything --tenant team", "--key abc", "--tag"] {
            assert_eq!(typed(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn the_number_of_the_order_is_told() {
        for (arguments, expected) in [
            ("--tag a", "Purged, as number 42.\n"),
            ("--tag a --soft", "Purged softly, as number 42.\n"),
            ("--tag a --json", "{\"sequence\":42}\n"),
        ] {
            let (address, asked) = server_saying("200 OK", r#"{"sequence":42}"#).await;
            let client = options(&address).client().unwrap();
            let said = purge(&client, &typed(arguments).unwrap()).await.unwrap();
            assert_eq!(said, expected);
            assert!(asked.await.unwrap().starts_with("POST /purge HTTP/1.1\r\n"));
        }
    }
}
