//! Texts that are signed with the node's key, to show who has written them.

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;

use super::ApiError;

#[async_trait]
pub(crate) trait Messages: Send + Sync {
    /// A signature from which the key can be recovered, in zbase32. With `single_hash` it is one that
    /// [`Self::verify_message`] does not take.
    async fn sign_message(&self, message: Vec<u8>, single_hash: bool) -> Result<String, ApiError>;
    /// `InvalidArgument` if the signature is no text of zbase32.
    async fn verify_message(&self, message: Vec<u8>, signature: &str) -> Result<Option<Signatory>, ApiError>;
}

/// Who has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signatory {
    pub node_id: PublicKey,
    /// It is this node, or one that the network knows.
    pub is_known: bool,
}
