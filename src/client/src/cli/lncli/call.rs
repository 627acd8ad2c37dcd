//! A call by its table: the request from what was typed, and its answers as JSON.

use std::{
    borrow::Cow,
    io::{self, BufRead, Read as _, Write},
    sync::LazyLock,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use leyden_proto::DESCRIPTORS;
use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind as FieldKind, MessageDescriptor, MethodDescriptor,
};
use serde_json::{Map, Value, json};

use super::{
    super::{CliError, Context, amount, connect, format, json as messages},
    calls::{Arg, Entry, IMPORTS_ONE, Kind, absent},
    words::Given,
};

static POOL: LazyLock<Option<DescriptorPool>> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).ok());

/// Asks the node, and prints each answer as it comes.
pub(super) async fn run(entry: &'static Entry, given: Given, context: &Context) -> Result<(), CliError> {
    let is_forced = given.flags.iter().any(|(name, _)| name == "force" || name == "f");
    let (entry, method, request) = request(entry, given)?;
    if let Some(what) = entry.asks.filter(|_| !is_forced)
        && !tokio::task::spawn_blocking(move || agrees(what, &mut io::stdin().lock(), &mut io::stderr()))
            .await
            .map_err(|error| CliError::Failed(error.to_string()))??
    {
        return Err(CliError::Failed("nothing was done".to_owned()));
    }
    let path = format!("/{}", entry.call);
    let client = context.client().await?;
    let mut answers = client.call(&path, request.encode_to_vec()).await?;
    while let Some(answer) = answers.message().await? {
        let answer = DynamicMessage::decode(method.output(), answer.as_slice())
            .map_err(|error| CliError::Unprintable(format!("{}: {error}", entry.call)))?;
        let value = match entry.shape {
            None => messages::value_of(&answer)?,
            Some(shape) => shape(messages::value_of(&answer)?, &messages::value_of(&request)?)?,
        };
        context.show_value(&value, || format!("{value:#}"))?;
    }
    Ok(())
}

/// Asks whoever types, until yes or no is the answer.
pub(super) fn agrees(what: &str, from: &mut impl BufRead, to: &mut impl Write) -> Result<bool, CliError> {
    let failed = |source| CliError::Io { what: "the terminal".to_owned(), source };
    loop {
        write!(to, "{what}. Proceed? (yes/no): ").and_then(|()| to.flush()).map_err(failed)?;
        let mut line = String::new();
        // A line longer than this is no answer.
        if from.take(LONGEST_ANSWER).read_line(&mut line).map_err(failed)? == 0 {
            return Err(CliError::Failed("nobody answers; --force does it without asking".to_owned()));
        }
        match line.trim().to_lowercase().as_str() {
            "yes" => return Ok(true),
            "no" => return Ok(false),
            _ => {}
        }
    }
}

const LONGEST_ANSWER: u64 = 1_000;

/// The call that is meant, and its request.
pub(super) fn request(
    entry: &'static Entry,
    mut given: Given,
) -> Result<(&'static Entry, MethodDescriptor, DynamicMessage), CliError> {
    if let Some((flag, other)) = entry.or
        && given.flags.iter().any(|(name, _)| name == flag)
    {
        return request(other, given);
    }
    if let Some(unknown) = given.unknown.first() {
        let text = format!("{} has no {unknown}: `leyden {} --help` shows what it has", entry.lncli, entry.lncli);
        return Err(CliError::Usage(text));
    }
    let Some(method) = method(entry.call) else {
        let why = absent(entry.call).unwrap_or("this leyden does not know it");
        return Err(CliError::Failed(format!("{} is not served: {why}", entry.call)));
    };
    if entry.joins {
        given.join_channel_point();
    }
    let input = method.input();
    let mut body = Map::new();
    let mut places = given.places.into_iter();
    let last_place = entry.args.iter().rposition(|arg| arg.is_place);
    for (at, arg) in entry.args.iter().enumerate() {
        let mut values: Vec<String> = Vec::new();
        for (_, value) in given.flags.iter().filter(|(name, _)| name == arg.name) {
            values.extend(value.clone().or_else(|| Some(String::new())));
        }
        if arg.is_place && values.is_empty() {
            values.extend(places.next());
            // A list takes all that follow.
            if last_place == Some(at) && field(&input, arg.field).is_some_and(|field| field.is_list()) {
                values.extend(places.by_ref());
            }
        }
        for value in &values {
            set(&mut body, &input, arg, value)?;
        }
    }
    if let Some(more) = places.next() {
        let text = format!("{} takes no \"{more}\": `leyden {} --help` shows what it takes", entry.lncli, entry.lncli);
        return Err(CliError::Usage(text));
    }
    if entry.lncli == ADDS_CHANGE {
        add_change(&mut body);
    }
    if entry.lncli == IMPORTS_ONE
        && let Some(pair) = body.remove("pairs")
    {
        body.insert("pairs".to_owned(), Value::Array(vec![pair]));
    }
    let text = Value::Object(body).to_string();
    let request = leyden_proto::json::read(&input, text.as_bytes())
        .map_err(|error| CliError::Usage(format!("{}: {error}", entry.lncli)))?;
    Ok((entry, method, request))
}

