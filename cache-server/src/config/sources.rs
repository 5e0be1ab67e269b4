//! Where a config comes from: defaults, a file, the environment, flags. Each goes before the ones
//! named earlier, field by field, and what is in force knows where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Table, Value};

use super::schema::{Field, Form, fields};
use super::{Config, ConfigError, LoadError, is_name, redis, validate, what_is_wrong, written};

/// Everything beside the defaults that a config is made of. It is kept, so that the config can be
/// made anew when the file has changed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those that are none of ours are passed over.
    pub environment: Vec<(String, String)>,
    /// What flags set.
    pub flags: Vec<FlagValue>,
    /// `--upstream`, each `URL` or `NAME=URL`; any at all replace those of the file.
    pub upstreams: Vec<String>,
}

/// What a flag says about a field.
#[derive(Clone, Debug)]
pub struct FlagValue {
    /// The flag, such as `--listen`.
    pub flag: String,
    /// The field's path, such as `server.listen`.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// The file.
    File,
    /// A variable of the environment.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File => f.write_str("file"),
            Origin::Environment(name) => f.write_str(name),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A config in force, and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config as used.
    pub config: Config,
    /// The config as written, complete.
    pub effective: Effective,
}

/// Every value in force, with its origin.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// All of it, as a file would say it.
    pub values: Table,
    origins: BTreeMap<String, Origin>,
    /// The same before defaults were filled into the tables of lists.
    as_given: Table,
    /// Variables that look like ours and are not.
    pub unknown_variables: Vec<String>,
}

impl Effective {
    /// Whether a field of a list's table was said, and is no default.
    #[must_use]
    pub fn is_given(&self, list: &str, index: usize, field: &str) -> bool {
        let table = self.as_given.get(list).and_then(|list| list.get(index));
        table.is_some_and(|table| table.get(field).is_some())
    }

    /// Where the value at `path` comes from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or_default()
    }

    /// The value of a field, as it would be written, but for passwords; `None` if it is not set.
    #[must_use]
    pub fn value(&self, field: &Field) -> Option<String> {
        let value = self.raw_value(field)?;
        match value.as_str().filter(|_| field.path == "redis.url") {
            Some(url) => Some(Value::String(redis::masked(url)).to_string()),
            None => Some(value.to_string()),
        }
    }

    fn raw_value(&self, field: &Field) -> Option<&Value> {
        let (section, name) = field.split();
        self.values.get(section)?.get(name)
    }

    /// The paths whose values differ from those of `other`: fields, or whole lists.
    #[must_use]
    pub fn changed_since(&self, other: &Effective) -> Vec<String> {
        let of_fields =
            fields().into_iter().filter(|field| self.raw_value(field) != other.raw_value(field));
        let mut changed: Vec<String> = of_fields.map(|field| field.path).collect();
        let differs = |list: &&str| self.values.get(*list) != other.values.get(*list);
        changed.extend(LISTS.into_iter().filter(differs).map(Into::into));
        changed
    }
}

/// What is made of tables, and lives in the file alone.
pub const LISTS: [&str; 4] = ["upstream", "route", "tenant", "key_spec"];

/// Variables with a shorter name than the rule gives them: `CACHE_SERVER_`, section, field.
const SHORT_NAMES: [(&str, &str); 5] = [
    ("CACHE_SERVER_LISTEN", "server.listen"),
    ("CACHE_SERVER_ADMIN_LISTEN", "server.admin_listen"),
    ("CACHE_SERVER_DATA_DIR", "cache.data_dir"),
    ("CACHE_SERVER_REUSE", "cache.reuse"),
    ("CACHE_SERVER_REDIS", "redis.url"),
];
/// What `--upstream` says, separated by spaces.
const UPSTREAM_VARIABLE: &str = "CACHE_SERVER_UPSTREAM";
/// Variables of ours that are no fields: the file's name, and secrets.
const OTHER_VARIABLES: [&str; 4] = [
    "CACHE_SERVER_CONFIG",
    "CACHE_SERVER_ADMIN_TOKEN",
    "CACHE_SERVER_COMMIT",
    redis::PASSWORD_VARIABLE,
];
const PREFIX: &str = "CACHE_SERVER_";

/// The variable that sets the field at `path`.
#[must_use]
pub fn variable(path: &str) -> String {
    match SHORT_NAMES.iter().find(|(_, known)| *known == path) {
        Some((name, _)) => (*name).to_owned(),
        None => by_rule(path),
    }
}

fn by_rule(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_uppercase())
}

impl Sources {
    /// Only a file.
    #[must_use]
    pub fn of_file(file: PathBuf) -> Sources {
        Sources { file: Some(file), ..Sources::default() }
    }

    /// With the environment of this process.
    #[must_use]
    pub fn with_environment(self) -> Sources {
        // A variable that is not text is none of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Sources { environment, ..self }
    }

