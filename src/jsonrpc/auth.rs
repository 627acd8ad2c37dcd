//! Who may ask: whoever can read the cookie file, or knows the user and password of the configuration.

use std::{io, path::Path};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bitcoin::hashes::cmp::fixed_time_eq;
use leyden_common::files::write_new;

/// The user name that goes with the cookie, as with Bitcoin Core.
const COOKIE_USER: &str = "__cookie__";

/// What callers may show, as `user:password`.
pub(crate) struct Access {
    accepted: Vec<String>,
}

impl Access {
    /// Writes a new cookie, and takes the user and password too, if there are any.
    pub(crate) fn open(cookie: &Path, user_and_password: Option<&str>) -> io::Result<Self> {
        let secret = format!("{COOKIE_USER}:{}", hex::encode(rand::random::<[u8; 32]>()));
        write_new(cookie, secret.as_bytes())?;
        let accepted = [Some(secret), user_and_password.map(str::to_owned)].into_iter().flatten().collect();
        Ok(Self { accepted })
    }

    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(encoded) = shown.and_then(|value| value.strip_prefix("Basic ")) else { return false };
        let Ok(shown) = BASE64_STANDARD.decode(encoded.trim()) else { return false };
        // Compared in constant time: where the two differ must not be seen on the clock.
        let same = |accepted: &String| accepted.len() == shown.len() && fixed_time_eq(accepted.as_bytes(), &shown);
        self.accepted.iter().fold(false, |allowed, accepted| same(accepted) | allowed)
    }
}
