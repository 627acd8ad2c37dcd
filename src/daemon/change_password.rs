//! Another password for the wallet, which opens it at once.
//!
//! ```text
//!   the old password ─► the seed under the new one, durable ─► sessions end ─► (macaroon files go ─► another root key) ─► open
//! ```
//!
//! Promises: a crash leaves the old password or the new one, never none. Where the daemon holds two networks it may leave the new one
//! for the second and the old one for the first: asked once more, this goes on from there. Macaroon files of a key that is replaced are gone before it
//! is: what a crash leaves out is written at the next start.

use std::{io, net::IpAddr, path::Path};

use super::{
    LeydenDaemon, tokens,
    wallet::{MacaroonFiles, password_text, seed_error},
};
use crate::{
    api::{ApiError, ChangePassword},
    macaroon,
    wallet::seed::{self, Seed, SeedError},
};

impl LeydenDaemon {
    pub(super) async fn change_password_to(
        &self,
        request: ChangePassword,
        from: Option<IpAddr>,
    ) -> Result<Vec<u8>, ApiError> {
        self.refuse_without_wallet()?;
        self.refuse_on_second()?;
        self.refuse_if_open()?;
        let path = self.seed_path();
        if !seed::exists(&path) {
            return Err(ApiError::precondition("wallet not found: create one with `leyden create`"));
        }
        let (old, new) = (password_text(&request.current)?, password_text(&request.new)?);
        let attempt = self.passwords.begin(from)?;
        let _opening = self.opening.lock().await;
        self.refuse_if_open()?;
        let second = self.second().map(|second| second.seed_path()).filter(|path| seed::exists(path));
        let (tried, wanted) = (old, new.clone());
        let changed = tokio::task::spawn_blocking(move || change(&path, second.as_deref(), &tried, &wanted))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        let seed = match changed {
            Ok(seed) => {
                attempt.was_right();
                seed
            }
            Err(error) => {
                if matches!(error, SeedError::WrongPassword) {
                    attempt.was_wrong();
                }
                return Err(seed_error(error));
            }
        };
        let failed = |error: io::Error| {
            ApiError::internal(format!(
                "the password is changed and the wallet not open yet, `leyden unlock` does that: {error}"
            ))
        };
        self.end_sessions().map_err(failed)?;
        if request.stateless || request.new_root_key {
            tokens::remove(&self.config.layout).map_err(failed)?;
        }
        if request.new_root_key {
            self.root_key.replace_first().map_err(failed)?;
        }
        // It may be the second's wallet alone that could not be opened before.
        if self.running().is_none() {
            self.open(&seed, None, MacaroonFiles::of(request.stateless)).await?;
        }
        self.open_second(&seed, Some(new), None).await?;
        Ok(self.root_key.bake(macaroon::ADMIN, rand::random()).to_bytes())
    }
}

/// The second network's wallet first: the password that is asked for is the first's, and decides.
fn change(first: &Path, second: Option<&Path>, old: &str, new: &str) -> Result<Seed, SeedError> {
    if let Some(second) = second {
        seed::load(first, Some(old))?;
        match seed::change_password(second, old, new) {
            // A crash has left it so.
            Err(SeedError::WrongPassword) if seed::load(second, Some(new)).is_ok() => {}
            changed => drop(changed?),
        }
    }
    seed::change_password(first, old, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_networks_get_the_new_password_or_after_a_crash_once_more() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let seed = Seed::from_entropy([7; 32], "");
        for path in [&first, &second] {
            seed::save(path, &seed, Some("correct horse")).unwrap();
        }
        let wrong = change(&first, Some(&second), "battery staple", "a new password");
        assert!(matches!(wrong, Err(SeedError::WrongPassword)));
        assert!(seed::load(&second, Some("correct horse")).is_ok(), "a wrong password changes nothing");
        // The process was killed between the two.
        seed::change_password(&second, "correct horse", "a new password").unwrap();
        assert!(change(&first, Some(&second), "correct horse", "a new password").unwrap() == seed);
        for path in [&first, &second] {
            assert!(seed::load(path, Some("a new password")).unwrap() == seed);
        }
    }
}
