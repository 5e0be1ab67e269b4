//! Arguments as they are typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use keyspec::ReusePolicy;

/// The cache key of a request, and why it is that one
#[derive(Debug, Parser)]
#[command(name = "keyspec", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the key of a request, alone on a line
    Key(KeyArguments),
    /// Say what went into the key of a request, what did not, and whether it may be cached
    Explain(ExplainArguments),
    /// Say what keeps the keys of two requests apart, or what joined them
    Diff(DiffArguments),
    /// Check a file of key specs, and say what each is for
    CheckSpec(CheckSpecArguments),
    /// Check test vectors: requests, their canonical bytes and their keys
    Vectors(VectorArguments),
}

#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    #[command(flatten)]
    pub(crate) request: RequestArguments,
    /// Print the key also of a request that may not be cached
    #[arg(long)]
    pub(crate) force: bool,
    /// The file with the body, or - for standard input; without it there is no body
    #[arg(value_name = "BODY_FILE")]
    pub(crate) body: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub(crate) request: RequestArguments,
    /// The file with the body, or - for standard input; without it there is no body
    #[arg(value_name = "BODY_FILE")]
    pub(crate) body: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArguments {
    #[command(flatten)]
    pub(crate) request: RequestArguments,
    /// Exit with 1 if the keys differ
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// The file with one body, or - for standard input
    #[arg(value_name = "A")]
    pub(crate) one: PathBuf,
    /// The file with the other body, or - for standard input
    #[arg(value_name = "B")]
    pub(crate) other: PathBuf,
}

/// A request, but for its body.
#[derive(Debug, Args)]
pub(crate) struct RequestArguments {
    /// A file of key specs of your own, tried before the presets
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// The method
    #[arg(long, default_value = "POST")]
    pub(crate) method: String,
    /// The path under the upstream's URL, with a query if there is one
    #[arg(long, default_value = "/v1/chat/completions")]
    pub(crate) path: String,
    /// A header field; repeatable
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The upstream's base URL [default: the provider's own; http://localhost for other paths]
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// The tenant's name; without it, the credentials in the header are the tenant
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Which answers are reused: deterministic, declared or any
    #[arg(long, value_name = "POLICY", default_value_t)]
    pub(crate) reuse: ReusePolicy,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CheckSpecArguments {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VectorArguments {
    /// Files of vectors; without any, those that this program was built with
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write what this program makes of the requests into the files, instead of checking them
    #[arg(long, requires = "files")]
    pub(crate) fill: bool,
    /// Print the vectors that this program was built with
    #[arg(long, conflicts_with_all = ["files", "fill"])]
    pub(crate) print: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