    /// Reads everything, lays one over the other and checks the whole.
    ///
    /// # Errors
    /// When the file cannot be read or parsed, or a value is not allowed.
    pub fn load(&self) -> Result<Loaded, LoadError> {
        self.load_over(&written::File::default())
    }

    /// Does so with other defaults, which `file` holds.
    ///
    /// # Errors
    /// As [`Sources::load`].
    pub fn load_over(&self, file: &written::File) -> Result<Loaded, LoadError> {
        let mut layers = Layers { values: table_of(file), ..Layers::default() };
        if let Some(path) = &self.file {
            let text = super::read(path)?;
            layers.lay_file(super::parse_toml(path, &text)?);
        }
        layers.lay_environment(&self.environment)?;
        for flag in &self.flags {
            let origin = Origin::Flag(flag.flag.clone());
            layers.lay_text(&flag.path, &flag.text, origin)?;
        }
        let variable = self.environment.iter().find(|(name, _)| name == UPSTREAM_VARIABLE);
        let variable = variable.filter(|(_, list)| says_something(list));
        if !self.upstreams.is_empty() {
            layers.lay_upstreams(&self.upstreams, Origin::Flag("--upstream".into()))?;
        } else if let Some((name, list)) = variable {
            let list: Vec<String> = list.split_whitespace().map(Into::into).collect();
            layers.lay_upstreams(&list, Origin::Environment(name.clone()))?;
        }
        layers.finish()
    }
}

/// Whether a variable of the environment is set: an empty one stands where a script has nothing to
/// say, and must not empty a list.
fn says_something(text: &str) -> bool {
    !text.trim().is_empty()
}

/// The layers so far, as one.
#[derive(Debug, Default)]
struct Layers {
    values: Table,
    origins: BTreeMap<String, Origin>,
    unknown_variables: Vec<String>,
}

impl Layers {
    /// Lays the file over the defaults: sections field by field, all else as a whole.
    fn lay_file(&mut self, file: Table) {
        for (name, value) in file {
            match value {
                Value::Table(section) => {
                    for (field, value) in section {
                        self.set(&name, &field, value, Origin::File);
                    }
                }
                other => {
                    self.origins.insert(name.clone(), Origin::File);
                    self.values.insert(name, other);
                }
            }
        }
    }

    fn lay_environment(&mut self, variables: &[(String, String)]) -> Result<(), ConfigError> {
        let fields = fields();
        let is_set = |wanted: &str| {
            variables.iter().any(|(name, text)| name == wanted && says_something(text))
        };
        for (name, text) in variables {
            let by_name = fields.iter().find(|field| variable(&field.path) == *name);
            let by_rule = || fields.iter().find(|field| by_rule(&field.path) == *name);
            if let Some(field) = by_name.or_else(by_rule) {
                // The shorter name goes before the other.
                let is_overridden = by_name.is_none() && is_set(&variable(&field.path));
                if says_something(text) && !is_overridden {
                    self.lay(field, text, Origin::Environment(name.clone()))?;
                }
            } else if name.starts_with(PREFIX)
                && name != UPSTREAM_VARIABLE
                && !OTHER_VARIABLES.contains(&name.as_str())
            {
                self.unknown_variables.push(name.clone());
            }
        }
        Ok(())
    }

    fn lay_text(&mut self, path: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let fields = fields();
        let field = fields.iter().find(|field| field.path == path).ok_or_else(|| {
            let allowed = "section.field=value with a field of [server] or another section; \
                           `cache-server check` lists them all";
            ConfigError::new(origin.to_string(), path, allowed)
        })?;
        self.lay(field, text, origin)
    }

