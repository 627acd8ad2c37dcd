//! Keys that are lent to programs, and what they have signed.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bitcoin::{
    Address, Transaction, TxOut, Witness,
    secp256k1::{PublicKey, SECP256K1, SecretKey, ecdh::SharedSecret},
    sighash::SighashCache,
};
use tokio::sync::Semaphore;

use super::{LightningNode, psbts::psbt_error};
use crate::{
    api::{
        ApiError, CoinToSign, CombinedKey, KeyChoice, KeyLocator, OpenSigningSession, OutputToSign, PUBLIC_NONCE,
        SessionId, SignWithKey, Signing, SigningSession, Tweaks,
    },
    driver::services::Services,
    limits::MAX_SIGNING_AT_ONCE,
    wallet::{
        lent::LentError,
        musig2::{Musig2Error, PartialSignature, PublicNonce},
        musig2_sessions::{self, SessionError},
        signing::{self, SignError},
    },
};

#[async_trait]
impl Signing for LightningNode {
    async fn derive_key(&self, at: KeyLocator) -> Result<PublicKey, ApiError> {
        Ok(self.lent(KeyChoice::At(at)).await?.public_key(SECP256K1))
    }

    async fn derive_next_key(&self, family: u32) -> Result<(KeyLocator, PublicKey), ApiError> {
        // What is not lent uses up no number.
        self.derive_key(KeyLocator { family, index: 0 }).await?;
        let index = self.read(move |services| Ok(services.store.next_lent_key(family)?)).await?;
        let at = KeyLocator { family, index };
        Ok((at, self.derive_key(at).await?))
    }

    async fn shared_key(&self, key: KeyChoice, other: PublicKey) -> Result<[u8; 32], ApiError> {
        Ok(SharedSecret::new(&other, &self.lent(key).await?).secret_bytes())
    }

    async fn sign_with_key(&self, request: SignWithKey) -> Result<Vec<u8>, ApiError> {
        let key = self.lent(KeyChoice::At(request.at)).await?;
        signing::sign_message(&key, &request.message, &request.digest, &request.form)
            .ok_or_else(|| ApiError::invalid("schnorr_sig_tap_tweak makes no key of this one"))
    }

    async fn sign_outputs(
        &self,
        transaction: Transaction,
        spent: Vec<TxOut>,
        asked: Vec<(KeyChoice, OutputToSign)>,
    ) -> Result<Vec<Vec<u8>>, ApiError> {
        let (keys, outputs): (Vec<KeyChoice>, Vec<OutputToSign>) = asked.into_iter().unzip();
        self.sign_in_turn(move |services| {
            let keys = services.keys.lent_all(&keys).map_err(lent_error)?;
            let mut cache = SighashCache::new(&transaction);
            let sign = |(output, key): (&OutputToSign, SecretKey)| {
                signing::sign_output(&mut cache, &spent, output, key).map_err(sign_error)
            };
            outputs.iter().zip(keys).map(sign).collect()
        })
        .await
    }

    async fn input_scripts(
        &self,
        transaction: Transaction,
        spent: Vec<TxOut>,
        coins: Vec<CoinToSign>,
    ) -> Result<Vec<Witness>, ApiError> {
        self.sign_in_turn(move |services| {
            let sign = |coin: &CoinToSign| services.wallet.input_script(&transaction, &spent, coin).map_err(sign_error);
            coins.iter().map(sign).collect()
        })
        .await
    }

    async fn sign_for_address(&self, address: Address, message: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        let signed = self.services().wallet.sign_for_address(&address, &message);
        signed.ok_or_else(|| {
            let text = "address could not be found in the wallet database: it is none of this wallet's";
            ApiError::not_found(text)
        })
    }

    async fn combine_keys(&self, keys: Vec<PublicKey>, tweaks: Tweaks) -> Result<CombinedKey, ApiError> {
        self.sign_in_turn(move |_| combined(&keys, &tweaks)).await
    }

    async fn open_signing_session(&self, request: OpenSigningSession) -> Result<SigningSession, ApiError> {
        let OpenSigningSession { at, keys, tweaks, nonces } = request;
        let sessions = Arc::clone(&self.signing_sessions);
        self.sign_in_turn(move |services| {
            let secret = one_lent(services, KeyChoice::At(at))?;
            let nonces = public_nonces(&nonces)?;
            let opened = sessions.open(secret, &keys, &tweaks, &nonces, &rand::random()).map_err(session_error)?;
            let key = combined(&keys, &tweaks)?;
            Ok(SigningSession { id: opened.id, key, nonce: opened.nonce, has_all_nonces: opened.has_all_nonces })
        })
        .await
    }

    async fn add_nonces(&self, session: SessionId, nonces: Vec<[u8; PUBLIC_NONCE]>) -> Result<bool, ApiError> {
        self.signing_sessions.add_nonces(session, &public_nonces(&nonces)?).map_err(session_error)
    }

