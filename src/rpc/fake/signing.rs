//! Keys that are lent to programs, and what they have signed.

use bitcoin::{TxOut, Witness};

use super::*;

fn combined() -> CombinedKey {
    let key = node_id().x_only_public_key().0;
    CombinedKey { internal: key, key }
}

#[async_trait]
impl Signing for Fake {
    async fn derive_key(&self, at: KeyLocator) -> Result<PublicKey, ApiError> {
        self.asked(at, node_id())
    }

    async fn derive_next_key(&self, family: u32) -> Result<(KeyLocator, PublicKey), ApiError> {
        self.asked(family, (KeyLocator { family, index: 3 }, node_id()))
    }

    async fn shared_key(&self, key: KeyChoice, other: PublicKey) -> Result<[u8; 32], ApiError> {
        self.asked((key, other), [4; 32])
    }

    async fn sign_with_key(&self, request: SignWithKey) -> Result<Vec<u8>, ApiError> {
        self.asked(request, vec![5; 64])
    }

    async fn sign_outputs(
        &self,
        transaction: Transaction,
        spent: Vec<TxOut>,
        asked: Vec<(KeyChoice, OutputToSign)>,
    ) -> Result<Vec<Vec<u8>>, ApiError> {
        self.asked((transaction, spent, asked), vec![vec![6; 64]])
    }

    async fn input_scripts(
        &self,
        transaction: Transaction,
        spent: Vec<TxOut>,
        coins: Vec<CoinToSign>,
    ) -> Result<Vec<Witness>, ApiError> {
        self.asked((transaction, spent, coins), vec![Witness::from_slice(&[[7]])])
    }

    async fn sign_for_address(&self, address: Address, message: Vec<u8>) -> Result<Vec<u8>, ApiError> {
        self.asked((address, message), vec![8; 65])
    }

    async fn combine_keys(&self, keys: Vec<PublicKey>, tweaks: Tweaks) -> Result<CombinedKey, ApiError> {
        self.asked((keys, tweaks), combined())
    }

    async fn open_signing_session(&self, request: OpenSigningSession) -> Result<SigningSession, ApiError> {
        let session = SigningSession { id: [9; 32], key: combined(), nonce: [2; PUBLIC_NONCE], has_all_nonces: false };
        self.asked(request, session)
    }

    async fn add_nonces(&self, session: SessionId, nonces: Vec<[u8; PUBLIC_NONCE]>) -> Result<bool, ApiError> {
        self.asked((session, nonces), true)
    }

    async fn set_combined_nonce(&self, session: SessionId, nonce: [u8; PUBLIC_NONCE]) -> Result<(), ApiError> {
        self.asked((session, nonce), ())
    }

    async fn combined_nonce(&self, session: SessionId) -> Result<[u8; PUBLIC_NONCE], ApiError> {
        self.asked(session, [3; PUBLIC_NONCE])
    }

    async fn sign_in_session(&self, session: SessionId, digest: [u8; 32], end: bool) -> Result<[u8; 32], ApiError> {
        self.asked((session, digest, end), [1; 32])
    }

    async fn add_signatures(&self, session: SessionId, parts: Vec<Vec<u8>>) -> Result<Option<[u8; 64]>, ApiError> {
        self.asked((session, parts), Some([7; 64]))
    }

    async fn end_signing_session(&self, session: SessionId) -> Result<(), ApiError> {
        self.asked(session, ())
    }
}
