//! Logging in with the wallet's password, for a browser that has no macaroon file.
//!
//! Promises: a password is tried one at a time, and after each wrong one the next waits longer, whoever sends it, so that
//! nobody tries many, and nobody keeps a core busy with the second of work that a try costs. The owner is not locked out:
//! macaroons go on.

use std::time::{Duration, Instant};

use leyden_node::Clock;
use zeroize::Zeroizing;

use super::{LeydenDaemon, password_text, seed_error};
use crate::{
    api::{ApiError, LogIn},
    macaroon::{self, time_before},
    wallet::seed::{self, SeedError},
};

/// How long a token of a log-in is taken.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// The key of these tokens: to delete it (`DeleteMacaroonID`) ends every session. It spells "web".
const SESSION_KEY: u64 = 0x77_6562;
/// What is waited after the first wrong password, twice as long after each other, and at most.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);

/// Wrong passwords, and when the next one may be tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    wrong: u32,
    not_before: Option<Instant>,
}

impl Attempts {
    /// How long to wait before the next try.
    fn wait(&self, now: Instant) -> Option<Duration> {
        self.not_before.map(|moment| moment.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    fn was_wrong(&mut self, now: Instant) {
        let wait = FIRST_WAIT.saturating_mul(1 << self.wrong.min(16)).min(LONGEST_WAIT);
        self.wrong = self.wrong.saturating_add(1);
        self.not_before = Some(now + wait);
    }

    fn was_right(&mut self) {
        *self = Self::default();
    }
}

impl LeydenDaemon {
    pub(super) async fn log_in_with(&self, password: &[u8]) -> Result<LogIn, ApiError> {
        self.refuse_without_wallet()?;
        let path = self.seed_path();
        if !seed::exists(&path) {
            return Err(ApiError::precondition("there is no wallet yet: create one first"));
        }
        if !seed::is_locked(&path).map_err(seed_error)? {
            return Err(ApiError::precondition(
                "this wallet has no password: log in with the file admin.macaroon of the data directory",
            ));
        }
        let password = Zeroizing::new(password_text(password)?);
        let _one_at_a_time = self.opening.lock().await;
        let wait = self.attempts().wait(Instant::now());
        if let Some(wait) = wait {
            let seconds = wait.as_secs().max(1);
            return Err(ApiError::unavailable(format!(
                "too many wrong passwords: try again in {seconds} s, or log in with a macaroon"
            )));
        }
        let tried = tokio::task::spawn_blocking(move || seed::load(&path, Some(&password)))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        match tried {
            Ok(_) => self.attempts().was_right(),
            Err(error) => {
                if matches!(error, SeedError::WrongPassword) {
                    self.attempts().was_wrong(Instant::now());
                }
                return Err(seed_error(error));
            }
        }
        let all = macaroon::ADMIN.iter().map(|one| (one.entity.to_owned(), one.action.to_owned()));
        let baked = self.root_key.bake_with(SESSION_KEY, all, rand::random());
        let baked = baked.map_err(|error| ApiError::internal(error.to_string()))?;
        let expires = Clock::System.now() + SESSION.as_secs();
        Ok(LogIn { macaroon: baked.narrowed(time_before(expires).as_bytes()).to_bytes(), expires })
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_each_wrong_password_the_next_waits_longer_until_one_is_right() {
        let mut attempts = Attempts::default();
        let mut now = Instant::now();
        assert_eq!(attempts.wait(now), None);
        let mut waits = Vec::new();
        for _ in 0..10 {
            attempts.was_wrong(now);
            let wait = attempts.wait(now).unwrap();
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(attempts.wait(now), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
        attempts.was_right();
        attempts.was_wrong(now);
        assert_eq!(attempts.wait(now), Some(FIRST_WAIT));
    }
}
