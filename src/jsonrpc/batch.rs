//! A request's body: one call, or a batch of a bounded number of them.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::Value;

use super::error::RpcError;
use crate::limits::MAX_JSONRPC_BATCH;

/// What is asked for.
pub enum Calls {
    One(Value),
    Batch(Vec<Value>),
}

/// Reads a body. A batch that is too long is not read to its end.
pub fn read(body: &[u8]) -> Result<Calls, RpcError> {
    let wrong = || RpcError::invalid_request("a call is an object, a batch is an array of objects");
    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !is_batch {
        return match serde_json::from_slice(body) {
            Ok(call @ Value::Object(_)) => Ok(Calls::One(call)),
            Ok(_) => Err(wrong()),
            Err(error) => Err(RpcError::parse(&error)),
        };
    }
    let mut too_long = false;
    let mut parser = serde_json::Deserializer::from_slice(body);
    let calls =
        parser.deserialize_seq(Batch { too_long: &mut too_long }).and_then(|calls| parser.end().map(|()| calls));
    match calls {
        Ok(calls) if calls.is_empty() => Err(wrong()),
        Ok(calls) => Ok(Calls::Batch(calls)),
        Err(_) if too_long => {
            Err(RpcError::invalid_request(&format!("a batch has {MAX_JSONRPC_BATCH} calls at most: make it smaller")))
        }
        Err(error) => Err(RpcError::parse(&error)),
    }
}

struct Batch<'a> {
    too_long: &'a mut bool,
}

impl<'de> Visitor<'de> for Batch<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch of calls")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Value>, A::Error> {
        let mut calls = Vec::new();
        while let Some(call) = sequence.next_element()? {
            if calls.len() == MAX_JSONRPC_BATCH {
                *self.too_long = true;
                return Err(A::Error::custom("too long"));
            }
            calls.push(call);
        }
        Ok(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> i32 {
        read(body.as_bytes()).err().expect("refused").code
    }

    #[test]
    fn a_batch_has_a_bound() {
        let batch = |calls: usize| format!("[{}]", vec!["{}"; calls].join(","));
        let Ok(Calls::Batch(calls)) = read(batch(MAX_JSONRPC_BATCH).as_bytes()) else { panic!("a batch") };
        assert_eq!(calls.len(), MAX_JSONRPC_BATCH);
        assert_eq!(code(&batch(MAX_JSONRPC_BATCH + 1)), super::super::error::INVALID_REQUEST);
        // What follows the bound is not looked at.
        assert_eq!(code(&(batch(MAX_JSONRPC_BATCH + 1) + "!")), super::super::error::INVALID_REQUEST);
    }

    #[test]
    fn what_is_no_call_is_refused() {
        use super::super::error::{INVALID_REQUEST, PARSE};
        for (body, expected) in [
            ("", PARSE),
            ("{", PARSE),
            ("[{}", PARSE),
            ("[{}]x", PARSE),
            ("[]", INVALID_REQUEST),
            ("7", INVALID_REQUEST),
        ] {
            assert_eq!(code(body), expected, "{body}");
        }
        assert!(matches!(read(b" {} "), Ok(Calls::One(Value::Object(_)))));
        assert!(matches!(read(b" [1]"), Ok(Calls::Batch(calls)) if calls.len() == 1));
    }
}
