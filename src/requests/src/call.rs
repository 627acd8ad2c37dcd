//! One call: its method, and its parameters by place or by name.

use std::str::FromStr;

use bitcoin::{Amount, hex::FromHex as _};
use serde_json::{Map, Value};

use crate::amount;
use crate::error::{DESERIALIZATION, MISC, RequestError, TYPE};
use crate::methods::{self, Method};

/// A method with its parameters, each at the place that Bitcoin Core gives it.
#[derive(Debug)]
pub struct Call {
    method: String,
    values: Vec<Value>,
}

impl Call {
    /// Reads one JSON-RPC call: no method, parameters of an unknown name, and more parameters than the method takes
    /// are errors.
    pub fn read(call: &Value) -> Result<Self, RequestError> {
        let Some(method) = call.get("method").and_then(Value::as_str) else {
            return Err(RequestError::invalid("Missing method"));
        };
        let known = methods::find(method);
        let values = match call.get("params") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => values.clone(),
            Some(Value::Object(named)) => known.map_or(Ok(Vec::new()), |known| by_place(known, named))?,
            Some(_) => return Err(RequestError::invalid("Params must be an array or object")),
        };
        if let Some(Method { name, parameters, .. }) = known
            && values.len() > parameters.len()
        {
            return Err(RequestError::new(MISC, format!("{name} takes at most {} parameters", parameters.len())));
        }
        Ok(Self { method: method.to_owned(), values })
    }

    /// The method's name, known or not.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The parameter at this place, unless it is left out.
    pub fn optional(&self, place: usize) -> Option<&Value> {
        self.values.get(place).filter(|value| !value.is_null())
    }

    fn name(&self, place: usize) -> &'static str {
        let names = methods::find(&self.method).and_then(|method| method.parameters.get(place));
        names.and_then(|names| names.split('|').next()).unwrap_or("a parameter")
    }

    fn required(&self, place: usize) -> Result<&Value, RequestError> {
        self.optional(place).ok_or_else(|| RequestError::new(MISC, format!("{} is missing", self.name(place))))
    }

    fn wrong_type(&self, place: usize, wanted: &str) -> RequestError {
        RequestError::new(TYPE, format!("{} must be {wanted}", self.name(place)))
    }

    /// A required string. Another type is [`TYPE`], as for those below.
    pub fn text(&self, place: usize) -> Result<&str, RequestError> {
        self.required(place)?.as_str().ok_or_else(|| self.wrong_type(place, "a string"))
    }

    /// 64 hex digits, as hashes are written for people.
    pub fn hash<T: FromStr>(&self, place: usize) -> Result<T, RequestError> {
        let text = self.text(place)?;
        text.parse().map_err(|_| {
            RequestError::parameter(format!("{} must be of length 64 and hexadecimal (not '{text}')", self.name(place)))
        })
    }

    /// A required whole number. A fraction is [`MISC`], as in Bitcoin Core.
    pub fn number(&self, place: usize) -> Result<i64, RequestError> {
        let value = self.required(place)?;
        if value.is_number() && !value.is_i64() {
            return Err(RequestError::new(MISC, format!("{}: JSON integer out of range", self.name(place))));
        }
        value.as_i64().ok_or_else(|| self.wrong_type(place, "a whole number"))
    }

    /// An optional boolean.
    pub fn flag(&self, place: usize, default: bool) -> Result<bool, RequestError> {
        match self.optional(place) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong_type(place, "true or false")),
        }
    }

    /// A level from 0 on, for which older callers pass a flag.
    pub fn verbosity(&self, place: usize, default: i64) -> Result<i64, RequestError> {
        match self.optional(place) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(i64::from(*flag)),
            Some(_) => self.number(place),
        }
    }

    /// An amount in coins, as a number or as text.
    pub fn amount(&self, place: usize) -> Result<Option<Amount>, RequestError> {
        let text = match self.optional(place) {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => {
                return Err(self.wrong_type(place, "an amount in coins"));
            }
        };
        let invalid = || {
            let name = self.name(place);
            RequestError::new(
                TYPE,
                format!("Invalid amount: {name} is coins from 0 to 21000000, with at most 8 decimals"),
            )
        };
        amount::parse(&text).ok_or_else(invalid).map(Some)
    }

    /// The most that a transaction may pay for 1,000 virtual bytes. 0 means that there is no limit.
    pub fn fee_rate_limit(&self, place: usize, default: Amount) -> Result<Option<Amount>, RequestError> {
        let limit = self.amount(place)?.unwrap_or(default);
        if limit >= Amount::ONE_BTC {
            return Err(RequestError::parameter("Fee rates larger than or equal to 1BTC/kvB are not accepted"));
        }
        Ok(Some(limit).filter(|limit| *limit > Amount::ZERO))
    }

    /// Something of the chain in hexadecimal.
    pub fn decoded<T: bitcoin::consensus::Decodable>(&self, place: usize, what: &str) -> Result<T, RequestError> {
        decode(self.text(place)?, what)
    }

    /// Required bytes in hexadecimal.
    pub fn bytes(&self, place: usize) -> Result<Vec<u8>, RequestError> {
        Vec::from_hex(self.text(place)?)
            .map_err(|_| RequestError::parameter(format!("{} must be hexadecimal string", self.name(place))))
    }

    /// A required array of strings.
    pub fn texts(&self, place: usize) -> Result<Vec<&str>, RequestError> {
        let list = self.required(place)?.as_array().ok_or_else(|| self.wrong_type(place, "an array"))?;
        list.iter().map(|item| item.as_str().ok_or_else(|| self.wrong_type(place, "an array of strings"))).collect()
    }

    /// A required array of objects with no other fields than these.
    pub fn objects(&self, place: usize, fields: &[&str]) -> Result<Vec<&Map<String, Value>>, RequestError> {
        let list = self.required(place)?.as_array().ok_or_else(|| self.wrong_type(place, "an array"))?;
        list.iter().map(|item| self.object(place, item, fields)).collect()
    }

    /// An optional object with no other fields than these; empty if it is left out.
    pub fn options(&self, place: usize, fields: &[&str]) -> Result<Map<String, Value>, RequestError> {
        match self.optional(place) {
            None => Ok(Map::new()),
            Some(value) => self.object(place, value, fields).cloned(),
        }
    }

    fn object<'a>(
        &self,
        place: usize,
        value: &'a Value,
        fields: &[&str],
    ) -> Result<&'a Map<String, Value>, RequestError> {
        let object = value.as_object().ok_or_else(|| self.wrong_type(place, "made of objects"))?;
        match object.keys().find(|key| !fields.contains(&key.as_str())) {
            Some(unknown) => Err(RequestError::new(TYPE, format!("Unexpected key {unknown}"))),
            None => Ok(object),
        }
    }

    /// Several of them.
    pub fn all_decoded<T: bitcoin::consensus::Decodable>(
        &self,
        place: usize,
        what: &str,
    ) -> Result<Vec<T>, RequestError> {
        self.texts(place)?.into_iter().map(|text| decode(text, what)).collect()
    }
}

