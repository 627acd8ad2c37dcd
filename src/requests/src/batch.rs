//! A request's body: one call, or a batch of a bounded number of them.

use std::fmt;

use serde::{
    Deserializer as _,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::error::RequestError;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Calls {
    /// A single call: its answer is an object.
    One(Value),
    /// Several: their answers are an array in the same order.
    Batch(Vec<Value>),
}

/// Reads a body. An empty batch is one, as in Bitcoin Core: its answer is empty. A batch of more than `most` calls is not read to its end.
pub fn read(body: &[u8], most: usize) -> Result<Calls, RequestError> {
    let wrong = || RequestError::invalid("a call is an object, a batch is an array of objects");
    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if !is_batch {
        return match serde_json::from_slice(body) {
            Ok(call @ Value::Object(_)) => Ok(Calls::One(call)),
            Ok(_) => Err(wrong()),
            Err(error) => Err(RequestError::parse(&error)),
        };
    }
    let mut too_long = false;
    let mut parser = serde_json::Deserializer::from_slice(body);
    let calls =
        parser.deserialize_seq(Batch { most, too_long: &mut too_long }).and_then(|calls| parser.end().map(|()| calls));
    match calls {
        Ok(calls) => Ok(Calls::Batch(calls)),
        Err(_) if too_long => Err(RequestError::invalid(&format!("a batch has {most} calls at most: make it smaller"))),
        Err(error) => Err(RequestError::parse(&error)),
    }
}

struct Batch<'a> {
    most: usize,
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
            if calls.len() == self.most {
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

    const MOST: usize = 10;

    fn code(body: &str) -> i32 {
        read(body.as_bytes(), MOST).expect_err("refused").code
    }

    #[test]
    fn a_batch_has_a_bound() {
        let batch = |calls: usize| format!("[{}]", vec!["{}"; calls].join(","));
        let Ok(Calls::Batch(calls)) = read(batch(MOST).as_bytes(), MOST) else { panic!("a batch") };
        assert_eq!(calls.len(), MOST);
        assert_eq!(code(&batch(MOST + 1)), crate::error::INVALID_REQUEST);
        // What follows the bound is not looked at.
        assert_eq!(code(&(batch(MOST + 1) + "!")), crate::error::INVALID_REQUEST);
    }

    #[test]
    fn what_is_no_call_is_refused() {
        use crate::error::{INVALID_REQUEST, PARSE};
        for (body, expected) in [("", PARSE), ("{", PARSE), ("[{}", PARSE), ("[{}]x", PARSE), ("7", INVALID_REQUEST)] {
            assert_eq!(code(body), expected, "{body}");
        }
        assert!(matches!(read(b" {} ", MOST), Ok(Calls::One(Value::Object(_)))));
        assert!(matches!(read(b"[]", MOST), Ok(Calls::Batch(calls)) if calls.is_empty()));
        assert!(matches!(read(b" [1]", MOST), Ok(Calls::Batch(calls)) if calls.len() == 1));
    }
}
