//! Keys that are lent to programs, and what they have signed.

use async_trait::async_trait;
use bitcoin::{
    Address, Transaction, TxOut, Witness,
    secp256k1::{PublicKey, XOnlyPublicKey},
};

use super::ApiError;
pub(crate) use crate::wallet::{
    lent::{KeyChoice, KeyLocator},
    musig2::PUBLIC_NONCE,
    musig2_sessions::{SessionId, Tweaks},
    signing::{CoinToSign, Digest, Form, KeyTweak, OutputToSign, Spend},
};

#[async_trait]
pub(crate) trait Signing: Send + Sync {
    async fn derive_key(&self, at: KeyLocator) -> Result<PublicKey, ApiError>;
    /// The key after the last one of its family that this has given.
    async fn derive_next_key(&self, family: u32) -> Result<(KeyLocator, PublicKey), ApiError>;
    /// The hash of the point that one of our keys and one of somebody else's make.
    async fn shared_key(&self, key: KeyChoice, other: PublicKey) -> Result<[u8; 32], ApiError>;
    async fn sign_with_key(&self, request: SignWithKey) -> Result<Vec<u8>, ApiError>;
    /// `spent` is what all inputs spend, or empty.
    async fn sign_outputs(
        &self,
        transaction: Transaction,
        spent: Vec<TxOut>,
        asked: Vec<(KeyChoice, OutputToSign)>,
    ) -> Result<Vec<Vec<u8>>, ApiError>;
    /// Of coins of the wallet.
    async fn input_scripts(
        &self,
        transaction: Transaction,
        spent: Vec<TxOut>,
        coins: Vec<CoinToSign>,
    ) -> Result<Vec<Witness>, ApiError>;
    /// A compact signature; `NotFound` if the address is none of the wallet's.
    async fn sign_for_address(&self, address: Address, message: Vec<u8>) -> Result<Vec<u8>, ApiError>;
    /// The key that several are together, before and after its tweaks.
    async fn combine_keys(&self, keys: Vec<PublicKey>, tweaks: Tweaks) -> Result<CombinedKey, ApiError>;
    async fn open_signing_session(&self, request: OpenSigningSession) -> Result<SigningSession, ApiError>;
    /// Whether all are there now.
    async fn add_nonces(&self, session: SessionId, nonces: Vec<[u8; PUBLIC_NONCE]>) -> Result<bool, ApiError>;
    async fn set_combined_nonce(&self, session: SessionId, nonce: [u8; PUBLIC_NONCE]) -> Result<(), ApiError>;
    async fn combined_nonce(&self, session: SessionId) -> Result<[u8; PUBLIC_NONCE], ApiError>;
    /// Our part of the signature. With `end` the session is over.
    async fn sign_in_session(&self, session: SessionId, digest: [u8; 32], end: bool) -> Result<[u8; 32], ApiError>;
    /// The signature, once all parts are there.
    async fn add_signatures(&self, session: SessionId, parts: Vec<Vec<u8>>) -> Result<Option<[u8; 64]>, ApiError>;
    async fn end_signing_session(&self, session: SessionId) -> Result<(), ApiError>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignWithKey {
    pub at: KeyLocator,
    pub message: Vec<u8>,
    pub digest: Digest,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CombinedKey {
    /// Before its tweaks.
    pub internal: XOnlyPublicKey,
    pub key: XOnlyPublicKey,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenSigningSession {
    pub at: KeyLocator,
    /// Our own among them.
    pub keys: Vec<PublicKey>,
    pub tweaks: Tweaks,
    pub nonces: Vec<[u8; PUBLIC_NONCE]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SigningSession {
    pub id: SessionId,
    pub key: CombinedKey,
    pub nonce: [u8; PUBLIC_NONCE],
    pub has_all_nonces: bool,
}