/// Named parameters at their places. One of them, `args`, may hold the first ones by place.
fn by_place(method: &Method, named: &Map<String, Value>) -> Result<Vec<Value>, RequestError> {
    let place_of = |key: &str| method.parameters.iter().position(|names| names.split('|').any(|name| name == key));
    let mut values = match named.get("args") {
        Some(Value::Array(first)) => first.clone(),
        Some(_) | None => Vec::new(),
    };
    let given = values.len();
    for (key, value) in named.iter().filter(|(key, _)| *key != "args") {
        let unknown = || RequestError::parameter(format!("Unknown named parameter {key}"));
        let place = place_of(key).ok_or_else(unknown)?;
        if place < given || values.get(place).is_some_and(|value| !value.is_null()) {
            return Err(RequestError::parameter(format!("Parameter {key} specified multiple times")));
        }
        if values.len() <= place {
            values.resize(place.saturating_add(1), Value::Null);
        }
        if let Some(at) = values.get_mut(place) {
            *at = value.clone();
        }
    }
    Ok(values)
}

/// Something of the chain from hexadecimal; `what` it should be is named in the error.
pub fn decode<T: bitcoin::consensus::Decodable>(text: &str, what: &str) -> Result<T, RequestError> {
    bitcoin::consensus::encode::deserialize_hex(text)
        .map_err(|error| RequestError::new(DESERIALIZATION, format!("{what} decode failed: {error}")))
}