/// The command of lncli's that adds an output for change unless it is told which one there is.
const ADDS_CHANGE: &str = "wallet psbt fundtemplate";

fn add_change(body: &mut Map<String, Value>) {
    let select = body.entry("coin_select").or_insert_with(|| Value::Object(Map::new()));
    let Some(select) = select.as_object_mut() else { return };
    // lncli's own way of saying that there is none.
    if select.get("existing_output_index").is_none_or(|index| index.as_str() == Some("-1")) {
        select.remove("existing_output_index");
        select.insert("add".to_owned(), Value::Bool(true));
    }
}

fn method(call: &str) -> Option<MethodDescriptor> {
    let (service, method) = call.split_once('/')?;
    let service = POOL.as_ref()?.get_service_by_name(service)?;
    service.methods().find(|known| known.name() == method)
}

/// Whether this leyden knows a call.
#[cfg(test)]
pub(super) fn is_served(call: &str) -> bool {
    method(call).is_some()
}

/// The field that a path with dots leads to.
fn field(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let found = message.get_field_by_name(first)?;
    match (rest, found.kind()) {
        (None, _) => Some(found),
        (Some(rest), FieldKind::Message(inner)) => field(&inner, rest),
        (Some(_), _) => None,
    }
}

fn set(body: &mut Map<String, Value>, input: &MessageDescriptor, arg: &Arg, text: &str) -> Result<(), CliError> {
    if matches!(arg.kind, Kind::Nothing | Kind::Joined) {
        return Ok(());
    }
    if let Kind::NotServed(why) = arg.kind {
        return Err(CliError::Usage(format!("--{}: {why}", arg.name)));
    }
    let unknown = || CliError::Failed(format!("--{}: this node does not take it", arg.name));
    let field = field(input, arg.field).ok_or_else(unknown)?;
    let wrong = |what: &str| CliError::Usage(format!("{}: \"{text}\" is no {what}", arg.name));
    let bytes = |text: &str| -> Result<Value, CliError> {
        Ok(Value::String(BASE64_STANDARD.encode(hex::decode(text).map_err(|_| wrong("hex"))?)))
    };
    let plain = |text: &str| match field.kind() {
        FieldKind::Bytes => bytes(text),
        FieldKind::Double | FieldKind::Float => text.parse::<f64>().map(Value::from).map_err(|_| wrong("number")),
        _ => Ok(Value::String(text.to_owned())),
    };
    let value = match arg.kind {
        Kind::Nothing | Kind::Joined | Kind::NotServed(_) => return Ok(()),
        Kind::Switch => Value::Bool(true),
        Kind::Const("true") => Value::Bool(true),
        Kind::Const(text) => Value::String(text.to_owned()),
        Kind::Plain if field.is_list() => {
            let parts = text.split(',').map(|part| plain(part.trim())).collect::<Result<Vec<_>, _>>()?;
            return put(body, arg.field, Value::Array(parts));
        }
        Kind::Plain => plain(text)?,
        Kind::Utf8 => match field.kind() {
            FieldKind::Bytes => Value::String(BASE64_STANDARD.encode(text)),
            _ => Value::String(text.to_owned()),
        },
        Kind::Base64 => Value::String(text.to_owned()),
        Kind::Hash => {
            let mut hash =
                hex::decode(text).ok().filter(|hash| hash.len() == 32).ok_or_else(|| wrong("hash of 64 hex digits"))?;
            hash.reverse();
            Value::String(BASE64_STANDARD.encode(hash))
        }
        Kind::Outpoint | Kind::ChannelPoint => {
            let (txid, index) = text.split_once(':').ok_or_else(|| wrong("TXID:INDEX"))?;
            let index: u32 = index.parse().map_err(|_| wrong("TXID:INDEX"))?;
            let name = if arg.kind == Kind::Outpoint { "txid_str" } else { "funding_txid_str" };
            json!({ name: txid, "output_index": index })
        }
        Kind::Json => {
            let mut value =
                serde_json::from_str(text).map_err(|error| CliError::Usage(format!("{}: {error}", arg.name)))?;
            outpoints(&mut value, &field);
            hex_as_base64(&mut value, &field);
            value
        }
        Kind::Route => route(text, &field)
            .ok_or_else(|| wrong("route as `leyden buildroute` or `leyden queryroutes` prints it"))?,
        Kind::Seconds => json!(amount::seconds(text).map_err(|_| wrong("time such as 90s"))?),
        Kind::Updated(action) => json!({ "action": action, "address": text }),
        Kind::DecayTime => {
            put(body, "config.model", json!("BIMODAL"))?;
            json!(amount::seconds(text).map_err(|_| wrong("time such as 48h"))?)
        }
        Kind::SatAsMsat => {
            let sat: i64 = text.parse().map_err(|_| wrong("amount in satoshi"))?;
            json!(sat.checked_mul(1000).ok_or_else(|| wrong("amount"))?.to_string())
        }
        Kind::ChannelId => {
            let ids = text.split(',').map(|id| {
                format::channel_id(id.trim()).map(|id| Value::String(id.to_string())).map_err(CliError::Usage)
            });
            let ids = ids.collect::<Result<Vec<_>, _>>()?;
            if field.is_list() {
                return put(body, arg.field, Value::Array(ids));
            }
            ids.into_iter().next().unwrap_or(Value::Null)
        }
        Kind::Name => Value::String(value_name(text, &field).into_owned()),
        Kind::NodeAddress => {
            let (key, host) = match text.split_once('@') {
                Some(_) => connect::address(text, "leyden tower info").map(|address| (address.pubkey, address.host))?,
                None => (text.to_owned(), String::new()),
            };
            put(body, "address", Value::String(host))?;
            bytes(&key)?
        }
        Kind::NodePair => {
            let (from, to) = text.split_once(':').ok_or_else(|| wrong("pair KEY:KEY"))?;
            json!({ "from": bytes(from)?, "to": bytes(to)? })
        }
    };
    let value = if field.is_list() && !value.is_array() { Value::Array(vec![value]) } else { value };
    put(body, arg.field, value)
}

