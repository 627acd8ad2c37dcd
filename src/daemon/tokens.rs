//! The calls about macaroons.

use async_trait::async_trait;

use super::LeydenDaemon;
use crate::api::{ApiError, Tokens};

#[async_trait]
impl Tokens for LeydenDaemon {
    async fn bake_macaroon(&self, permissions: Vec<(String, String)>, key: u64) -> Result<Vec<u8>, ApiError> {
        let baked = self.root_key.bake_with(key, permissions, rand::random());
        baked.map(|macaroon| macaroon.to_bytes()).map_err(|error| ApiError::internal(error.to_string()))
    }

    async fn macaroon_keys(&self) -> Result<Vec<u64>, ApiError> {
        Ok(self.root_key.ids())
    }

    async fn delete_macaroon_key(&self, key: u64) -> Result<bool, ApiError> {
        if key == 0 {
            let text = "key 0 makes the macaroons in the data directory and is not deleted; delete macaroons.key and the \
                        macaroon files while the node is stopped to make new ones";
            return Err(ApiError::invalid(text));
        }
        self.root_key.delete(key).map_err(|error| ApiError::internal(error.to_string()))
    }
}
