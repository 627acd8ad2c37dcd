//! Sessions of MuSig2 that programs hold with keys that are lent to them.
//!
//! ```text
//!   open ──► nonces of the others, one by one or all together ──► sign, once ──► partial signatures ──► the signature
//!     └────────────────────────── ended: by the caller, with the signature, or by time ───────────────────────┘
//! ```
//!
//! A secret nonce leaves its session when it signs, so nothing signs with it twice. Sessions are in memory alone: after a
//! restart a nonce that was told is of no use to anybody.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bitcoin::{
    hashes::{Hash as _, sha256},
    secp256k1::{Message, PublicKey, SECP256K1, SecretKey, schnorr},
};

use super::musig2::{self, KeyContext, Musig2Error, PUBLIC_NONCE, PartialSignature, PublicNonce, SecretNonce, Session};

/// Sessions that are open at once, each of some 10 kB with the most signers.
const MAX_MUSIG2_SESSIONS: usize = 1_000;
/// Keys that sign as one: more than anybody coordinates by hand; each costs a multiplication of a point.
const MAX_MUSIG2_SIGNERS: usize = 100;
/// Tweaks of a key, each of which costs as much: BIP 32 and BIP 341 make a few.
const MAX_MUSIG2_TWEAKS: usize = 100;
/// A session that is not brought to its end by then is forgotten: whoever signs is there within the day.
const MUSIG2_SESSION_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The hash of the public nonce that it told.
pub(crate) type SessionId = [u8; 32];

/// How the key that several are together is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tweaks {
    /// Each with whether the key is taken without its sign before.
    Plain(Vec<([u8; 32], bool)>),
    /// BIP 341, with this root of scripts; empty: without scripts (BIP 86).
    Taproot(Vec<u8>),
}

/// Why a session does not go on. The texts are LND's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("need at least two signing public keys")]
    TooFewKeys,
    #[error("{0} signing public keys; at most {MAX_MUSIG2_SIGNERS} are taken")]
    TooManyKeys(usize),
    #[error("{0} tweaks; at most {MAX_MUSIG2_TWEAKS} are taken")]
    TooManyTweaks(usize),
    #[error("{MAX_MUSIG2_SESSIONS} sessions are open: end some with MuSig2Cleanup")]
    TooMany,
    #[error("session with ID {} not found", hex::encode(.0))]
    Unknown(SessionId),
    #[error("already have all nonces")]
    HasAllNonces,
    #[error("only {remaining} other nonces remaining but trying to register {given} more")]
    TooManyNonces { remaining: usize, given: usize },
    #[error("combined nonce not available: only have {have} of {needed} required nonces")]
    NoncesMissing { have: usize, needed: usize },
    #[error("individual nonces are registered already: a combined one does not go with them")]
    Mixed,
    #[error("already signed: a nonce signs once")]
    Signed,
    #[error("sign first: the local partial signature is missing")]
    NotSigned,
    #[error(transparent)]
    Musig2(#[from] Musig2Error),
}

/// The key of several together, before and after its tweaks.
pub(crate) fn combine(keys: &[PublicKey], tweaks: &Tweaks) -> Result<(KeyContext, KeyContext), SessionError> {
    match keys.len() {
        0 | 1 => return Err(SessionError::TooFewKeys),
        many if many > MAX_MUSIG2_SIGNERS => return Err(SessionError::TooManyKeys(many)),
        _ => {}
    }
    if let Tweaks::Plain(tweaks) = tweaks
        && tweaks.len() > MAX_MUSIG2_TWEAKS
    {
        return Err(SessionError::TooManyTweaks(tweaks.len()));
    }
    let mut keys = keys.to_vec();
    musig2::sort(&mut keys);
    let plain = KeyContext::new(&keys)?;
    let tweaked = match tweaks {
        Tweaks::Plain(tweaks) => {
            tweaks.iter().try_fold(plain.clone(), |key, (tweak, is_x_only)| key.tweaked(tweak, *is_x_only))?
        }
        Tweaks::Taproot(root) => plain.clone().tweaked_for_taproot(root)?,
    };
    Ok((plain, tweaked))
}

