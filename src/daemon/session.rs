//! Logging in with the wallet's password, for a browser that has no macaroon file, and out again.
//!
//! Promises: passwords are tried as [`super::passwords`] says; each session has a key of its own, so that logging out ends it, and
//! what was made from it; sessions are few, and the oldest gives way. The owner is not locked out: macaroons go on.

use std::{net::IpAddr, time::Duration};

use leyden_node::Clock;
use zeroize::Zeroizing;

use super::{
    LeydenDaemon,
    wallet::{password_text, seed_error},
};
use crate::{
    api::{ApiError, LogIn},
    macaroon::{self, RootKey, time_before},
    wallet::seed::{self, SeedError},
};

/// How long a token of a log-in is taken.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// What the keys of these tokens have in common: `DeleteMacaroonID` ends the session of one. It spells "web", and the second of the
/// log-in stands below it.
const SESSION_KEYS: u64 = 0x77_6562;
const SECOND_BITS: u32 = 32;
/// Sessions at a time, of whoever knows the password: a person has some browsers.
const MAX_SESSIONS: usize = 16;

/// Whether a key is that of a session; once all had one.
fn is_session(key: u64) -> bool {
    key >> SECOND_BITS == SESSION_KEYS || key == SESSION_KEYS
}

/// The key of a new session, and those that end for it: whose time is over, and the oldest if there are too many.
fn new_session(keys: &[u64], now: u64) -> (u64, Vec<u64>) {
    let second = |key: u64| key & u64::from(u32::MAX);
    let (mut over, mut going): (Vec<u64>, Vec<u64>) = keys
        .iter()
        .copied()
        .filter(|key| *key >> SECOND_BITS == SESSION_KEYS)
        .partition(|key| second(*key).saturating_add(SESSION.as_secs()) <= now);
    going.sort_unstable();
    let too_many = going.len().saturating_sub(MAX_SESSIONS - 1);
    over.extend(going.drain(..too_many));
    let first = (SESSION_KEYS << SECOND_BITS) | second(now);
    // Of several in one second.
    let free = (first..).find(|key| !going.contains(key)).unwrap_or(first);
    (free, over)
}

impl LeydenDaemon {
    pub(super) async fn log_in_with(&self, password: &[u8], from: Option<IpAddr>) -> Result<LogIn, ApiError> {
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
        let attempt = self.passwords.begin(from)?;
        let _one_at_a_time = self.opening.lock().await;
        let tried = tokio::task::spawn_blocking(move || seed::load(&path, Some(&password)))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))?;
        match tried {
            Ok(_) => attempt.was_right(),
            Err(error) => {
                if matches!(error, SeedError::WrongPassword) {
                    attempt.was_wrong();
                }
                return Err(seed_error(error));
            }
        }
        let failed = |error: std::io::Error| ApiError::internal(error.to_string());
        let now = Clock::System.now();
        let (key, over) = new_session(&self.root_key.ids(), now);
        for key in over {
            self.root_key.delete(key).map_err(failed)?;
        }
        let all = macaroon::ADMIN.iter().map(|one| (one.entity.to_owned(), one.action.to_owned()));
        let baked = self.root_key.bake_with(key, all, rand::random()).map_err(failed)?;
        let expires = now + SESSION.as_secs();
        Ok(LogIn { macaroon: baked.narrowed(time_before(expires).as_bytes()).to_bytes(), expires })
    }

    /// Ends the session of a token that was taken.
    pub(super) fn end_session(&self, token: &[u8]) -> Result<(), ApiError> {
        let Some(key) = RootKey::key_of(token).filter(|key| is_session(*key)) else {
            let text =
                "this macaroon is not one of a log-in: it ends when its key is deleted (`leyden deletemacaroonid`)";
            return Err(ApiError::precondition(text));
        };
        self.root_key.delete(key).map(drop).map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Ends all of them: who has logged in knew a password that holds no more.
    pub(super) fn end_sessions(&self) -> std::io::Result<()> {
        let mut sessions = self.root_key.ids().into_iter().filter(|key| is_session(*key));
        sessions.try_for_each(|key| self.root_key.delete(key).map(drop))
    }

    /// Refuses to make a token that outlives the session of the token that asks for it.
    pub(super) fn refuse_to_outlive(token: &[u8], key: u64) -> Result<(), ApiError> {
        if key == 0 && RootKey::key_of(token).is_some_and(is_session) {
            return Err(ApiError::precondition(
                "root_key_id: with the macaroon of a log-in, name a key of your own (1 or more): what is made with key 0 cannot be \
                 taken back. admin.macaroon may use it",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn each_session_has_a_key_of_its_own_and_old_ones_give_way() {
        let (first, over) = new_session(&[0, 7, SESSION_KEYS], NOW);
        assert!(is_session(first) && is_session(SESSION_KEYS) && !is_session(0) && !is_session(7));
        assert!(over.is_empty(), "keys of others stay");
        let mut keys = vec![0, 7, first];
        for number in 1..MAX_SESSIONS {
            let (next, over) = new_session(&keys, NOW + number as u64 / 4);
            assert!(over.is_empty() && !keys.contains(&next), "{number}: {over:?}");
            keys.push(next);
        }
        assert_eq!(new_session(&keys, NOW + 60).1, [first]);
        let (_, over) = new_session(&keys, NOW + SESSION.as_secs());
        assert_eq!(over, [first], "its time is over");
    }
}
