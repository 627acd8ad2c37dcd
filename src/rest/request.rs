//! From path, query and body to the encoded request of a call.

use axum::body::Bytes;
use leyden_proto::{
    bindings::{self, Binding, Verb},
    fields::{self, Absent},
    json,
};
use percent_encoding::percent_decode_str;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor, ReflectMessage as _, Value,
    prost::Message as _,
};
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
            if binding.has_body() {
                refuse_query(&descriptor, &query)?;
            } else {
                refuse_body(binding, &body)?;
            }
            let read = if binding.has_body() { json::read(&descriptor, &body) } else { json::read(&descriptor, b"") };
            let mut message = read.map_err(|error| error.to_string())?;
            let path = of_path(&descriptor, &parameters)?;
            for (target, value) in &path {
                put(&mut message, target, std::slice::from_ref(value))?;
            }
            if !binding.has_body() {
                from_query(&mut message, binding, &path, &query)?;
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

/// What stands where it is not looked for must not be passed over: a fee, or a condition. (differs: LND does.)
fn refuse_query(descriptor: &MessageDescriptor, query: &str) -> Result<(), String> {
    let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name).filter(|name| !name.is_empty());
    match names.find(|name| !is_verb(descriptor, name)) {
        Some(name) => Err(format!("{name} stands in the address: this call takes its request from the body, as JSON")),
        None => Ok(()),
    }
}

/// The contrary. What says nothing may be there: many programs send it with every request.
fn refuse_body(binding: &Binding, body: &[u8]) -> Result<(), String> {
    let is_empty = serde_json::from_slice(body).is_ok_and(|value: serde_json::Value| match value {
        serde_json::Value::Null => true,
        serde_json::Value::Object(fields) => fields.is_empty(),
        serde_json::Value::String(text) => text.is_empty(),
        _ => false,
    });
    if is_empty || body.trim_ascii().is_empty() {
        return Ok(());
    }
    let verb = binding.verb.name();
    Err(format!("this {verb} takes its request from the address, as ?name=value: a body would be passed over"))
}

/// How a WebSocket says its verb, where the request has no field of this name.
fn is_verb(descriptor: &MessageDescriptor, name: &str) -> bool {
    name == super::websocket::VERB_PARAMETER && field_of(descriptor, name).is_none()
}

/// What becomes of a name that the request has no field for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// As of LND, whose readers of queries pass over what they do not know: some programs add a number against caches.
    Ignored,
    /// What changes something must not do less than it was asked for. (differs)
    Refused,
}

/// Where a value belongs, whichever way that is written: `channel_point.output_index`, `channelPoint.outputIndex`, or an entry
/// of a map, `records[5]`.
struct Target {
    /// From the outermost message inwards; one at least.
    fields: Vec<FieldDescriptor>,
    key: Option<MapKey>,
}

impl Target {
    /// `None`: there is no such field, and that may be passed over.
    fn find(descriptor: &MessageDescriptor, path: &str, unknown: Unknown) -> Result<Option<Self>, String> {
        let (path, key) = match path.strip_suffix(']').and_then(|path| path.split_once('[')) {
            Some((path, key)) => (path, Some(key)),
            None => (path, None),
        };
        let (mut within, mut fields) = (descriptor.clone(), Vec::new());
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let Some(field) = field_of(&within, name) else {
                return match fields::absent(within.full_name(), name) {
                    Some(Absent::Unserved) => Err(format!("{name}: it is not served; leave it unset")),
                    Some(Absent::Harmless) => Ok(None),
                    None if unknown == Unknown::Ignored => Ok(None),
                    None => Err(format!("unknown field \"{name}\" in {}", within.full_name())),
                };
            };
            if let Some(rest) = names.peek() {
                within = match field.kind() {
                    Kind::Message(inner) if !field.is_list() && !field.is_map() => inner,
                    _ => return Err(format!("{name} has no field {rest}")),
                };
            }
            fields.push(field);
        }
        let key = match (key, fields.last()) {
            (Some(text), Some(field)) if field.is_map() => {
                let name = field.name();
                let key = json::map_key(field, text);
                Some(key.ok_or_else(|| format!("invalid entry for {name}: \"{text}\""))?)
            }
            (Some(_), _) => return Err(format!("{path} is no map")),
            (None, _) => None,
        };
        Ok(Some(Self { fields, key }))
    }

    fn is(&self, other: &Self) -> bool {
        let numbers = |target: &Self| target.fields.iter().map(FieldDescriptor::number).collect::<Vec<_>>();
        numbers(self) == numbers(other) && self.key == other.key
    }
}

fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))
}

/// The values in the path, with their places.
fn of_path(descriptor: &MessageDescriptor, parameters: &[(&str, String)]) -> Result<Vec<(Target, String)>, String> {
    let mut targets = Vec::new();
    for (name, value) in parameters {
        targets.extend(Target::find(descriptor, name, Unknown::Refused)?.map(|target| (target, value.clone())));
    }
    Ok(targets)
}

fn from_query(
    message: &mut DynamicMessage,
    binding: &Binding,
    path: &[(Target, String)],
    query: &str,
) -> Result<(), String> {
    let unknown = if binding.verb == Verb::Get { Unknown::Ignored } else { Unknown::Refused };
    let descriptor = message.descriptor();
    let mut given: Vec<(Target, String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if is_verb(&descriptor, &name) {
            continue;
        }
        let Some(target) = Target::find(&descriptor, &name, unknown)? else { continue };
        match given.iter_mut().find(|(known, ..)| known.is(&target)) {
            Some((_, _, values)) => values.push(value.into_owned()),
            None => given.push((target, name.into_owned(), vec![value.into_owned()])),
        }
    }
    for (target, name, values) in given {
        match path.iter().find(|(of_path, _)| of_path.is(&target)) {
            None => put(message, &target, &values)?,
            // As LND has it.
            Some((_, value)) if values.iter().all(|again| again == value) => {}
            Some((_, value)) => return Err(format!("{name} is {value} in the path, and something else in the query")),
        }
    }
    Ok(())
}

/// Sets a field, or an entry of a map, that is not set yet.
fn put(message: &mut DynamicMessage, target: &Target, values: &[String]) -> Result<(), String> {
    let Some((field, outer)) = target.fields.split_last() else { return Ok(()) };
    let mut message = message;
    for outer in outer {
        refuse_other_choice(message, outer)?;
        let name = outer.name();
        message = message.get_field_mut(outer).as_message_mut().ok_or_else(|| format!("{name} is no message"))?;
    }
    refuse_other_choice(message, field)?;
    let name = field.name();
    if let Some(key) = &target.key {
        let [value] = values else { return Err(format!("too many values for an entry of {name}: give one")) };
        let Kind::Message(entry) = field.kind() else { return Err(format!("{name} is no map")) };
        let read = json::scalar(&entry.map_entry_value_field(), value);
        let read = read.ok_or_else(|| format!("invalid entry for {name}: \"{value}\""))?;
        if let Some(map) = message.get_field_mut(field).as_map_mut() {
            map.insert(key.clone(), read);
        }
        return Ok(());
    }
    let invalid = |value: &str| format!("invalid value for {:?} field {name}: \"{value}\"", field.kind());
    let read = |value: &String| json::scalar(field, value).ok_or_else(|| invalid(value));
    if field.is_list() {
        let read: Vec<Value> = values.iter().map(read).collect::<Result<_, _>>()?;
        if let Some(list) = message.get_field_mut(field).as_list_mut() {
            list.extend(read);
        }
        return Ok(());
    }
    match values {
        [value] => message.set_field(field, read(value)?),
        _ => return Err(format!("too many values for field {name}: give one")),
    }
    Ok(())
}

/// Of fields that exclude each other one is set at most.
fn refuse_other_choice(message: &DynamicMessage, field: &FieldDescriptor) -> Result<(), String> {
    let others = field.containing_oneof().into_iter().flat_map(|choice| choice.fields().collect::<Vec<_>>());
    match others.into_iter().find(|other| other.number() != field.number() && message.has_field(other)) {
        Some(other) => Err(format!("{} and {} exclude each other: set one of them", other.name(), field.name())),
        None => Ok(()),
    }
}
