//! What the node says of itself to the network.

use std::net::SocketAddr;

use leyden_proto::{
    lnrpc,
    peersrpc::{NodeAnnouncementUpdateRequest, NodeAnnouncementUpdateResponse, UpdateAction},
};

use super::edge;
use crate::api::{AnnouncementChange, AnnouncementOp, ApiError};

/// BOLT 7 has room for so many.
const ALIAS_BYTES: usize = 32;

pub(crate) fn change(request: NodeAnnouncementUpdateRequest) -> Result<AnnouncementChange, ApiError> {
    let NodeAnnouncementUpdateRequest { feature_updates, color, alias, address_updates } = request;
    edge::refuse("feature_updates", !feature_updates.is_empty(), "the node tells the features that it has")?;
    let alias = Some(alias).filter(|alias| !alias.is_empty());
    if let Some(alias) = &alias {
        if alias.len() > ALIAS_BYTES {
            let text = format!("invalid alias value: {} bytes, and other nodes see {ALIAS_BYTES} at most", alias.len());
            return Err(ApiError::invalid(text));
        }
        if alias.chars().any(char::is_control) {
            return Err(ApiError::invalid("invalid alias value: it holds control characters"));
        }
    }
    let mut change = AnnouncementChange { alias, color: hex_color(&color)?, ..AnnouncementChange::default() };
    for update in address_updates {
        let address: SocketAddr = update.address.parse().map_err(|_| {
            let text = format!("\"{}\" is no IP address with a port, such as 192.0.2.1:9735", update.address);
            edge::wrong("address_updates", text)
        })?;
        match UpdateAction::try_from(update.action) {
            Ok(UpdateAction::Add) => change.add.push(address),
            Ok(UpdateAction::Remove) => change.remove.push(address),
            Err(_) => {
                return Err(ApiError::invalid(format!("invalid address update action: {}", update.action)));
            }
        }
    }
    match change.add.iter().find(|address| change.remove.contains(address)) {
        Some(both) => Err(ApiError::invalid(format!("invalid updates for removing AND adding {both}"))),
        None => Ok(change),
    }
}

fn hex_color(text: &str) -> Result<Option<[u8; 3]>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || ApiError::invalid(format!("unable to parse color: \"{text}\" is none; write it as #c42a81"));
    let bytes = text.strip_prefix('#').and_then(|digits| hex::decode(digits).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Some).ok_or_else(wrong)
}

pub(crate) fn changed(ops: Vec<AnnouncementOp>) -> NodeAnnouncementUpdateResponse {
    let op = |op: AnnouncementOp| lnrpc::Op { entity: op.entity.to_owned(), actions: op.actions };
    NodeAnnouncementUpdateResponse { ops: ops.into_iter().map(op).collect() }
}
