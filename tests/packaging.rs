//! The container's and the service's files say nothing that the program does not understand.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use black_box_tests::run;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(path: &str) -> String {
    let path = workspace().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines that are no comments, continued lines joined.
fn statements(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect()
}

/// What stands behind a word at the start of the container file's statements.
fn instructions(name: &str) -> Vec<String> {
    let prefix = format!("{name} ");
    let found: Vec<String> = statements(&read("packaging/Containerfile"))
        .iter()
        .filter_map(|statement| statement.strip_prefix(&prefix))
        .map(Into::into)
        .collect();
    assert!(!found.is_empty(), "no {name}");
    found
}

/// The values of a setting of the unit.
fn settings(name: &str) -> Vec<String> {
    let prefix = format!("{name}=");
    let found: Vec<String> = statements(&read("packaging/cache-server.service"))
        .iter()
        .filter_map(|statement| statement.strip_prefix(&prefix))
        .map(Into::into)
        .collect();
    assert!(!found.is_empty(), "no {name}");
    found
}

/// The value of a top-level array of texts in a manifest.
fn array(manifest: &str, name: &str) -> Vec<String> {
    let (_, rest) = manifest.split_once(&format!("{name} = [")).expect("the array");
    let (inside, _) = rest.split_once(']').expect("its end");
    inside.split(',').map(|text| text.trim().trim_matches('"').to_owned()).collect()
}

/// What the sample says a field's default is.
fn sample_default(field: &str) -> String {
    let sample = read("docs/cache-server.toml");
    let prefix = format!("{field} = ");
    let line = sample.lines().find_map(|line| line.strip_prefix(&prefix)).expect("the field");
    let value = line.split('#').next().expect("a value");
    value.trim().trim_matches('"').to_owned()
}

/// The words of a text that begin like this.
fn words_with(text: &str, prefix: &str) -> Vec<String> {
    let is_inside =
        |byte: char| byte.is_ascii_alphanumeric() || matches!(byte, '_' | '-' | '.' | '/');
    let rest = |(at, _): (usize, &str)| text[at..].split(|byte| !is_inside(byte)).next();
    let found = text.match_indices(prefix).filter_map(rest);
    found.map(|word| word.trim_end_matches('.').to_owned()).collect()
}

async fn help(program: &str, subcommand: &str) -> String {
    let ended = run(program, &[subcommand, "--help"]).await;
    assert!(ended.status.success(), "{program} {subcommand}: {}", ended.stderr);
    ended.stdout
}

/// Fails unless the program has this subcommand with these flags.
async fn assert_understood(command: &[String]) {
    let (program, arguments) = command.split_first().expect("a program");
    let name = program.rsplit('/').next().expect("a name");
    let (subcommand, options) = arguments.split_first().expect("a subcommand");
    let help = help(name, subcommand).await;
    for flag in options.iter().filter(|option| option.starts_with("--")) {
        assert!(help.contains(&format!("{flag} <")), "{name} {subcommand} has no {flag}");
    }
}

/// Fails unless `serve` reads this variable.
async fn assert_read(assignment: &str) {
    let (name, _) = assignment.split_once('=').expect("NAME=value");
    let help = help("cache-server", "serve").await;
    assert!(help.contains(&format!("[env: {name}")), "serve does not read {name}");
}

#[test]
fn every_path_that_the_image_copies_exists_and_reaches_the_build() {
    let reaches = read(".dockerignore");
    let reaches: Vec<&str> = reaches.lines().filter_map(|line| line.strip_prefix('!')).collect();
    let mut copied = Vec::new();
    for copy in instructions("COPY").iter().filter(|copy| !copy.contains("--from=")) {
        let paths: Vec<&str> = copy.split_whitespace().collect();
        let (_, sources) = paths.split_last().expect("a destination");
        for source in sources {
            assert!(workspace().join(source).exists(), "there is no {source}");
            assert!(reaches.contains(source), ".dockerignore keeps {source} out");
            copied.push((*source).to_owned());
        }
    }
    for member in array(&read("Cargo.toml"), "members") {
        assert!(copied.contains(&member), "cargo misses {member} in the image");
    }
    assert_eq!(copied.len(), reaches.len(), "what reaches the build is copied");
}

#[test]
fn the_image_takes_what_its_build_makes() {
    let build = instructions("RUN").concat();
    for copy in instructions("COPY").iter().filter(|copy| copy.contains("--from=build")) {
        let source = copy.split_whitespace().find(|word| word.starts_with("/build/"));
        let source = source.expect("a source in the build");
        if let Some(name) = source.strip_prefix("/build/target/release/") {
            let package = if name == "warm" { "warmers" } else { name };
            assert!(build.contains(&format!("--package {package}")), "{name} is not built");
            assert!(black_box_tests::server::binary(name).exists());
        } else {
            assert!(build.contains(&format!(" {source}")), "{source} is not made");
        }
    }
}

#[test]
fn the_image_builds_with_a_rust_that_is_new_enough() {
    let minor = |version: &str| -> u32 {
        let minor = version.strip_prefix("1.").expect("Rust 1");
        let end = minor.find(|byte: char| !byte.is_ascii_digit()).unwrap_or(minor.len());
        minor[..end].parse().expect("a number")
    };
    let from = instructions("FROM");
    let (_, image) = from[0].split_once("/rust:").expect("an image with Rust");
    let manifest = read("Cargo.toml");
    let (_, needed) = manifest.split_once("rust-version = \"").expect("a version");
    assert!(minor(image) >= minor(needed), "{image}");
}

