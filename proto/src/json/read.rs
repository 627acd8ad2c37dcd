//! Read piece by piece into the message, so that nothing is held that the message has no field for.

use std::{borrow::Cow, cell::Cell, collections::HashMap, fmt};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde::{
    Deserialize as _,
    de::{
        DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer,
    },
};

use crate::fields::{self, Absent, MAX_VALUES};

/// The message that `text` says; a text without anything says an empty one.
pub fn read(descriptor: &MessageDescriptor, text: &[u8]) -> Result<DynamicMessage, serde_json::Error> {
    if text.trim_ascii().is_empty() {
        return Ok(DynamicMessage::new(descriptor.clone()));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let room = Room(Cell::new(MAX_VALUES));
    let message = MessageSeed(descriptor, &room).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(message)
}

/// The value of a field, or of one element of it, as it stands in an address: `true`, `5`, `OPEN`, base64. `None`: it is no
/// value for this field.
pub fn scalar(field: &FieldDescriptor, text: &str) -> Option<Value> {
    match field.kind() {
        // Programs write 1 and True too.
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        kind => from_text(&kind, text),
    }
}

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

fn from_text(kind: &Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::String => Some(Value::String(text.to_owned())),
        Kind::Bytes => {
            let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
            engine.decode(text).ok().map(|bytes| Value::Bytes(bytes.into()))
        }
        Kind::Enum(values) => match values.get_value_by_name(text) {
            Some(value) => Some(Value::EnumNumber(value.number())),
            None => text.parse().ok().map(Value::EnumNumber),
        },
        Kind::Bool | Kind::Message(_) => None,
        Kind::Double => float(text).map(Value::F64),
        Kind::Float => float(text).map(|value| Value::F32(value as f32)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer(text)?.try_into().ok().map(Value::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer(text)?.try_into().ok().map(Value::I64),
        Kind::Uint32 | Kind::Fixed32 => integer(text)?.try_into().ok().map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => integer(text)?.try_into().ok().map(Value::U64),
    }
}

fn float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

/// A whole number, however JSON writes it: `1000`, `1e3`, `1000.0`. Its digits are taken as they are, never through a floating
/// number; what is not whole is none. A leading zero would mean base 8 to some.
fn integer(text: &str) -> Option<i128> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let (sign, unsigned) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    if !is_digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)) {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    if !is_digits(whole) || !is_digits(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = whole.bytes().chain(fraction.bytes()).map(|digit| i128::from(digit - b'0'));
    let value = digits.into_iter().try_fold(0_i128, |value, digit| value.checked_mul(10)?.checked_add(digit))?;
    let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let unit = 10_i128.checked_pow(shift.unsigned_abs());
    let value = match (value, unit) {
        (0, _) => 0,
        (_, None) => return None,
        (value, Some(unit)) if shift >= 0 => value.checked_mul(unit)?,
        (value, Some(unit)) => Some(value / unit).filter(|_| value % unit == 0)?,
    };
    Some(sign * value)
}

/// How many values may still be read.
struct Room(Cell<usize>);

impl Room {
    fn take<E: Error>(&self) -> Result<(), E> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| Error::custom(fields::Refused::TooMany))?;
        self.0.set(left);
        Ok(())
    }
}

struct MessageSeed<'a>(&'a MessageDescriptor, &'a Room);

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = DynamicMessage;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<DynamicMessage, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = DynamicMessage;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object, the message {}", self.0.full_name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DynamicMessage, A::Error> {
        let mut message = DynamicMessage::new(self.0.clone());
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            let field = self.0.get_field_by_name(&name).or_else(|| self.0.get_field_by_json_name(&name));
            let Some(field) = field else {
                match fields::absent(self.0.full_name(), &name) {
                    Some(Absent::Harmless) => {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    Some(Absent::Unserved) => {
                        return Err(Error::custom(format_args!("{name}: it is not served; leave it unset")));
                    }
                    None => {
                        let message = self.0.full_name();
                        return Err(Error::custom(format_args!("unknown field \"{name}\" in {message}")));
                    }
                }
            };
            if seen.contains(&field.number()) {
                return Err(Error::custom(format_args!("duplicate field \"{name}\"")));
            }
            seen.push(field.number());
            let Some(value) = map.next_value_seed(FieldSeed(&field, self.1))? else { continue };
            let others = field.containing_oneof().into_iter().flat_map(|one| one.fields().collect::<Vec<_>>());
            if let Some(other) = others.into_iter().find(|other| message.has_field(other)) {
                let other = other.name();
                return Err(Error::custom(format_args!("{name} and {other} exclude each other: set one of them")));
            }
            message.set_field(&field, value);
        }
        Ok(message)
    }
}