    /// Lays text from outside the file over a field; what it cannot mean is refused by the name of
    /// its origin.
    fn lay(&mut self, field: &Field, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let refuse = |allowed: &str| ConfigError::new(origin.to_string(), hide(text), allowed);
        let value = match field.form {
            Form::Text => Value::String(text.to_owned()),
            Form::Integer => Value::Integer(text.parse().map_err(|_| refuse("a whole number"))?),
            Form::Number => Value::Float(text.parse().map_err(|_| refuse("a number"))?),
            Form::Boolean => Value::Boolean(text.parse().map_err(|_| refuse("true or false"))?),
            Form::List => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
            }
        };
        let (section, name) = field.split();
        let alone = Table::from_iter([(name.to_owned(), value.clone())]);
        let alone = Table::from_iter([
            ("version".to_owned(), Value::Integer(1)),
            (section.to_owned(), Value::Table(alone)),
        ]);
        written::File::deserialize(alone)
            .map_err(|error| refuse(&what_is_wrong(error.message())))?;
        self.set(section, name, value, origin);
        Ok(())
    }

    fn set(&mut self, section: &str, field: &str, value: Value, origin: Origin) {
        self.origins.insert(format!("{section}.{field}"), origin);
        let section = self.values.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(field.to_owned(), value);
        }
    }

    fn lay_upstreams(&mut self, arguments: &[String], origin: Origin) -> Result<(), ConfigError> {
        let plain = |argument: &&String| named_argument(argument).is_none();
        if arguments.iter().filter(plain).count() > 1 {
            let allowed =
                "at most one plain URL, which takes everything: write the others NAME=URL";
            return Err(ConfigError::new("--upstream", hide(&arguments.join(" ")), allowed));
        }
        let upstreams: Result<Vec<Value>, ConfigError> = arguments
            .iter()
            .map(|argument| Ok(Value::Table(table_of(&upstream_argument(argument)?))))
            .collect();
        self.values.insert("upstream".into(), Value::Array(upstreams?));
        self.origins.insert("upstream".into(), origin);
        Ok(())
    }

    fn finish(self) -> Result<Loaded, LoadError> {
        let file = written::File::deserialize(self.values.clone())
            .map_err(|error| what_is_wrong(error.message()))
            .map_err(|why| ConfigError::new("config", "(as a whole)", &why))?;
        let file = file.with_upstreams();
        let config = validate(&file).map_err(|error| self.name_origin(error))?;
        let Layers { values: as_given, origins, unknown_variables } = self;
        let values = table_of(&file);
        let effective = Effective { values, origins, as_given, unknown_variables };
        Ok(Loaded { config, effective })
    }

    /// A value that came from elsewhere than the file is looked for there.
    fn name_origin(&self, error: ConfigError) -> ConfigError {
        match self.origins.get(&error.field) {
            Some(origin @ (Origin::Environment(_) | Origin::Flag(_))) => {
                ConfigError { field: format!("{origin} ({})", error.field), ..error }
            }
            _ => error,
        }
    }
}

fn table_of(written: &impl serde::Serialize) -> Table {
    Table::try_from(written).expect("what is written in TOML can be written in TOML")
}

/// `URL` takes everything; `NAME=URL` is mounted under `/NAME`.
fn upstream_argument(argument: &str) -> Result<written::Upstream, ConfigError> {
    match named_argument(argument) {
        Some((name, url)) => Ok(written::Upstream::named(name, url, None)),
        None if argument.contains("://") => {
            Ok(written::Upstream::named("upstream", argument, Some("/")))
        }
        None => Err(ConfigError::new(
            "--upstream",
            hide(argument),
            "write URL, or NAME=URL with a name of letters, digits, - and _",
        )),
    }
}

fn named_argument(argument: &str) -> Option<(&str, &str)> {
    argument.split_once('=').filter(|(name, _)| is_name(name))
}