#[tokio::test]
async fn everything_that_is_run_is_understood() {
    let list = |text: &str| -> Vec<String> { serde_json::from_str(text).expect("a JSON list") };
    let health = &instructions("HEALTHCHECK")[0];
    let (_, health) = health.split_once(" CMD ").expect("a command");
    let entrypoint = list(&instructions("ENTRYPOINT")[0]);
    let run = [entrypoint, list(&instructions("CMD")[0])].concat();
    let start = settings("ExecStart")[0].split(' ').map(Into::into).collect();
    for command in [list(health), run, start] {
        assert_understood(&command).await;
    }
}

#[tokio::test]
async fn every_variable_that_is_set_is_read() {
    let of_the_server = |assignments: Vec<String>| -> Vec<String> {
        let words = assignments.iter().flat_map(|line| line.split_whitespace());
        words.filter(|word| !word.starts_with("CACHE_SERVER_COMMIT")).map(Into::into).collect()
    };
    let image = of_the_server(instructions("ENV"));
    let unit = of_the_server(settings("Environment"));
    assert_eq!((image.len(), unit.len()), (3, 1));
    for assignment in image.iter().chain(&unit) {
        assert_read(assignment).await;
    }
    // The build script reads the one that is left out above.
    assert!(read("build.rs").contains("\"CACHE_SERVER_COMMIT\""));
    let exposed = &instructions("EXPOSE")[0];
    for port in exposed.split(' ') {
        assert!(image.iter().any(|assignment| assignment.ends_with(&format!(":{port}"))));
    }
}

#[tokio::test]
async fn the_config_of_the_unit_is_valid() {
    let path = workspace().join("packaging/cache-server.toml");
    let checked = run("cache-server", &["check", "--config", path.to_str().expect("text")]).await;
    assert!(checked.status.success(), "{}", checked.stderr);
}

#[test]
fn the_units_bounds_are_above_the_servers() {
    let seconds = |text: &str| -> u32 {
        text.strip_suffix('s').expect("seconds").parse().expect("a number of seconds")
    };
    let drain = sample_default("drain_timeout");
    let config = read("packaging/cache-server.toml");
    assert!(config.contains(&format!("\ndrain_timeout = \"{drain}\"\n")));
    // Two more are for closing the disk.
    assert!(seconds(&settings("TimeoutStopSec")[0]) > seconds(&drain) + 2);
    let connections: u32 = sample_default("connections_max").parse().expect("a number");
    let descriptors: u32 = settings("LimitNOFILE")[0].parse().expect("a number");
    // One for the caller, one for the upstream, and some for the disk.
    assert!(descriptors > 2 * connections + 1000);
}

/// The rows of a section's tables, each by the words in backquotes of its first cell.
fn rows(section: &str) -> BTreeSet<String> {
    let guide = read("docs/operations.md");
    let (_, rest) = guide.split_once(&format!("\n## {section}\n")).expect("the section");
    let section = rest.split("\n## ").next().unwrap_or_default();
    let first_cells =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
    let words = first_cells.flat_map(|cell| cell.split('`')).filter(|word| word.len() > 2);
    words.map(Into::into).collect()
}

/// Source files without their tests and without white space.
fn sources(paths: &[&str]) -> String {
    let code = |path: &&str| {
        let text = read(&format!("cache-server/src/{path}"));
        text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
    };
    paths.iter().map(code).collect::<String>().split_whitespace().collect()
}

#[test]
fn every_metric_stands_in_the_table_of_metrics_and_no_other() {
    let code = sources(&[
        "telemetry/mod.rs",
        "telemetry/flights.rs",
        "telemetry/latency.rs",
        "telemetry/redis.rs",
        "telemetry/upstream.rs",
    ]);
    let names = code.split('"').filter(|text| text.starts_with("cache_server_"));
    let names: BTreeSet<String> = names.map(Into::into).collect();
    let told: BTreeSet<String> =
        rows("Metrics").into_iter().filter(|name| name.starts_with("cache_server_")).collect();
    assert_eq!(told, names);
}

#[test]
fn every_code_of_an_error_stands_in_the_table_of_errors_and_no_other() {
    let code = sources(&["request/respond.rs", "request/respond/problem.rs", "api/problem.rs"]);
    let literals = ["full(\"", "code:\""].map(|before| code.split(before).skip(1));
    let literals = literals.into_iter().flatten().filter_map(|rest| rest.split('"').next());
    let mut codes: BTreeSet<String> = literals.map(Into::into).collect();
    for rest in code.split("StatusCode::").skip(1) {
        let end = rest.find(|byte: char| !byte.is_ascii_uppercase() && byte != '_');
        let behind = rest[end.unwrap_or_default()..].strip_prefix(",\"");
        codes.extend(behind.and_then(|behind| behind.split('"').next()).map(Into::into));
    }
    assert!(codes.len() > 20, "{codes:?}");
    let told: BTreeSet<String> = rows("Errors").into_iter().filter(|word| word != "code").collect();
    assert_eq!(told, codes);
}

#[tokio::test]
async fn the_guide_names_files_and_variables_that_exist() {
    let guide = read("docs/deployment.md");
    let files = words_with(&guide, "packaging/");
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert!(workspace().join(&file).exists(), "there is no {file}");
    }
    let help = help("cache-server", "serve").await;
    let variables = words_with(&guide, "CACHE_SERVER_");
    assert!(variables.len() >= 3, "{variables:?}");
    for name in variables {
        assert!(help.contains(&format!("[env: {name}")), "serve does not read {name}");
    }
}
