//! Macaroons that open nothing.

use async_trait::async_trait;

use super::Fake;
use crate::api::*;

#[async_trait]
impl Tokens for Fake {
    async fn bake_macaroon(&self, permissions: Vec<(String, String)>, key: u64) -> Result<Vec<u8>, ApiError> {
        self.asked((permissions, key), b"macaroon".to_vec())
    }

    async fn check_macaroon(
        &self,
        macaroon: Vec<u8>,
        needed: Vec<(String, String)>,
        path: String,
    ) -> Result<(), ApiError> {
        self.asked((macaroon, needed, path), ())
    }

    async fn macaroon_keys(&self) -> Result<Vec<u64>, ApiError> {
        self.answer(vec![0, 7])
    }

    async fn delete_macaroon_key(&self, key: u64) -> Result<bool, ApiError> {
        self.asked(key, key == 7)
    }
}
