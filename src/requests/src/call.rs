//! One call: its method, and its parameters by place or by name.

use std::str::FromStr;

use bitcoin::{Amount, hex::FromHex as _};
use serde_json::Value;

use crate::amount;
use crate::error::{DESERIALIZATION, MISC, RequestError, TYPE};

/// The parameters of every method that has some, in their order.
const PARAMETERS: &[(&str, &[&str])] = &[
    ("getblockhash", &["height"]),
    ("getblockheader", &["blockhash", "verbose"]),
    ("getblock", &["blockhash", "verbosity"]),
    ("getblockfilter", &["blockhash", "filtertype"]),
    ("gettxout", &["txid", "n", "include_mempool"]),
    ("getrawtransaction", &["txid", "verbosity", "blockhash"]),
    ("decoderawtransaction", &["hexstring", "iswitness"]),
    ("decodescript", &["hexstring"]),
    ("sendrawtransaction", &["hexstring", "maxfeerate", "maxburnamount"]),
    ("submitpackage", &["package", "maxfeerate", "maxburnamount"]),
    ("testmempoolaccept", &["rawtxs", "maxfeerate"]),
    ("getrawmempool", &["verbose", "mempool_sequence"]),
    ("getmempoolentry", &["txid"]),
    ("estimatesmartfee", &["conf_target", "estimate_mode"]),
    ("generatetoaddress", &["nblocks", "address", "maxtries"]),
    ("submitblock", &["hexdata", "dummy"]),
];

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
        let names = PARAMETERS.iter().find(|(name, _)| *name == method).map_or(&[][..], |(_, names)| names);
        let values = match call.get("params") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => values.clone(),
            Some(Value::Object(named)) => {
                if let Some(unknown) = named.keys().find(|key| !names.contains(&key.as_str())) {
                    return Err(RequestError::parameter(format!("Unknown named parameter {unknown}")));
                }
                names.iter().map(|name| named.get(*name).cloned().unwrap_or(Value::Null)).collect()
            }
            Some(_) => return Err(RequestError::invalid("Params must be an array or object")),
        };
        if values.len() > names.len() && PARAMETERS.iter().any(|(name, _)| *name == method) {
            return Err(RequestError::new(MISC, format!("{method} takes at most {} parameters", names.len())));
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
        let names = PARAMETERS.iter().find(|(name, _)| *name == self.method).map(|(_, names)| *names);
        names.and_then(|names| names.get(place).copied()).unwrap_or("a parameter")
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

    /// A required whole number.
    pub fn number(&self, place: usize) -> Result<i64, RequestError> {
        self.required(place)?.as_i64().ok_or_else(|| self.wrong_type(place, "a whole number"))
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

    /// Several of them.
    pub fn all_decoded<T: bitcoin::consensus::Decodable>(
        &self,
        place: usize,
        what: &str,
    ) -> Result<Vec<T>, RequestError> {
        let list = self.required(place)?.as_array().ok_or_else(|| self.wrong_type(place, "an array"))?;
        let texts = list.iter().map(|item| item.as_str().ok_or_else(|| self.wrong_type(place, "an array of strings")));
        texts.map(|text| decode(text?, what)).collect()
    }
}

fn decode<T: bitcoin::consensus::Decodable>(text: &str, what: &str) -> Result<T, RequestError> {
    bitcoin::consensus::encode::deserialize_hex(text)
        .map_err(|error| RequestError::new(DESERIALIZATION, format!("{what} decode failed: {error}")))
}
