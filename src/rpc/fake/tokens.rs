//! Macaroons that open nothing.

use std::net::IpAddr;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::Fake;
use crate::api::*;

#[async_trait]
impl Tokens for Fake {
    async fn bake_macaroon(&self, permissions: Vec<(String, String)>, key: u64) -> Result<Vec<u8>, ApiError> {
        self.asked((permissions, key), b"macaroon".to_vec())
    }

    fn may_bake(&self, _token: &[u8], _key: u64) -> Result<(), ApiError> {
        Ok(())
    }

    fn log_out(&self, token: &[u8]) -> Result<(), ApiError> {
        self.asked(token.to_vec(), ())
    }

    async fn log_in(&self, password: Zeroizing<Vec<u8>>, _from: Option<IpAddr>) -> Result<LogIn, ApiError> {
        if password.as_slice() != super::PASSWORD {
            return Err(ApiError::invalid("wrong password"));
        }
        self.answer(LogIn { macaroon: b"macaroon".to_vec(), expires: 1_800_000_000 })
    }

    fn permissions_of(&self, token: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
        self.asked(token.to_vec(), vec![("info".to_owned(), "read".to_owned())])
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
