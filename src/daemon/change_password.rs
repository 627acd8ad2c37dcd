//! Another password for the wallet, which opens it at once.
//!
//! ```text
//!   the old password ─► the seed under the new one, durable ─► sessions end ─► (macaroon files go ─► another root key) ─► open
//! ```
//!
//! Promises: a crash leaves the old password or the new one for all networks of the daemon, never none: the second's wallet has both
//! until the first's has the new one. Macaroon files of a key that is replaced are gone before it is: what a crash leaves out is
//! written at the next start.

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
        self.refuse_change_if_open()?;
        let path = self.seed_path();
        if !seed::exists(&path) {
            return Err(ApiError::precondition("wallet not found: create one with `leyden create`"));
        }
        let (old, new) = (password_text(&request.current)?, password_text(&request.new)?);
        let attempt = self.passwords.begin(from)?;
        let _opening = self.opening.lock().await;
        self.refuse_change_if_open()?;
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

impl LeydenDaemon {
    fn refuse_change_if_open(&self) -> Result<(), ApiError> {
        self.refuse_if_open().map_err(|_| {
            ApiError::exists(
                "wallet already unlocked, WalletUnlocker service is no longer available: start leydend again, and change the \
                 password in place of unlocking",
            )
        })
    }
}

/// The first network's wallet decides which password holds: what is prepared for the second opens it from then on.
fn change(first: &Path, second: Option<&Path>, old: &str, new: &str) -> Result<Seed, SeedError> {
    if let Some(second) = second {
        seed::load(first, Some(old))?;
        // What a crash has left prepared is decided first: else it would be lost beneath what is prepared now.
        match seed::settle(second, Some(old)) {
            Ok(()) | Err(SeedError::WrongPassword) => {}
            Err(error) => return Err(error),
        }
        match seed::prepare_password(second, old, new) {
            // It was changed alone, or by a version that let a crash leave it so.
            Err(SeedError::WrongPassword) if seed::load(second, Some(new)).is_ok() => {}
            prepared => prepared?,
        }
    }
    let seed = seed::change_password(first, old, new)?;
    if let Some(second) = second {
        seed::settle(second, Some(new))?;
    }
    // It was the second's when the networks were named the other way round.
    seed::settle(first, Some(new))?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const OLD: &str = "correct horse";
    const NEW: &str = "a new password";

    /// The first has the old password.
    fn two_wallets(second_has: &str) -> (tempfile::TempDir, Seed, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        let seed = Seed::from_entropy([7; 32], "");
        seed::save(&first, &seed, Some(OLD)).unwrap();
        seed::save(&second, &seed, Some(second_has)).unwrap();
        (folder, seed, first, second)
    }

    #[test]
    fn both_networks_get_the_new_password_whenever_the_process_dies() {
        let (_folder, seed, first, second) = two_wallets(OLD);
        let both_open_with = |password| [&first, &second].iter().all(|path| seed::load(path, Some(password)).is_ok());
        let wrong = change(&first, Some(&second), "battery staple", NEW);
        assert!(matches!(wrong, Err(SeedError::WrongPassword)));
        assert!(both_open_with(OLD), "a wrong password changes nothing");
        // Killed before the first has it, and the password of the next try is another one.
        seed::prepare_password(&second, OLD, "one that was given up").unwrap();
        assert!(both_open_with(OLD));
        seed::prepare_password(&second, OLD, NEW).unwrap();
        assert!(both_open_with(OLD));
        // Killed after it.
        seed::change_password(&first, OLD, NEW).unwrap();
        assert!(both_open_with(NEW));
        // Killed in the next change too, before the first has it.
        seed::settle(&second, Some(NEW)).unwrap();
        seed::prepare_password(&second, NEW, "the newest one").unwrap();
        assert!(both_open_with(NEW));
        assert!(change(&first, Some(&second), NEW, "the newest one").unwrap() == seed);
        assert!(both_open_with("the newest one") && !both_open_with(NEW) && !both_open_with(OLD));
    }

    #[test]
    fn a_change_that_a_crash_cut_short_is_ended_by_the_next_one() {
        let (_folder, seed, first, second) = two_wallets(OLD);
        seed::prepare_password(&second, OLD, NEW).unwrap();
        seed::change_password(&first, OLD, NEW).unwrap();
        assert!(change(&first, Some(&second), NEW, "short").is_err(), "too short to be one");
        // What is asked for next leaves the second with the first's password, whatever becomes of it.
        assert!(seed::load(&second, Some(NEW)).is_ok() && seed::load(&second, Some(OLD)).is_err());
        // The networks may be named the other way round after a crash.
        seed::prepare_password(&second, NEW, "one that was given up").unwrap();
        assert!(change(&second, Some(&first), NEW, "the newest one").unwrap() == seed);
        for path in [&first, &second] {
            assert!(seed::load(path, Some("the newest one")).is_ok());
            assert!(seed::load(path, Some("one that was given up")).is_err());
        }
    }

    #[test]
    fn what_has_the_new_password_already_is_left_as_it_is() {
        let (_folder, seed, first, second) = two_wallets(NEW);
        assert!(change(&first, Some(&second), OLD, NEW).unwrap() == seed);
        for path in [&first, &second] {
            assert!(seed::load(path, Some(NEW)).unwrap() == seed);
        }
    }
}