/// What is told of a session at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub id: SessionId,
    pub nonce: [u8; PUBLIC_NONCE],
    pub has_all_nonces: bool,
}

struct Open {
    since: Instant,
    key: KeyContext,
    secret: SecretKey,
    /// Until it has signed.
    nonce: Option<SecretNonce>,
    nonces: Nonces,
    signing: Option<Signing>,
}

enum Nonces {
    /// Ours first.
    Single(Vec<PublicNonce>),
    Combined(PublicNonce),
}

struct Signing {
    session: Session,
    message: [u8; 32],
    /// Ours first.
    parts: Vec<PartialSignature>,
}

impl Open {
    fn combined(&self) -> Result<PublicNonce, SessionError> {
        let needed = self.key.signers();
        match &self.nonces {
            Nonces::Combined(nonce) => Ok(*nonce),
            Nonces::Single(nonces) if nonces.len() == needed => Ok(PublicNonce::aggregate(nonces)),
            Nonces::Single(nonces) => Err(SessionError::NoncesMissing { have: nonces.len(), needed }),
        }
    }

    fn has_all_nonces(&self) -> bool {
        self.combined().is_ok()
    }

    fn add(&mut self, more: &[PublicNonce]) -> Result<(), SessionError> {
        let needed = self.key.signers();
        if self.has_all_nonces() {
            return if more.is_empty() { Ok(()) } else { Err(SessionError::HasAllNonces) };
        }
        match &mut self.nonces {
            Nonces::Combined(_) => Err(SessionError::HasAllNonces),
            Nonces::Single(nonces) => {
                let remaining = needed.saturating_sub(nonces.len());
                if more.len() > remaining {
                    return Err(SessionError::TooManyNonces { remaining, given: more.len() });
                }
                nonces.extend_from_slice(more);
                Ok(())
            }
        }
    }
}

/// All that are open.
#[derive(Default)]
pub(crate) struct Musig2Sessions(Mutex<HashMap<SessionId, Open>>);

impl Musig2Sessions {
    /// `random` is fresh: the secret nonce comes from it.
    pub(crate) fn open(
        &self,
        secret: SecretKey,
        keys: &[PublicKey],
        tweaks: &Tweaks,
        others: &[PublicNonce],
        random: &[u8; 32],
    ) -> Result<Opened, SessionError> {
        let (_, key) = combine(keys, tweaks)?;
        if !keys.contains(&secret.public_key(SECP256K1)) {
            return Err(Musig2Error::NotAmongKeys.into());
        }
        let nonce = SecretNonce::new(random, &secret, &key)?;
        let told = nonce.public();
        let id = sha256::Hash::hash(&told.bytes()).to_byte_array();
        let mut open = Open {
            since: Instant::now(),
            key,
            secret,
            nonce: Some(nonce),
            nonces: Nonces::Single(vec![told]),
            signing: None,
        };
        open.add(others)?;
        let has_all_nonces = open.has_all_nonces();
        let mut sessions = self.lock();
        if sessions.len() >= MAX_MUSIG2_SESSIONS {
            return Err(SessionError::TooMany);
        }
        sessions.insert(id, open);
        Ok(Opened { id, nonce: told.bytes(), has_all_nonces })
    }

    /// Whether all are there now.
    pub(crate) fn add_nonces(&self, id: SessionId, nonces: &[PublicNonce]) -> Result<bool, SessionError> {
        self.with(id, |open| {
            if open.has_all_nonces() {
                return Err(SessionError::HasAllNonces);
            }
            open.add(nonces)?;
            Ok(open.has_all_nonces())
        })
    }

    /// What all nonces are together, in place of each.
    pub(crate) fn set_combined_nonce(&self, id: SessionId, nonce: PublicNonce) -> Result<(), SessionError> {
        self.with(id, |open| match &open.nonces {
            _ if open.has_all_nonces() => Err(SessionError::HasAllNonces),
            Nonces::Single(nonces) if nonces.len() > 1 => Err(SessionError::Mixed),
            Nonces::Single(_) | Nonces::Combined(_) => {
                open.nonces = Nonces::Combined(nonce);
                Ok(())
            }
        })
    }

