//! `leyden bakemacaroon`, `listmacaroonids`, `deletemacaroonid`, `listpermissions`: tokens for others.

use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use leyden_common::{
    files::write_new,
    macaroon::{Macaroon, Malformed},
};
use leyden_proto::lnrpc::{
    BakeMacaroonRequest, DeleteMacaroonIdRequest, ListMacaroonIDsRequest, ListPermissionsRequest, MacaroonPermission,
};

use super::{CliError, Context, format, table};

/// Create a macaroon that allows the named permissions and nothing else.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden bakemacaroon info:read invoices:write\n  \
    leyden bakemacaroon uri:/lnrpc.Lightning/GetInfo --timeout 3600 --save-to info.macaroon\n  \
    leyden bakemacaroon offchain:read --root-key-id 7     `deletemacaroonid 7` takes it back")]
pub struct BakeMacaroon {
    /// entity:action, or uri:/service/call
    #[arg(required = true, value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// Id of the root key; the key is created if it does not exist
    #[arg(long, alias = "root_key_id", default_value_t = 0)]
    root_key_id: u64,
    /// Seconds until it expires [default: never]
    #[arg(long)]
    timeout: Option<u64>,
    /// The only IP address that may use it
    #[arg(long, alias = "ip_address")]
    ip_address: Option<IpAddr>,
    /// Write it to this file instead of printing it
    #[arg(long, alias = "save_to", value_name = "FILE")]
    save_to: Option<PathBuf>,
}

impl BakeMacaroon {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let permission = |text: &String| match text.split_once(':') {
            Some((entity, action)) => Ok(MacaroonPermission { entity: entity.to_owned(), action: action.to_owned() }),
            None => {
                Err(CliError::Usage(format!("\"{text}\" is no permission: write entity:action, such as info:read")))
            }
        };
        let request = BakeMacaroonRequest {
            permissions: self.permissions.iter().map(permission).collect::<Result<_, _>>()?,
            root_key_id: self.root_key_id,
            allow_external_permissions: false,
        };
        let answer = context.client().await?.lightning().bake_macaroon(request).await?.into_inner();
        let bytes = hex::decode(&answer.macaroon).unwrap_or_default();
        let restrictions = self.restrictions();
        // Anybody may narrow a token; the node need not know.
        let bytes = if restrictions.is_empty() { bytes } else { narrowed(&bytes, &restrictions)? };
        if let Some(path) = &self.save_to {
            let what = path.display().to_string();
            write_new(path, &bytes).map_err(|source| CliError::Io { what: what.clone(), source })?;
            let value = serde_json::json!({ "macaroon_file": what });
            return context.show_value(&value, || format!("written to {what}; whoever has it may do what it allows"));
        }
        let token = hex::encode(bytes);
        context.show_value(&serde_json::json!({ "macaroon": token }), || token.clone())
    }

    fn restrictions(&self) -> Vec<String> {
        let until = self.timeout.map(|seconds| {
            let end = SystemTime::now() + Duration::from_secs(seconds);
            let end = end.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let text = format::time(i64::try_from(end).unwrap_or(i64::MAX));
            format!("time-before {}Z", text.replace(' ', "T"))
        });
        let address = self.ip_address.map(|address| format!("ipaddr {address}"));
        until.into_iter().chain(address).collect()
    }
}

fn narrowed(bytes: &[u8], restrictions: &[String]) -> Result<Vec<u8>, CliError> {
    let unreadable = |error: Malformed| CliError::Failed(format!("the node's macaroon cannot be read: {error}"));
    let macaroon = Macaroon::parse(bytes).map_err(unreadable)?;
    Ok(restrictions.iter().fold(macaroon, |macaroon, text| macaroon.narrowed(text.as_bytes())).to_bytes())
}

/// List the ids of the root keys of all macaroons.
#[derive(Debug, Args)]
pub struct ListMacaroonIds {}

impl ListMacaroonIds {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer =
            context.client().await?.lightning().list_macaroon_i_ds(ListMacaroonIDsRequest {}).await?.into_inner();
        context.show(&answer, || answer.root_key_ids.iter().map(u64::to_string).collect::<Vec<_>>().join("\n"))
    }
}

/// Revoke every macaroon that was made with a root key.
#[derive(Debug, Args)]
pub struct DeleteMacaroonId {
    /// Id of the root key
    #[arg(value_name = "ID")]
    root_key_id: u64,
}

impl DeleteMacaroonId {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = DeleteMacaroonIdRequest { root_key_id: self.root_key_id };
        let answer = context.client().await?.lightning().delete_macaroon_id(request).await?.into_inner();
        context.show(&answer, || match answer.deleted {
            true => "its macaroons open nothing any more".to_owned(),
            false => "there is no such key".to_owned(),
        })
    }
}

/// List the permissions that each call needs.
#[derive(Debug, Args)]
pub struct ListPermissions {}

impl ListPermissions {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let answer =
            context.client().await?.lightning().list_permissions(ListPermissionsRequest {}).await?.into_inner();
        context.show(&answer, || {
            let mut rows: Vec<[String; 2]> = answer
                .method_permissions
                .iter()
                .map(|(path, list)| {
                    let pairs = list.permissions.iter().map(|pair| format!("{}:{}", pair.entity, pair.action));
                    [path.clone(), pairs.collect::<Vec<_>>().join(", ")]
                })
                .collect();
            rows.sort();
            table::list(["call", "needs"], rows, "")
        })
    }
}