/// A field's value; none if it is `null`.
struct FieldSeed<'a>(&'a FieldDescriptor, &'a Room);

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a value for {}", self.0.name())
    }

    fn visit_none<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        let Self(field, room) = self;
        let value = if field.is_map() {
            deserializer.deserialize_map(MapVisitor(field, room))
        } else if field.is_list() {
            deserializer.deserialize_seq(ListVisitor(field, room))
        } else {
            ElementSeed { name: field.name(), kind: &field.kind(), room }.deserialize(deserializer)
        };
        value.map(Some)
    }
}

struct ListVisitor<'a>(&'a FieldDescriptor, &'a Room);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list for {}", self.0.name())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let kind = self.0.kind();
        let mut values = Vec::new();
        while let Some(value) =
            list.next_element_seed(ElementSeed { name: self.0.name(), kind: &kind, room: self.1 })?
        {
            values.push(value);
        }
        Ok(Value::List(values))
    }
}

struct MapVisitor<'a>(&'a FieldDescriptor, &'a Room);

impl<'de> Visitor<'de> for MapVisitor<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an object for {}", self.0.name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let name = self.0.name();
        let Kind::Message(entry) = self.0.kind() else { return Err(Error::custom(name)) };
        let (key_kind, kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut values = HashMap::new();
        while let Some(text) = map.next_key::<Cow<'_, str>>()? {
            let key = key(&key_kind, &text)
                .ok_or_else(|| Error::custom(format_args!("invalid key for {name}: \"{text}\"")))?;
            let value = map.next_value_seed(ElementSeed { name, kind: &kind, room: self.1 })?;
            // One of the two would be lost, an output of a payment for example.
            if values.insert(key, value).is_some() {
                return Err(Error::custom(format_args!("duplicate key \"{text}\" for {name}")));
            }
        }
        Ok(Value::Map(values))
    }
}

/// The key of an entry of a map; a number in the one way only that it is usually written, so that none is there twice.
pub fn map_key(field: &FieldDescriptor, text: &str) -> Option<MapKey> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => key(&entry.map_entry_key_field().kind(), text),
        _ => None,
    }
}

fn key(kind: &Kind, text: &str) -> Option<MapKey> {
    match kind {
        Kind::Bool => text.parse().ok().map(MapKey::Bool),
        kind => match from_text(kind, text)? {
            Value::I32(key) if key.to_string() == text => Some(MapKey::I32(key)),
            Value::I64(key) if key.to_string() == text => Some(MapKey::I64(key)),
            Value::U32(key) if key.to_string() == text => Some(MapKey::U32(key)),
            Value::U64(key) if key.to_string() == text => Some(MapKey::U64(key)),
            Value::String(key) => Some(MapKey::String(key)),
            _ => None,
        },
    }
}

/// One value: of a field, of a list or of a map.
struct ElementSeed<'a> {
    name: &'a str,
    kind: &'a Kind,
    room: &'a Room,
}

