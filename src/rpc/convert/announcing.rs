//! What the node says of itself to the network.

use std::net::{IpAddr, SocketAddr};

use leyden_proto::{
    lnrpc,
    peersrpc::{NodeAnnouncementUpdateRequest, NodeAnnouncementUpdateResponse, UpdateAction},
};

use super::{edge, wallet::LIGHTNING_PORT};
use crate::{
    api::{AnnouncementChange, AnnouncementOp, ApiError},
    limits::MAX_ANNOUNCED_ADDRESSES,
};

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
    if address_updates.len() > 2 * MAX_ANNOUNCED_ADDRESSES {
        let text =
            format!("{}; at most {MAX_ANNOUNCED_ADDRESSES} addresses are told to the network", address_updates.len());
        return Err(edge::wrong("address_updates", text));
    }
    let mut change = AnnouncementChange { alias, color: hex_color(&color)?, ..AnnouncementChange::default() };
    for update in address_updates {
        let address = address(&update.address).ok_or_else(|| {
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

/// Without a port it is Lightning's usual one, as for LND.
fn address(text: &str) -> Option<SocketAddr> {
    let alone = || text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, LIGHTNING_PORT));
    text.parse().ok().or_else(alone)
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

#[cfg(test)]
mod tests {
    use leyden_proto::peersrpc::UpdateAddressAction;

    use super::*;

    fn adding(address: &str, count: usize) -> NodeAnnouncementUpdateRequest {
        let update = UpdateAddressAction { action: UpdateAction::Add.into(), address: address.to_owned() };
        NodeAnnouncementUpdateRequest { address_updates: vec![update; count], ..Default::default() }
    }

    #[test]
    fn an_address_without_a_port_has_the_usual_one_and_there_are_few() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1:9735"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("2001:db8::1", "[2001:db8::1]:9735"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            assert_eq!(change(adding(text, 1)).unwrap().add, [address.parse::<SocketAddr>().unwrap()]);
        }
        assert!(change(adding("example.com", 1)).unwrap_err().to_string().contains("is no IP address"));
        let many = change(adding("192.0.2.1", 2 * MAX_ANNOUNCED_ADDRESSES + 1)).unwrap_err().to_string();
        assert!(many.contains("at most 16 addresses"), "{many}");
    }
}
