//! From path, query and body to the encoded request of a call.

use axum::body::Bytes;
use leyden_proto::{
    bindings::{self, Binding, Verb},
    fields::{self, Absent},
    json,
};
use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MethodDescriptor, Value, prost::Message as _};
use tonic::Status;

use super::reply::Refusal;

/// A body above this is read on a thread that may take its time: no other call waits behind it.
const SMALL: usize = 64 << 10;

/// A call, and what its path says of its request.
pub(super) struct Route {
    pub binding: &'static Binding,
    /// Fields and their values.
    pub parameters: Vec<(&'static str, String)>,
    /// As gRPC names it.
    pub path: String,
    pub method: MethodDescriptor,
}

/// What a verb and a path stand for.
#[derive(Debug)]
pub(super) enum Found {
    Call(&'static Binding, Vec<(&'static str, String)>),
    /// The path is one, but for another verb.
    OtherVerb,
    Nothing,
}

/// Looks through all of [`bindings::all`].
pub(super) fn find(verb: Verb, path: &str) -> Found {
    let mut of_others = false;
    for binding in bindings::all() {
        let Some(parameters) = fit(binding.path, path) else { continue };
        if binding.verb == verb {
            return Found::Call(binding, parameters);
        }
        of_others = true;
    }
    if of_others { Found::OtherVerb } else { Found::Nothing }
}

/// The values of a template's fields, if the path fits it.
fn fit(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut wanted, mut got) = (template.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (wanted.next(), got.next()) {
            (None, None) => return Some(parameters),
            (Some(wanted), Some(got)) => match wanted.strip_prefix('{').and_then(|field| field.strip_suffix('}')) {
                Some(field) => {
                    let value = percent_decode_str(got).decode_utf8().ok().filter(|value| !value.is_empty())?;
                    parameters.push((field, value.into_owned()));
                }
                None if wanted == got => {}
                None => return None,
            },
            (None, Some(_)) | (Some(_), None) => return None,
        }
    }
}

/// The request of a call, encoded. Values of the path win over those of the body.
pub(super) async fn message(route: &Route, query: Option<&str>, body: Bytes) -> Result<Bytes, Refusal> {
    let descriptor = route.method.input();
    // It is held as a message no longer than it takes to encode it.
    let make = {
        let (parameters, binding) = (route.parameters.clone(), route.binding);
        let query = query.unwrap_or_default().to_owned();
        let long = body.len() > SMALL;
        let make = move || {
            let mut message = json::read(&descriptor, &body).map_err(|error| error.to_string())?;
            for (field, value) in &parameters {
                set(&mut message, field, &[value.as_str()], Unknown::Refused)?;
            }
            if !binding.has_body() {
                from_query(&mut message, binding, &query)?;
            }
            Ok(Bytes::from(message.encode_to_vec()))
        };
        if long {
            tokio::task::spawn_blocking(make).await.map_err(|error| error.to_string()).and_then(|made| made)
        } else {
            make()
        }
    };
    make.map_err(|error: String| Status::invalid_argument(error).into())
}

/// What becomes of a name that the request has no field for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// As of LND, whose readers of queries pass over what they do not know: some programs add a number against caches.
    Ignored,
    /// What changes something must not do less than it was asked for. (differs)
    Refused,
}

fn from_query(message: &mut DynamicMessage, binding: &Binding, query: &str) -> Result<(), String> {
    let unknown = if binding.verb == Verb::Get { Unknown::Ignored } else { Unknown::Refused };
    let mut fields: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.into_owned()),
            None => fields.push((name.into_owned(), vec![value.into_owned()])),
        }
    }
    let of_path: Vec<&str> = binding.path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
    for (name, values) in fields {
        let is_in_path = of_path.iter().any(|part| part.trim_end_matches('}') == name);
        // How a WebSocket says its verb.
        let is_verb = name == super::websocket::VERB_PARAMETER && message_field(message, &name).is_none();
        if !is_in_path && !is_verb {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            set(message, &name, &values, unknown)?;
        }
    }
    Ok(())
}

fn message_field(message: &DynamicMessage, name: &str) -> Option<FieldDescriptor> {
    let descriptor = prost_reflect::ReflectMessage::descriptor(message);
    descriptor.get_field_by_name(name).or_else(|| descriptor.get_field_by_json_name(name))
}

/// Sets the field at a path such as `channel_point.output_index`, or an entry of a map, `records[5]`.
fn set(message: &mut DynamicMessage, path: &str, values: &[&str], unknown: Unknown) -> Result<(), String> {
    let (path, key) = match path.strip_suffix(']').and_then(|path| path.split_once('[')) {
        Some((path, key)) => (path, Some(key)),
        None => (path, None),
    };
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let Some(field) = message_field(message, name) else {
        let within = prost_reflect::ReflectMessage::descriptor(message);
        return match fields::absent(within.full_name(), name) {
            Some(Absent::Unserved) => Err(format!("{name}: it is not served; leave it unset")),
            Some(Absent::Harmless) => Ok(()),
            None if unknown == Unknown::Ignored => Ok(()),
            None => Err(format!("unknown field \"{name}\" in {}", within.full_name())),
        };
    };
    if let Some(rest) = rest {
        let inner = message.get_field_mut(&field).as_message_mut();
        return match inner {
            Some(inner) => set(inner, rest, values, unknown),
            None => Err(format!("{name} has no field {rest}")),
        };
    }
    let invalid = |value: &str| format!("invalid value for {:?} field {name}: \"{value}\"", field.kind());
    let read = |value: &str| json::scalar(&field, value).ok_or_else(|| invalid(value));
    if let Some(key) = key {
        return set_entry(message, &field, key, values);
    }
    if field.is_list() {
        let read: Vec<Value> = values.iter().map(|value| read(value)).collect::<Result<_, _>>()?;
        if let Some(list) = message.get_field_mut(&field).as_list_mut() {
            list.extend(read);
        }
        return Ok(());
    }
    match values {
        [value] => message.set_field(&field, read(value)?),
        _ => return Err(format!("too many values for field {name}: give one")),
    }
    Ok(())
}

fn set_entry(message: &mut DynamicMessage, field: &FieldDescriptor, key: &str, values: &[&str]) -> Result<(), String> {
    let name = field.name();
    let Kind::Message(entry) = field.kind() else { return Err(format!("{name} is no map")) };
    if !field.is_map() {
        return Err(format!("{name} is no map"));
    }
    let bad = |what: &str| format!("invalid entry for {name}: \"{what}\"");
    let key = match json::scalar(&entry.map_entry_key_field(), key).ok_or_else(|| bad(key))? {
        Value::Bool(key) => MapKey::Bool(key),
        Value::I32(key) => MapKey::I32(key),
        Value::I64(key) => MapKey::I64(key),
        Value::U32(key) => MapKey::U32(key),
        Value::U64(key) => MapKey::U64(key),
        Value::String(key) => MapKey::String(key),
        _ => return Err(bad("its key")),
    };
    let [value] = values else { return Err(format!("too many values for an entry of {name}: give one")) };
    let value = json::scalar(&entry.map_entry_value_field(), value).ok_or_else(|| bad(value))?;
    if let Some(map) = message.get_field_mut(field).as_map_mut() {
        map.insert(key, value);
    }
    Ok(())
}