impl ElementSeed<'_> {
    fn invalid<E: Error>(&self, got: impl fmt::Display) -> E {
        let Self { name, kind, room: _ } = self;
        Error::custom(format_args!("invalid value for {kind:?} field {name}: {got}"))
    }

    fn number<E: Error>(self, text: &str) -> Result<Value, E> {
        match self.kind {
            Kind::String | Kind::Bytes => Err(self.invalid(text)),
            kind => from_text(kind, text).ok_or_else(|| self.invalid(text)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.room.take()?;
        match self.kind {
            Kind::Message(descriptor) => {
                MessageSeed(descriptor, self.room).deserialize(deserializer).map(Value::Message)
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a {:?} for {}", self.kind, self.name)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        match self.kind {
            Kind::Bool => Ok(Value::Bool(value)),
            _ => Err(self.invalid(value)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        from_text(self.kind, text).ok_or_else(|| self.invalid(format_args!("\"{text}\"")))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.number(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.number(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.number(&value.to_string())
    }

    /// A number of any size, as `serde_json` hands it over when it keeps all digits.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let number = serde_json::Number::deserialize(MapAccessDeserializer::new(map));
        let number =
            number.map_err(|_| Error::custom(format_args!("invalid value for {:?} field {}", self.kind, self.name)))?;
        self.number(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::{json, lnrpc, routerrpc};

    fn descriptor(name: &str) -> MessageDescriptor {
        crate::pool().get_message_by_name(name).unwrap()
    }

    fn payment(text: &str) -> Result<routerrpc::SendPaymentRequest, String> {
        let message =
            read(&descriptor("routerrpc.SendPaymentRequest"), text.as_bytes()).map_err(|error| error.to_string())?;
        Ok(routerrpc::SendPaymentRequest::decode(message.encode_to_vec().as_slice()).unwrap())
    }

    #[test]
    fn numbers_may_be_strings_and_names_have_both_spellings() {
        let plain =
            payment(r#"{"amt": 5000, "payment_hash": "+/8=", "fee_limit_msat": "7", "allow_self_payment": true}"#);
        let other = payment(
            r#"{"amt": "5e3", "paymentHash": "-_8", "feeLimitMsat": 7.0, "allowSelfPayment": true, "dest": null}"#,
        );
        assert_eq!(plain, other);
        let read = plain.unwrap();
        assert_eq!((read.amt, read.payment_hash.as_slice(), read.fee_limit_msat), (5000, [0xfb, 0xff].as_slice(), 7));
        assert_eq!(payment(""), payment("{}"));
        let exact =
            payment(r#"{"fee_limit_msat": 9007199254740991000, "outgoing_chan_ids": ["18446744073709551615", 1]}"#);
        let exact = exact.unwrap();
        assert_eq!((exact.fee_limit_msat, exact.outgoing_chan_ids), (9_007_199_254_740_991_000, vec![u64::MAX, 1]));
    }

    #[test]
    fn maps_messages_and_lists_are_read() {
        let read = payment(
            r#"{"dest_custom_records": {"5482373484": "AAE="}, "route_hints": [{"hop_hints": [{"node_id": "02"}]}],
                "first_hop_custom_records": null}"#,
        );
        assert!(read.unwrap_err().contains("first_hop_custom_records: it is not served"));
        let read = payment(
            r#"{"dest_custom_records": {"5482373484": "AAE="}, "route_hints": [{"hop_hints": [{"node_id": "02"}]}]}"#,
        )
        .unwrap();
        assert_eq!(read.dest_custom_records[&5_482_373_484], [0, 1]);
        assert_eq!(read.route_hints[0].hop_hints[0].node_id, "02");
    }

    #[test]
    fn what_no_message_says_is_refused_with_its_name() {
        for (text, words) in [
            (r#"{"amout": 1}"#, "unknown field \"amout\""),
            (r#"{"amt": "x"}"#, "field amt: \"x\""),
            (r#"{"amt": 1.5}"#, "field amt: 1.5"),
            (r#"{"amt": 9223372036854775808}"#, "field amt: 9223372036854775808"),
            (r#"{"amt": true}"#, "field amt: true"),
            (r#"{"amt": {"a": 1}}"#, "field amt"),
            (r#"{"amt": [1]}"#, "for amt"),
            (r#"{"payment_hash": "?"}"#, "field payment_hash: \"?\""),
            (r#"{"payment_hash": 5}"#, "field payment_hash: 5"),
            (r#"{"payment_request": 5}"#, "field payment_request: 5"),
            (r#"{"allow_self_payment": "yes"}"#, "field allow_self_payment"),
            (r#"{"amt": 1, "amt": 2}"#, "duplicate field \"amt\""),
            (r#"{"outgoing_chan_ids": 5}"#, "a list for outgoing_chan_ids"),
            (r#"{"outgoing_chan_ids": [null]}"#, "outgoing_chan_ids"),
            (r#"{"dest_custom_records": {"x": ""}}"#, "invalid key for dest_custom_records: \"x\""),
            (r#"[]"#, "an object, the message routerrpc.SendPaymentRequest"),
            (r#"{"amt": 1"#, "EOF"),
            (r#"{"amt": 1} x"#, "trailing"),
        ] {
            let error = payment(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error:?} does not say {words:?}");
        }
        let invoice = read(&descriptor("lnrpc.Invoice"), br#"{"state": "OPENED"}"#).unwrap_err().to_string();
        assert!(invoice.contains("field state: \"OPENED\""), "{invoice}");
        let both = br#"{"chan_point": {"funding_txid_str": "aa", "funding_txid_bytes": "AA=="}}"#;
        let error = read(&descriptor("lnrpc.PolicyUpdateRequest"), both).unwrap_err().to_string();
        assert!(error.contains("exclude each other"), "{error}");
    }

    #[test]
    fn whole_numbers_are_read_digit_by_digit() {
        for (text, number) in [
            ("0", 0),
            ("-0.0", 0),
            ("-17", -17),
            ("1E3", 1_000),
            ("12.50e1", 125),
            ("1200e-2", 12),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("9.223372036854775807e18", i128::from(i64::MAX)),
            ("18446744073709551615.000", i128::from(u64::MAX)),
        ] {
            assert_eq!(integer(text), Some(number), "{text}");
        }
        for wrong in [
            "",
            "-",
            "+5",
            "5.",
            ".5e1",
            "1.00000000000000000001",
            "1.5",
            "1e",
            "1e-1",
            "e5",
            "05",
            "0x10",
            "1e99999",
            "--1",
            "1_000",
            " 1",
            "1e+-2",
            "1.-5",
            "1e9999999999",
        ] {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
        let exact = payment(r#"{"fee_limit_msat": 9007199254740993.0}"#).unwrap();
        assert_eq!(exact.fee_limit_msat, 9_007_199_254_740_993);
        assert!(payment(r#"{"amt": 1.00000000000000000001}"#).is_err());
    }

    #[test]
    fn a_key_of_a_map_stands_once_and_in_one_spelling() {
        let twice = br#"{"AddrToAmount": {"A": "10000", "A": "23456"}}"#;
        let error = read(&descriptor("lnrpc.SendManyRequest"), twice).unwrap_err().to_string();
        assert!(error.contains("duplicate key \"A\""), "{error}");
        for other in ["05482373484", "5482373484.0", "5482373484e0", "+5482373484"] {
            let error = payment(&format!(r#"{{"dest_custom_records": {{"{other}": ""}}}}"#)).unwrap_err();
            assert!(error.contains("invalid key for dest_custom_records"), "{error}");
        }
    }

    #[test]
    fn a_request_of_very_many_values_is_refused() {
        let hints = |count: usize| format!(r#"{{"route_hints": [{}{{}}]}}"#, "{},".repeat(count));
        assert!(payment(&hints(1_000)).is_ok());
        let error = payment(&hints(MAX_VALUES)).unwrap_err();
        assert!(error.contains("more than 20000 values"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let payment = lnrpc::Payment {
            payment_hash: "ab".to_owned(),
            value_msat: i64::MAX,
            status: 2,
            htlcs: vec![lnrpc::HtlcAttempt { preimage: vec![0xfb, 0xff], ..Default::default() }],
            ..Default::default()
        };
        let descriptor = descriptor("lnrpc.Payment");
        let message = DynamicMessage::decode(descriptor.clone(), payment.encode_to_vec().as_slice()).unwrap();
        let text = serde_json::to_string(&json::Json { message: &message, bytes: json::BytesAs::Base64 }).unwrap();
        for part in [
            r#""value_msat":"9223372036854775807""#,
            r#""status":"SUCCEEDED""#,
            r#""preimage":"+/8=""#,
            r#""fee_sat":"0""#,
            r#""failure":null"#,
        ] {
            assert!(text.contains(part), "{text} has no {part}");
        }
        let again = read(&descriptor, text.as_bytes()).unwrap();
        assert_eq!(lnrpc::Payment::decode(again.encode_to_vec().as_slice()).unwrap(), payment);
    }

    #[test]
    fn values_in_addresses_are_read() {
        let descriptor = descriptor("lnrpc.OpenChannelRequest");
        let value = |name: &str, text: &str| scalar(&descriptor.get_field_by_name(name).unwrap(), text);
        assert_eq!(value("private", "True"), Some(Value::Bool(true)));
        assert_eq!(value("private", "yes"), None);
        assert_eq!(value("push_sat", "12"), Some(Value::I64(12)));
        assert_eq!(value("push_sat", "12x"), None);
        assert_eq!(value("commitment_type", "ANCHORS"), value("commitment_type", "3"));
        assert_eq!(value("node_pubkey", "_-8="), Some(Value::Bytes(vec![0xff, 0xef].into())));
    }
}
