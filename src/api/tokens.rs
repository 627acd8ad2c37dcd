//! Bearer tokens (macaroons) and the keys that they are made with.

use std::net::IpAddr;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::ApiError;

/// A token of somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogIn {
    pub macaroon: Vec<u8>,
    /// Seconds since 1970.
    pub expires: u64,
}

#[async_trait]
pub(crate) trait Tokens: Send + Sync {
    /// A token that allows pairs of entity and action; the key is made if there is none with this id.
    async fn bake_macaroon(&self, permissions: Vec<(String, String)>, key: u64) -> Result<Vec<u8>, ApiError>;
    /// The ids of all keys.
    async fn macaroon_keys(&self) -> Result<Vec<u64>, ApiError>;
    /// `FailedPrecondition` if a token of this key must not be made by whoever shows `token`, which was taken.
    fn may_bake(&self, token: &[u8], key: u64) -> Result<(), ApiError>;
    /// A token that allows everything for a while, for the wallet's password. `Unavailable` after wrong ones from the same address:
    /// later.
    async fn log_in(&self, password: Zeroizing<Vec<u8>>, from: Option<IpAddr>) -> Result<LogIn, ApiError>;
    /// Ends the session of a token that was taken. `FailedPrecondition` if it is none of a log-in.
    fn log_out(&self, token: &[u8]) -> Result<(), ApiError>;
    /// The pairs of entity and action that a token allows. Whether it is one of this node's was asked before.
    fn permissions_of(&self, token: &[u8]) -> Result<Vec<(String, String)>, ApiError>;
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
