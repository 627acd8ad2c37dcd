//! Macaroons.

use std::collections::HashMap;

use leyden_proto::lnrpc;

use super::edge;
use crate::{
    api::ApiError,
    macaroon::{ADMIN, URI},
    rpc::auth,
};

/// Pairs of entity and action, each of which some call asks for, or the paths of calls.
pub(crate) fn permissions(request: lnrpc::BakeMacaroonRequest) -> Result<Vec<(String, String)>, ApiError> {
    if request.permissions.is_empty() {
        return Err(edge::wrong(
            "permissions",
            "a macaroon that allows nothing is of no use; ListPermissions tells them",
        ));
    }
    let calls = auth::permissions();
    let any = request.allow_external_permissions;
    let pair = |permission: lnrpc::MacaroonPermission| {
        let lnrpc::MacaroonPermission { entity, action } = permission;
        let known = ADMIN.iter().any(|known| known.entity == entity && known.action == action)
            || (entity == URI && calls.contains_key(&action));
        if known || any {
            return Ok((entity, action));
        }
        let text =
            format!("nothing asks for {entity}:{action}; ListPermissions tells what there is, and {URI} allows a call");
        Err(edge::wrong("permissions", text))
    };
    request.permissions.into_iter().map(pair).collect()
}

/// What a macaroon is to be checked for: pairs of entity and action, and a call's path.
pub(crate) fn to_check(request: &lnrpc::CheckMacPermRequest) -> Result<(Vec<(String, String)>, String), ApiError> {
    let path = request.full_method.clone();
    if !request.check_default_perms_from_full_method {
        let pairs = request.permissions.iter().map(|asked| (asked.entity.clone(), asked.action.clone()));
        return Ok((pairs.collect(), path));
    }
    if !request.permissions.is_empty() {
        return Err(edge::wrong(
            "permissions",
            "check_default_perms_from_full_method asks for those of the call: give one",
        ));
    }
    let calls = auth::permissions();
    let needed = calls.get(&path).ok_or_else(|| {
        edge::wrong(
            "fullMethod",
            format_args!("\"{path}\" is no call that needs a macaroon; ListPermissions tells them"),
        )
    })?;
    let pairs = needed.iter().map(|permission| (permission.entity.to_owned(), permission.action.to_owned()));
    Ok((pairs.collect(), path))
}

/// What calls need, as with LND without those that need nothing. An empty list could not even be told: many clients read
/// an entry of a map without a value as a value that is not there, and fail.
pub(crate) fn all() -> lnrpc::ListPermissionsResponse {
    let list = |needed: &[crate::macaroon::Permission]| {
        let permissions = needed.iter().map(|permission| lnrpc::MacaroonPermission {
            entity: permission.entity.to_owned(),
            action: permission.action.to_owned(),
        });
        lnrpc::MacaroonPermissionList { permissions: permissions.collect() }
    };
    let method_permissions: HashMap<_, _> = auth::permissions()
        .iter()
        .filter(|(_, needed)| !needed.is_empty())
        .map(|(path, needed)| (path.clone(), list(needed)))
        .collect();
    lnrpc::ListPermissionsResponse { method_permissions }
}
