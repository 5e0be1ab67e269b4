//! The token of the admin listener: read once from a file or the environment, kept as a digest.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use super::ConfigError;

/// The variable that holds the token; it goes before `server.admin_token_file`.
pub const VARIABLE: &str = "CACHE_SERVER_ADMIN_TOKEN";

/// Bytes of a token.
const BYTES_MAX: usize = 1024;

/// The digest of a token. Digests are compared in constant time, whatever the token's length.
#[derive(Clone)]
pub struct AdminToken(blake3::Hash);

impl AdminToken {
    /// A token of 1 to 1024 visible ASCII characters; white space around it is left out.
    #[must_use]
    pub fn new(text: &str) -> Option<AdminToken> {
        let text = text.trim();
        let fits = (1..=BYTES_MAX).contains(&text.len());
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && plain).then(|| AdminToken(blake3::hash(text.as_bytes())))
    }

    /// Whether this is the token. It takes as long for any other of the same length.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        // blake3::Hash compares in constant time.
        self.0 == blake3::hash(shown)
    }

    /// The token of the environment, or else that of the file, if either is set.
    pub(super) fn configured(
        environment: Option<&OsStr>,
        file: Option<&Path>,
    ) -> Result<Option<AdminToken>, ConfigError> {
        if let Some(value) = environment {
            return AdminToken::check(VARIABLE, &value.to_string_lossy()).map(Some);
        }
        let Some(file) = file else { return Ok(None) };
        let field = "server.admin_token_file";
        let text = std::fs::read_to_string(file).map_err(|error| {
            ConfigError::new(field, file.display(), &format!("cannot be read: {error}"))
        })?;
        AdminToken::check(field, &text).map(Some)
    }

    fn check(field: &str, text: &str) -> Result<AdminToken, ConfigError> {
        let allowed = "a token of 1 to 1024 visible ASCII characters";
        AdminToken::new(text).ok_or_else(|| ConfigError::new(field, "(hidden)", allowed))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_again_and_white_space_around_it_does_not_count() {
        let token = AdminToken::new("s3cret\n").unwrap();
        assert!(token.is(b"s3cret"));
        assert!(!token.is(b"s3cret\n") && !token.is(b"s3cre") && !token.is(b""));
    }

    #[test]
    fn what_no_header_could_carry_is_no_token() {
        for text in ["", " \n", "two words", "schlüssel", &"x".repeat(BYTES_MAX + 1)] {
            assert!(AdminToken::new(text).is_none(), "{text:?}");
        }
        assert!(AdminToken::new(&"x".repeat(BYTES_MAX)).is_some());
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = format!("{:?}", AdminToken::new("s3cret").unwrap());
        assert_eq!(token, "AdminToken(hidden)");
        let error = AdminToken::check("server.admin_token_file", "two words").unwrap_err();
        assert!(!error.to_string().contains("words"), "{error}");
    }

    #[test]
    fn the_environment_goes_before_the_file_and_a_mistake_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "s3cret\n").unwrap();
        let token = |environment: Option<&str>, file| {
            AdminToken::configured(environment.map(OsStr::new), file)
        };
        assert!(token(None, Some(&path)).unwrap().unwrap().is(b"s3cret"));
        assert!(token(Some("other"), Some(&path)).unwrap().unwrap().is(b"other"));
        let missing = folder.path().join("none");
        assert_eq!(token(None, Some(&missing)).unwrap_err().field, "server.admin_token_file");
        assert_eq!(token(Some(""), Some(&path)).unwrap_err().field, VARIABLE);
        assert!(token(None, None).unwrap().is_none());
    }
}
