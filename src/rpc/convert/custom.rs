//! Messages that the node only carries.

use leyden_proto::lnrpc;

use super::edge;
use crate::api::{ApiError, CustomMessage, FIRST_CUSTOM_TYPE, MAX_CUSTOM_DATA};

pub(crate) fn to_send(request: lnrpc::SendCustomMessageRequest) -> Result<CustomMessage, ApiError> {
    let lnrpc::SendCustomMessageRequest { peer, r#type: number, data } = request;
    let peer = edge::node_id("peer", &peer)?;
    let message_type =
        u16::try_from(number).map_err(|_| edge::wrong("type", format_args!("{number} is above 65535")))?;
    if message_type < FIRST_CUSTOM_TYPE {
        let text = format!("msg type: {number} not in custom range: {FIRST_CUSTOM_TYPE} and not overridden");
        return Err(ApiError::invalid(text));
    }
    if data.len() > MAX_CUSTOM_DATA {
        return Err(edge::wrong("data", format_args!("{} bytes; a message has {MAX_CUSTOM_DATA} at most", data.len())));
    }
    Ok(CustomMessage { peer, message_type, data })
}

pub(crate) fn received(message: &CustomMessage) -> lnrpc::CustomMessage {
    lnrpc::CustomMessage {
        peer: message.peer.serialize().to_vec(),
        r#type: u32::from(message.message_type),
        data: message.data.clone(),
    }
}