    async fn set_combined_nonce(&self, session: SessionId, nonce: [u8; PUBLIC_NONCE]) -> Result<(), ApiError> {
        let nonce = PublicNonce::aggregate_of_bytes(&nonce).map_err(|error| session_error(error.into()))?;
        self.signing_sessions.set_combined_nonce(session, nonce).map_err(session_error)
    }

    async fn combined_nonce(&self, session: SessionId) -> Result<[u8; PUBLIC_NONCE], ApiError> {
        self.signing_sessions.combined_nonce(session).map_err(session_error)
    }

    async fn sign_in_session(&self, session: SessionId, digest: [u8; 32], end: bool) -> Result<[u8; 32], ApiError> {
        self.signing_sessions.sign(session, digest, end).map_err(session_error)
    }

    async fn add_signatures(&self, session: SessionId, parts: Vec<Vec<u8>>) -> Result<Option<[u8; 64]>, ApiError> {
        let parts: Result<Vec<_>, Musig2Error> = parts.iter().map(|part| PartialSignature::of_bytes(part)).collect();
        let parts = parts.map_err(|error| session_error(error.into()))?;
        self.signing_sessions.add_parts(session, &parts).map_err(session_error)
    }

    async fn end_signing_session(&self, session: SessionId) -> Result<(), ApiError> {
        self.signing_sessions.end(session).map_err(session_error)
    }
}

impl LightningNode {
    async fn lent(&self, key: KeyChoice) -> Result<SecretKey, ApiError> {
        match key {
            KeyChoice::At(_) => self.read(move |services| one_lent(services, key)).await,
            // It has to be looked for.
            KeyChoice::Public { .. } => self.sign_in_turn(move |services| one_lent(services, key)).await,
        }
    }

    /// On a thread that may take its time, a few at a time: a crowd of such calls waits, and takes neither all threads nor the
    /// processor from payments. Whoever has hung up meanwhile costs nothing.
    pub(super) async fn sign_in_turn<T: Send + 'static>(
        &self,
        sign: impl FnOnce(&Arc<Services>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let turns = Arc::clone(&SIGNING_TURNS);
        let turn = turns.acquire_owned().await.map_err(|error| ApiError::internal(error.to_string()))?;
        self.read(move |services| {
            let signed = sign(services);
            drop(turn);
            signed
        })
        .await
    }
}

/// Of the process, whatever networks it is on.
static SIGNING_TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_SIGNING_AT_ONCE)));

fn one_lent(services: &Services, key: KeyChoice) -> Result<SecretKey, ApiError> {
    let found = services.keys.lent_all(&[key]).map_err(lent_error)?;
    found.first().copied().ok_or_else(|| ApiError::internal("a key was asked for, and none came"))
}

fn combined(keys: &[PublicKey], tweaks: &Tweaks) -> Result<CombinedKey, ApiError> {
    let (plain, tweaked) = musig2_sessions::combine(keys, tweaks).map_err(session_error)?;
    Ok(CombinedKey { internal: plain.x_only(), key: tweaked.x_only() })
}

fn public_nonces(nonces: &[[u8; PUBLIC_NONCE]]) -> Result<Vec<PublicNonce>, ApiError> {
    let parsed: Result<Vec<_>, Musig2Error> = nonces.iter().map(|nonce| PublicNonce::of_signer(nonce)).collect();
    parsed.map_err(|error| session_error(error.into()))
}

fn lent_error(error: LentError) -> ApiError {
    match error {
        LentError::Own(_) | LentError::Beyond { .. } | LentError::TooManyFamilies(_) => {
            ApiError::invalid(error.to_string())
        }
        LentError::Unknown { .. } => ApiError::not_found(error.to_string()),
    }
}

fn sign_error(error: SignError) -> ApiError {
    match error {
        SignError::Psbt(error) => psbt_error(error),
        SignError::NoInput { .. }
        | SignError::Sighash(_)
        | SignError::Tweak
        | SignError::NoPrevOutputs
        | SignError::Unsigned(_)
        | SignError::NotOurs { .. } => ApiError::invalid(error.to_string()),
    }
}

fn session_error(error: SessionError) -> ApiError {
    match error {
        SessionError::Unknown(_) => ApiError::not_found(error.to_string()),
        SessionError::TooFewKeys
        | SessionError::TooManyKeys(_)
        | SessionError::TooManyTweaks(_)
        | SessionError::TooManyNonces { .. }
        | SessionError::Musig2(_) => ApiError::invalid(error.to_string()),
        SessionError::TooMany
        | SessionError::HasAllNonces
        | SessionError::NoncesMissing { .. }
        | SessionError::Mixed
        | SessionError::Signed
        | SessionError::NotSigned => ApiError::precondition(error.to_string()),
    }
}
