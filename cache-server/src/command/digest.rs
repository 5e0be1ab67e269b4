//! `cache-server credential-digest`: what a `[[tenant]]` lists instead of a credential.

use std::io::Read;

use anyhow::{Context, anyhow};
use keyspec::CredentialDigest;

use super::Failure;

/// More than any credential; a file given by mistake is not read to its end.
const CREDENTIAL_BYTES_MAX: u64 = 64 << 10;

pub(crate) fn run() -> Result<(), Failure> {
    let mut credential = Vec::new();
    std::io::stdin()
        .take(CREDENTIAL_BYTES_MAX)
        .read_to_end(&mut credential)
        .context("cannot read standard input")
        .map_err(Failure::usage)?;
    let credential = credential.trim_ascii();
    // As pasted from a header; the digest is of the key alone, wherever a caller puts it.
    let credential = credential.strip_prefix(b"Bearer ").unwrap_or(credential).trim_ascii();
    if credential.is_empty() {
        return Err(Failure::usage(anyhow!("standard input is empty: pipe the credential in")));
    }
    println!("{}", CredentialDigest::of(credential));
    Ok(())
}
