//! Messages as JSON, as lncli prints them: LND's own field names, 64-bit numbers as strings (many readers of JSON
//! would round them), bytes as hex, enums by name, and every field, set or not.

use std::sync::LazyLock;

use leyden_proto::{
    DESCRIPTORS,
    json::{BytesAs, Json},
};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::CliError;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());

/// The message over several lines.
pub(super) fn pretty<M: Message + Name>(message: &M) -> Result<String, CliError> {
    let unprintable = |why: &str| CliError::Unprintable(format!("{}: {why}", M::full_name()));
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(&M::full_name()));
    let descriptor = descriptor.ok_or_else(|| unprintable("its descriptor is missing"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| unprintable(&error.to_string()))?;
    serde_json::to_string_pretty(&Json { message: &dynamic, bytes: BytesAs::Hex })
        .map_err(|error| unprintable(&error.to_string()))
}

/// A message that is known by its descriptor alone, as a value.
pub(super) fn value_of(message: &DynamicMessage) -> Result<serde_json::Value, CliError> {
    serde_json::to_value(Json { message, bytes: BytesAs::Hex })
        .map_err(|error| CliError::Unprintable(error.to_string()))
}

/// The message as a value, for what is put together of several.
pub(super) fn value<M: Message + Name>(message: &M) -> Result<serde_json::Value, CliError> {
    serde_json::from_str(&pretty(message)?).map_err(|error| CliError::Unprintable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use leyden_proto::lnrpc;

    use super::*;

    #[test]
    fn messages_print_as_lncli_prints_them() {
        let response = lnrpc::AddInvoiceResponse {
            r_hash: vec![0xab, 0xcd],
            payment_request: "lnbcrt1".to_owned(),
            add_index: u64::MAX,
            payment_addr: Vec::new(),
        };
        let expected = r#"{
  "r_hash": "abcd",
  "payment_request": "lnbcrt1",
  "add_index": "18446744073709551615",
  "payment_addr": ""
}"#;
        assert_eq!(pretty(&response).unwrap(), expected);
    }

    #[test]
    fn enums_lists_maps_and_what_is_unset_are_there() {
        #[allow(deprecated)]
        let info = lnrpc::GetInfoResponse {
            chains: vec![lnrpc::Chain { chain: "bitcoin".to_owned(), network: "regtest".to_owned() }],
            features: HashMap::from([(23, lnrpc::Feature::default()), (8, lnrpc::Feature::default())]),
            block_height: 7,
            ..Default::default()
        };
        let text = pretty(&info).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["chains"][0]["network"], "regtest");
        assert_eq!(value["block_height"], 7);
        assert_eq!(value["best_header_timestamp"], "0");
        assert_eq!(value["features"]["23"]["is_known"], false);
        assert!(text.find("\"8\"").unwrap() < text.find("\"23\"").unwrap(), "keys are in numerical order");

        let payment = lnrpc::Payment { status: 2, ..Default::default() };
        let value: serde_json::Value = serde_json::from_str(&pretty(&payment).unwrap()).unwrap();
        assert_eq!((&value["status"], &value["failure_reason"]), (&"SUCCEEDED".into(), &"FAILURE_REASON_NONE".into()));

        let utxo = lnrpc::Utxo::default();
        let value: serde_json::Value = serde_json::from_str(&pretty(&utxo).unwrap()).unwrap();
        assert!(value["outpoint"].is_null());

        let update = lnrpc::OpenStatusUpdate::default();
        let value: serde_json::Value = serde_json::from_str(&pretty(&update).unwrap()).unwrap();
        assert!(value.get("chan_pending").is_none(), "a choice that is not made is left out");
    }
}