/// A value as it may be shown: not where it may hold a password or a key.
pub(super) fn hide(text: &str) -> &str {
    if text.contains(['@', '?']) { "(hidden: it holds an @ or a ?)" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(environment: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Sources {
        let pairs = environment.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        let flags = flags.iter().map(|(flag, path, text)| FlagValue {
            flag: (*flag).into(),
            path: (*path).into(),
            text: (*text).into(),
        });
        Sources { environment: pairs.collect(), flags: flags.collect(), ..Sources::default() }
    }

    fn with_file(text: &str, sources: Sources) -> (tempfile::TempDir, Sources) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        (folder, Sources { file: Some(path), ..sources })
    }

    fn refused(sources: &Sources) -> String {
        match sources.load() {
            Err(LoadError::Invalid(error)) => error.to_string(),
            other => panic!("it was not refused: {other:?}"),
        }
    }

    #[test]
    fn a_field_with_a_short_variable_has_the_long_one_too() {
        let long = ("CACHE_SERVER_REDIS_URL", "redis://long");
        let short = ("CACHE_SERVER_REDIS", "redis://short");
        for (variables, url) in [(&[long][..], "redis://long"), (&[long, short], "redis://short")] {
            let variables = [variables, &[("CACHE_SERVER_DATA_DIR", "/data")]].concat();
            let Loaded { effective, .. } = sources(&variables, &[]).load().unwrap();
            assert_eq!(effective.values["redis"]["url"].as_str(), Some(url));
            assert!(effective.unknown_variables.is_empty());
        }
    }

    #[test]
    fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
        let text = "version = 1\n[server]\nidle_timeout = '1s'\nbody_timeout = '1s'\n\
                    write_timeout = '1s'\n[cache]\ndata_dir = '/data'\n";
        let (_folder, sources) = with_file(
            text,
            sources(
                &[
                    ("CACHE_SERVER_SERVER_IDLE_TIMEOUT", "2s"),
                    ("CACHE_SERVER_SERVER_BODY_TIMEOUT", "2s"),
                ],
                &[("--set", "server.idle_timeout", "3s")],
            ),
        );
        let Loaded { config, effective } = sources.load().unwrap();
        let seconds = [
            config.server.idle_timeout,
            config.server.body_timeout,
            config.server.write_timeout,
            config.server.header_timeout,
        ]
        .map(|time| time.as_secs());
        assert_eq!(seconds, [3, 2, 1, 10]);
        let variable = "CACHE_SERVER_SERVER_BODY_TIMEOUT";
        for (path, origin) in [
            ("server.idle_timeout", Origin::Flag("--set".into())),
            ("server.body_timeout", Origin::Environment(variable.into())),
            ("server.write_timeout", Origin::File),
            ("server.header_timeout", Origin::Default),
        ] {
            assert_eq!(effective.origin(path), origin, "{path}");
        }
    }

    #[test]
    fn every_field_can_be_set_from_the_environment_in_its_own_form() {
        let set = sources(
            &[
                ("CACHE_SERVER_DATA_DIR", "/data"),
                ("CACHE_SERVER_LISTEN", "127.0.0.1:1"),
                ("CACHE_SERVER_CACHE_MEMORY_BYTES_MAX", "1GiB"),
                ("CACHE_SERVER_SERVER_CONNECTIONS_MAX", "7"),
            ],
            &[],
        );
        let config = set.load().unwrap().config;
        assert_eq!(config.server.listen.port(), 1);
        assert_eq!(config.local.memory_bytes_max, 1 << 30);
        assert_eq!(config.server.connections_max, 7);
        let names: std::collections::BTreeSet<String> =
            fields().iter().map(|field| variable(&field.path)).collect();
        assert_eq!(names.len(), fields().len(), "two fields share a variable");
    }

    #[test]
    fn a_value_that_is_not_allowed_is_refused_by_the_name_of_its_origin() {
        for (environment, flags, expected) in [
            (&[("CACHE_SERVER_SERVER_CONNECTIONS_MAX", "many")][..], &[][..], "a whole number"),
            (&[("CACHE_SERVER_SERVER_CONNECTIONS_MAX", "0")], &[], "at least 1"),
            (&[("CACHE_SERVER_SERVER_IDLE_TIMEOUT", "soon")], &[], "is no duration"),
            (&[("CACHE_SERVER_REUSE", "sometimes")], &[], "deterministic, declared or any"),
            (&[], &[("--listen", "server.listen", "here")], "127.0.0.1:8080"),
            (&[], &[("--set", "server.nothing", "1")], "`cache-server check` lists them"),
        ] {
            let error = refused(&sources(environment, flags));
            let name = environment.first().map_or_else(|| flags[0].0, |(name, _)| name);
            assert!(error.contains(name) && error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn a_variable_that_only_looks_like_ours_is_told_and_does_no_harm() {
        // Kubernetes sets such for a service named cache-server.
        let set = sources(
            &[
                ("CACHE_SERVER_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
                ("CACHE_SERVER_DATA_DIR", "/d"),
            ],
            &[],
        );
        let effective = set.load().unwrap().effective;
        assert_eq!(effective.unknown_variables, ["CACHE_SERVER_PORT_8080_TCP"]);
    }

    #[test]
    fn what_changed_is_told_by_path() {
        let data = ("CACHE_SERVER_DATA_DIR", "/data");
        let before = sources(&[data], &[]).load().unwrap().effective;
        let mut after = sources(&[data, ("CACHE_SERVER_SERVER_IDLE_TIMEOUT", "5s")], &[]);
        after.upstreams = vec!["http://u:1".into()];
        let after = after.load().unwrap().effective;
        assert_eq!(after.changed_since(&before), ["server.idle_timeout", "upstream"]);
        assert!(after.changed_since(&after).is_empty());
    }

    #[test]
    fn an_upstream_argument_takes_everything_or_is_mounted_by_name() {
        let with = |arguments: &[&str]| {
            let upstreams = arguments.iter().map(ToString::to_string).collect();
            let data = sources(&[("CACHE_SERVER_DATA_DIR", "/data")], &[]);
            Sources { upstreams, ..data }.load().map(|loaded| loaded.config.upstreams)
        };
        assert!(with(&["http://u:1/base?"]).is_err(), "a query is refused");
        assert_eq!(with(&["http://u:1/base"]).unwrap()[0].prefix, "");
        let two = with(&["a=http://u:1", "bb=http://u:2"]).unwrap();
        assert_eq!(two[0].prefix, "/bb", "the longest prefix is asked first");
        for refused in [&["nonsense"][..], &["a=http://x", "a=http://y"], &["http://x", "http://y"]]
        {
            assert!(with(refused).is_err(), "{refused:?}");
        }
    }
}