    pub(crate) fn combined_nonce(&self, id: SessionId) -> Result<[u8; PUBLIC_NONCE], SessionError> {
        self.with(id, |open| Ok(open.combined()?.bytes()))
    }

    /// Our part. With `end` the session is over: somebody else puts the parts together.
    pub(crate) fn sign(&self, id: SessionId, message: [u8; 32], end: bool) -> Result<[u8; 32], SessionError> {
        let part = self.with(id, |open| {
            let combined = open.combined()?;
            let session = Session::new(open.key.clone(), &combined, &message)?;
            let nonce = open.nonce.take().ok_or(SessionError::Signed)?;
            let part = session.sign(nonce, &open.secret)?;
            open.signing = Some(Signing { session, message, parts: vec![part] });
            Ok(part.bytes())
        })?;
        if end {
            self.end(id)?;
        }
        Ok(part)
    }

    /// The signature, once all parts are there; the session is over then.
    pub(crate) fn add_parts(
        &self,
        id: SessionId,
        parts: &[PartialSignature],
    ) -> Result<Option<[u8; 64]>, SessionError> {
        let signature = self.with(id, |open| {
            let (needed, key) = (open.key.signers(), open.key.x_only());
            let signing = open.signing.as_mut().ok_or(SessionError::NotSigned)?;
            let have = signing.parts.len().saturating_add(parts.len());
            if have > needed {
                return Err(Musig2Error::Signature.into());
            }
            if have < needed {
                signing.parts.extend_from_slice(parts);
                return Ok(None);
            }
            // A wrong part spoils nothing: those that are right may still come.
            let all: Vec<PartialSignature> = signing.parts.iter().chain(parts).copied().collect();
            let signature = signing.session.aggregate(&all);
            let is_valid = schnorr::Signature::from_slice(&signature).is_ok_and(|signature| {
                SECP256K1.verify_schnorr(&signature, &Message::from_digest(signing.message), &key).is_ok()
            });
            if is_valid { Ok(Some(signature)) } else { Err(Musig2Error::Signature.into()) }
        })?;
        if signature.is_some() {
            self.end(id)?;
        }
        Ok(signature)
    }

    pub(crate) fn end(&self, id: SessionId) -> Result<(), SessionError> {
        self.lock().remove(&id).map(drop).ok_or(SessionError::Unknown(id))
    }

    fn with<T>(
        &self,
        id: SessionId,
        act: impl FnOnce(&mut Open) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        act(self.lock().get_mut(&id).ok_or(SessionError::Unknown(id))?)
    }

