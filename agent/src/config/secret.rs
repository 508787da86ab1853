//! A token that is read from a file and never printed. Where it is compared is `http`'s matter.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq;

use super::ConfigError;

/// The content of a token file. `Debug` shows asterisks; there is no `Display`.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Reads the token, without the white space around it.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or holds characters that an HTTP header cannot carry.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new(format!("token file {}: {error}", path.display())))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(ConfigError::new(format!("token file {} is empty, wanted one token", path.display()))
                .hint("head -c 32 /dev/urandom | base64 makes a good one"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::new(format!(
                "token file {} holds white space or characters outside ASCII inside the token, wanted one token",
                path.display()
            )));
        }
        Ok(Self(token.to_owned()))
    }

    /// Whether these bytes are the token, in a time that does not depend on where they differ.
    pub fn matches(&self, offered: &[u8]) -> bool {
        bool::from(self.0.as_bytes().ct_eq(offered))
    }

    /// The token itself, for a request that has to carry it. Not for messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
