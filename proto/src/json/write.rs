use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeSeq},
};

/// How bytes stand in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BytesAs {
    /// As LND's REST has them.
    Base64,
    /// As lncli prints them.
    Hex,
}

/// A message to be written.
#[derive(Debug)]
pub struct Json<'a> {
    pub message: &'a DynamicMessage,
    pub bytes: BytesAs,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in self.message.descriptor().fields() {
            let set = self.message.has_field(&field);
            if !set && field.containing_oneof().is_some() {
                continue;
            }
            if !set && field.supports_presence() {
                map.serialize_entry(field.name(), &())?;
                continue;
            }
            let value = self.message.get_field(&field);
            map.serialize_entry(field.name(), &Field { value: &value, field: &field, bytes: self.bytes })?;
        }
        map.end()
    }
}

struct Field<'a> {
    value: &'a Value,
    field: &'a FieldDescriptor,
    bytes: BytesAs,
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.bytes;
        match (self.value, self.field.kind()) {
            (Value::Map(entries), Kind::Message(entry)) => {
                let kind = entry.map_entry_value_field().kind();
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by_key(|(key, _)| *key);
                let mut map = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    map.serialize_entry(&key_text(key), &Scalar { value, kind: &kind, bytes })?;
                }
                map.end()
            }
            (Value::List(values), kind) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Scalar { value, kind: &kind, bytes })?;
                }
                list.end()
            }
            (value, kind) => Scalar { value, kind: &kind, bytes }.serialize(serializer),
        }
    }
}

struct Scalar<'a> {
    value: &'a Value,
    kind: &'a Kind,
    bytes: BytesAs,
}

impl Serialize for Scalar<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I32(value) => serializer.serialize_i32(*value),
            Value::U32(value) => serializer.serialize_u32(*value),
            Value::I64(value) => serializer.collect_str(value),
            Value::U64(value) => serializer.collect_str(value),
            Value::F32(value) if value.is_finite() => serializer.serialize_f32(*value),
            Value::F32(value) => serializer.serialize_str(not_finite(f64::from(*value))),
            Value::F64(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::F64(value) => serializer.serialize_str(not_finite(*value)),
            Value::String(value) => serializer.serialize_str(value),
            Value::Bytes(value) => match self.bytes {
                BytesAs::Base64 => serializer.serialize_str(&BASE64_STANDARD.encode(value)),
                BytesAs::Hex => serializer.serialize_str(&hex::encode(value)),
            },
            Value::EnumNumber(number) => match self.kind.as_enum().and_then(|values| values.get_value(*number)) {
                Some(value) => serializer.serialize_str(value.name()),
                None => serializer.serialize_i32(*number),
            },
            Value::Message(message) => Json { message, bytes: self.bytes }.serialize(serializer),
            // Neither can stand inside a list or a map of protobuf.
            Value::List(_) | Value::Map(_) => serializer.serialize_unit(),
        }
    }
}

/// JSON has no number for these; protobuf names them.
fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
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