    /// Those whose time is over are gone.
    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Open>> {
        let mut sessions = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sessions.retain(|_, open| open.since.elapsed() < MUSIG2_SESSION_LIFETIME);
        sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    fn public(byte: u8) -> PublicKey {
        key(byte).public_key(SECP256K1)
    }

    fn open(sessions: &Musig2Sessions, byte: u8, tweaks: &Tweaks) -> Opened {
        let keys = [public(1), public(2), public(3)];
        sessions.open(key(byte), &keys, tweaks, &[], &[byte + 100; 32]).unwrap()
    }

    fn nonce(opened: &Opened) -> PublicNonce {
        PublicNonce::of_signer(&opened.nonce).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn three_signers_make_one_signature_with_any_tweak_and_sessions_end_with_it() {
        for tweaks in [
            Tweaks::Plain(Vec::new()),
            Tweaks::Plain(vec![([9; 32], true), ([8; 32], false)]),
            Tweaks::Taproot(Vec::new()),
            Tweaks::Taproot(vec![7; 32]),
        ] {
            let sessions = Musig2Sessions::default();
            let opened = [1, 2, 3].map(|byte| open(&sessions, byte, &tweaks));
            let (first, second, third) = (opened[0].id, opened[1].id, opened[2].id);
            assert!(!sessions.add_nonces(first, &[nonce(&opened[1])]).unwrap());
            assert!(sessions.add_nonces(first, &[nonce(&opened[2])]).unwrap());
            assert_eq!(sessions.add_nonces(first, &[nonce(&opened[2])]), Err(SessionError::HasAllNonces));
            assert!(sessions.add_nonces(second, &[nonce(&opened[2]), nonce(&opened[0])]).unwrap());
            let combined = sessions.combined_nonce(first).unwrap();
            assert!(sessions.combined_nonce(third).is_err());
            let combined = PublicNonce::aggregate_of_bytes(&combined).unwrap_or_else(|error| panic!("{error}"));
            sessions.set_combined_nonce(third, combined).unwrap();

            let message = [4; 32];
            let own = sessions.sign(first, message, false);
            assert!(own.is_ok());
            assert_eq!(sessions.sign(first, message, false), Err(SessionError::Signed), "a nonce signs once");
            assert_eq!(sessions.sign(first, [5; 32], false), Err(SessionError::Signed), "a nonce signs once");
            let part = |id| {
                let bytes = sessions.sign(id, message, true).unwrap();
                PartialSignature::of_bytes(&bytes).unwrap_or_else(|error| panic!("{error}"))
            };
            let (one, other) = (part(second), part(third));
            assert_eq!(sessions.end(second), Err(SessionError::Unknown(second)));
            assert_eq!(sessions.add_parts(first, &[one]).unwrap(), None);
            assert_eq!(sessions.add_parts(first, &[one]), Err(SessionError::Musig2(Musig2Error::Signature)));
            let signature = sessions.add_parts(first, &[other]).unwrap().unwrap();
            let signature = schnorr::Signature::from_slice(&signature).unwrap();
            let (plain, tweaked) = combine(&[public(3), public(1), public(2)], &tweaks).unwrap();
            SECP256K1.verify_schnorr(&signature, &Message::from_digest(message), &tweaked.x_only()).unwrap();
            assert_eq!(plain.x_only() == tweaked.x_only(), tweaks == Tweaks::Plain(Vec::new()));
            assert!(sessions.lock().is_empty());
        }
    }

    #[test]
    fn sessions_are_bounded_and_need_their_key_and_nonces() {
        let sessions = Musig2Sessions::default();
        let none = Tweaks::Plain(Vec::new());
        let two = [public(1), public(2)];
        let foreign = sessions.open(key(9), &two, &none, &[], &[0; 32]);
        assert_eq!(foreign, Err(SessionError::Musig2(Musig2Error::NotAmongKeys)));
        assert_eq!(sessions.open(key(1), &two[..1], &none, &[], &[0; 32]), Err(SessionError::TooFewKeys));
        let many = vec![public(1); MAX_MUSIG2_SIGNERS + 1];
        assert!(matches!(sessions.open(key(1), &many, &none, &[], &[0; 32]), Err(SessionError::TooManyKeys(_))));
        let tweaks = Tweaks::Plain(vec![([1; 32], false); MAX_MUSIG2_TWEAKS + 1]);
        let refused = sessions.open(key(1), &two, &tweaks, &[], &[0; 32]);
        assert_eq!(refused, Err(SessionError::TooManyTweaks(MAX_MUSIG2_TWEAKS + 1)));
        let mut random = [0; 32];
        for number in 0..MAX_MUSIG2_SESSIONS {
            random[..8].copy_from_slice(&(number as u64).to_be_bytes());
            sessions.open(key(1), &two, &none, &[], &random).unwrap();
        }
        let first = *sessions.lock().keys().next().unwrap();
        assert!(matches!(sessions.open(key(1), &two, &none, &[], &[255; 32]), Err(SessionError::TooMany)));
        assert!(matches!(
            sessions.sign(first, [1; 32], false),
            Err(SessionError::NoncesMissing { have: 1, needed: 2 })
        ));
        sessions.end(first).unwrap();
        let opened = sessions.open(key(1), &two, &none, &[], &[255; 32]).unwrap();
        let three = [nonce(&opened), nonce(&opened)];
        let refused = sessions.add_nonces(opened.id, &three);
        assert_eq!(refused, Err(SessionError::TooManyNonces { remaining: 1, given: 2 }));
    }
}
