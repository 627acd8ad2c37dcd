//! Messages as JSON, as lncli prints them: LND's own field names, 64-bit numbers as strings (many readers of JSON
//! would round them), bytes as hex, enums by name, and every field, set or not.

use std::sync::LazyLock;

use leyden_proto::DESCRIPTORS;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

use super::CliError;

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());

/// The message over several lines.
pub(super) fn pretty<M: Message + Name>(message: &M) -> Result<String, CliError> {
    let unprintable = |why: &str| CliError::Unprintable(format!("{}: {why}", M::full_name()));
    let descriptor = POOL.as_ref().and_then(|pool| pool.get_message_by_name(&M::full_name()));
    let descriptor = descriptor.ok_or_else(|| unprintable("its descriptor is missing"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| unprintable(&error.to_string()))?;
    serde_json::to_string_pretty(&Printed(&dynamic)).map_err(|error| unprintable(&error.to_string()))
}

/// The message as a value, for what is put together of several.
pub(super) fn value<M: Message + Name>(message: &M) -> Result<serde_json::Value, CliError> {
    serde_json::from_str(&pretty(message)?).map_err(|error| CliError::Unprintable(error.to_string()))
}

struct Printed<'a>(&'a DynamicMessage);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in self.0.descriptor().fields() {
            let set = self.0.has_field(&field);
            if !set && field.containing_oneof().is_some() {
                continue;
            }
            if !set && field.supports_presence() {
                map.serialize_entry(field.name(), &())?;
                continue;
            }
            let value = self.0.get_field(&field);
            map.serialize_entry(field.name(), &PrintedField { value: &value, field: &field })?;
        }
        map.end()
    }
}

struct PrintedField<'a> {
    value: &'a Value,
    field: &'a FieldDescriptor,
}

impl Serialize for PrintedField<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.value, self.field.kind()) {
            (Value::Map(entries), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by_key(|(key, _)| *key);
                let mut map = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    map.serialize_entry(&key_text(key), &PrintedValue { value, kind: &kind })?;
                }
                map.end()
            }
            (Value::List(values), kind) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&PrintedValue { value, kind: &kind })?;
                }
                list.end()
            }
            (value, kind) => PrintedValue { value, kind: &kind }.serialize(serializer),
        }
    }
}

struct PrintedValue<'a> {
    value: &'a Value,
    kind: &'a Kind,
}

impl Serialize for PrintedValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) => serializer.serialize_f32(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => serializer.serialize_str(&hex::encode(value)),
            Value::EnumNumber(number) => match self.kind.as_enum().and_then(|values| values.get_value(*number)) {
                Some(value) => serializer.serialize_str(value.name()),
                None => serializer.serialize_i32(*number),
            },
            Value::Message(message) => Printed(message).serialize(serializer),
            // Neither can stand inside a list or a map of protobuf.
            Value::List(_) | Value::Map(_) => serializer.serialize_unit(),
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
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
