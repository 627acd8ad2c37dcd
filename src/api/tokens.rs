//! Bearer tokens (macaroons) and the keys that they are made with.

use async_trait::async_trait;

use super::ApiError;

#[async_trait]
pub(crate) trait Tokens: Send + Sync {
    /// A token that allows pairs of entity and action; the key is made if there is none with this id.
    async fn bake_macaroon(&self, permissions: Vec<(String, String)>, key: u64) -> Result<Vec<u8>, ApiError>;
    /// The ids of all keys.
    async fn macaroon_keys(&self) -> Result<Vec<u64>, ApiError>;
    /// `InvalidArgument`, with the reason, if a token does not allow these pairs of entity and action, or the call at `path`.
    async fn check_macaroon(
        &self,
        macaroon: Vec<u8>,
        needed: Vec<(String, String)>,
        path: String,
    ) -> Result<(), ApiError>;
    /// Takes back every token of a key; `false` if there is no such key. `InvalidArgument` for the first one.
    async fn delete_macaroon_key(&self, key: u64) -> Result<bool, ApiError>;
}
