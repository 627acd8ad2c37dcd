//! The macaroons in the data directory, and the calls about them.

use std::net::IpAddr;

use async_trait::async_trait;
use leyden_common::files::write_new;
use zeroize::Zeroizing;

use super::LeydenDaemon;
use crate::{
    api::{ApiError, LogIn, Tokens},
    config::Layout,
    macaroon::{self, Permission, RootKey},
};

/// Names of the files, and what each allows.
fn files() -> impl Iterator<Item = (&'static str, &'static [Permission])> {
    let sets = [("admin", macaroon::ADMIN), ("readonly", macaroon::READONLY), ("invoice", macaroon::INVOICE)];
    sets.into_iter().chain(macaroon::SUBSERVERS.iter().copied())
}

/// Takes the macaroon files away that are there.
pub(super) fn remove(layout: &Layout) -> std::io::Result<()> {
    for (name, _) in files() {
        match std::fs::remove_file(layout.macaroon(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Makes the macaroon files that are not there yet.
pub(super) fn write(layout: &Layout, root_key: &RootKey) -> std::io::Result<()> {
    for (name, permissions) in files() {
        let path = layout.macaroon(name);
        if !path.exists() {
            write_new(&path, &root_key.bake(permissions, rand::random()).to_bytes())?;
        }
    }
    Ok(())
}

#[async_trait]
impl Tokens for LeydenDaemon {
    async fn bake_macaroon(&self, permissions: Vec<(String, String)>, key: u64) -> Result<Vec<u8>, ApiError> {
        let baked = self.root_key.bake_with(key, permissions, rand::random());
        baked.map(|macaroon| macaroon.to_bytes()).map_err(|error| ApiError::internal(error.to_string()))
    }

    fn may_bake(&self, token: &[u8], key: u64) -> Result<(), ApiError> {
        Self::refuse_to_outlive(token, key)
    }

    async fn log_in(&self, password: Zeroizing<Vec<u8>>, from: Option<IpAddr>) -> Result<LogIn, ApiError> {
        self.log_in_with(&password, from).await
    }

    fn log_out(&self, token: &[u8]) -> Result<(), ApiError> {
        self.end_session(token)
    }

    fn permissions_of(&self, token: &[u8]) -> Result<Vec<(String, String)>, ApiError> {
        RootKey::permissions_of(token).map_err(|error| ApiError::invalid(error.to_string()))
    }

    async fn check_macaroon(
        &self,
        macaroon: Vec<u8>,
        needed: Vec<(String, String)>,
        path: String,
    ) -> Result<(), ApiError> {
        let known = |(entity, action): &(String, String)| {
            let all = macaroon::ADMIN.iter();
            let found = all.clone().find(|known| known.entity == entity && known.action == action).cloned();
            found.ok_or_else(|| ApiError::invalid(format!("permission denied: nothing asks for {entity}:{action}")))
        };
        let needed: Vec<_> = needed.iter().map(known).collect::<Result<_, _>>()?;
        let call = macaroon::Call { path: &path, needed: &needed, now: self.node.clock().now(), from: None };
        self.root_key
            .check(&macaroon, &call)
            .map(drop)
            .map_err(|error| ApiError::invalid(format!("permission denied: {error}")))
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