/// Puts a value at a path; lists grow.
fn put(body: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), CliError> {
    if let Some((first, rest)) = path.split_once('.') {
        let inner = body.entry(first).or_insert_with(|| Value::Object(Map::new()));
        return match inner.as_object_mut() {
            Some(inner) => put(inner, rest, value),
            None => Err(CliError::Unprintable(format!("{path} is no path"))),
        };
    }
    match (body.get_mut(path), value) {
        (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
        (_, value) => {
            body.insert(path.to_owned(), value);
        }
    }
    Ok(())
}

/// A list of TXID:INDEX becomes one of outpoints.
fn outpoints(value: &mut Value, field: &FieldDescriptor) {
    let FieldKind::Message(message) = field.kind() else { return };
    let Some(list) = value.as_array_mut().filter(|_| message.name() == "OutPoint") else { return };
    for one in list {
        let parts = one.as_str().and_then(|text| text.split_once(':'));
        if let Some((txid, index)) = parts.and_then(|(txid, index)| Some((txid, index.parse::<u32>().ok()?))) {
            *one = json!({ "txid_str": txid, "output_index": index });
        }
    }
}

/// The value of an enum that is meant: lncli's `enable` is LND's ENABLE, `largest` is STRATEGY_LARGEST.
fn value_name<'a>(text: &'a str, field: &FieldDescriptor) -> Cow<'a, str> {
    let FieldKind::Enum(values) = field.kind() else { return Cow::Borrowed(text) };
    let wanted = match text.to_ascii_lowercase().as_str() {
        "p2wkh" => "WITNESS_PUBKEY_HASH".to_owned(),
        "np2wkh" => "HYBRID_NESTED_WITNESS_PUBKEY_HASH".to_owned(),
        "p2tr" => "TAPROOT_PUBKEY".to_owned(),
        "global-config" => "USE_GLOBAL_CONFIG".to_owned(),
        other => other.to_ascii_uppercase().replace('-', "_"),
    };
    let plain = text.to_ascii_uppercase();
    let is_it = |name: &str, wanted: &str| name == wanted || name.ends_with(&format!("_{wanted}"));
    let found = values.values().find(|value| is_it(value.name(), &wanted) || is_it(value.name(), &plain));
    found.map_or(Cow::Borrowed(text), |value| Cow::Owned(value.name().to_owned()))
}

/// A route alone, or the first of `{"route": …}` or `{"routes": […]}`.
fn route(text: &str, field: &FieldDescriptor) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut route = match (value.get("route"), value.get("routes").and_then(Value::as_array)) {
        (Some(route), _) => route.clone(),
        (None, Some(routes)) => routes.first()?.clone(),
        (None, None) => value,
    };
    hex_as_base64(&mut route, field);
    Some(route)
}

/// Bytes as people have them become bytes as the JSON of protobuf has them.
fn hex_as_base64(value: &mut Value, field: &FieldDescriptor) {
    match (field.kind(), value) {
        (_, Value::Array(values)) if field.is_list() => {
            for value in values {
                hex_as_base64_one(value, &field.kind());
            }
        }
        (FieldKind::Message(entry), Value::Object(entries)) if field.is_map() => {
            let kind = entry.map_entry_value_field().kind();
            for value in entries.values_mut() {
                hex_as_base64_one(value, &kind);
            }
        }
        (kind, value) => hex_as_base64_one(value, &kind),
    }
}

fn hex_as_base64_one(value: &mut Value, kind: &FieldKind) {
    match (kind, value) {
        (FieldKind::Bytes, Value::String(text)) => {
            if let Ok(bytes) = hex::decode(text.as_bytes()) {
                *text = BASE64_STANDARD.encode(bytes);
            }
        }
        (FieldKind::Message(message), Value::Object(fields)) => {
            for (name, value) in fields {
                if let Some(field) = message.get_field_by_name(name) {
                    hex_as_base64(value, &field);
                }
            }
        }
        _ => {}
    }
}
