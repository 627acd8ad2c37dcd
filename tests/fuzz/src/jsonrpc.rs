//! Requests to the JSON-RPC: any bytes are calls or an error with one of Bitcoin Core's numbers, each parameter is what is
//! asked for or an error, amounts are exact and no more than all money, and what a call names itself comes back as it was.

use bitcoin::{Amount, BlockHash, Transaction};
use leyden_jsonrpc::error::{DESERIALIZATION, INVALID_PARAMETER, INVALID_REQUEST, MISC, PARSE, TYPE};
use leyden_jsonrpc::{Call, Calls, RequestError, amount, batch};
use serde_json::Value;

/// Calls in a batch.
const MOST: usize = 8;
/// More places than any method has parameters.
const PLACES: usize = 4;

pub fn jsonrpc(bytes: &[u8]) {
    let calls = match batch::read(bytes, MOST) {
        Ok(Calls::One(call)) => {
            assert!(call.is_object(), "one call is an object");
            vec![call]
        }
        Ok(Calls::Batch(calls)) => calls,
        Err(error) => return assert!([PARSE, INVALID_REQUEST].contains(&error.code), "{error:?}"),
    };
    assert!((1..=MOST).contains(&calls.len()), "{} calls", calls.len());
    for call in &calls {
        name_comes_back(call);
        match Call::read(call) {
            Ok(call) => (0..PLACES).for_each(|place| parameter(&call, place)),
            Err(error) => refused(&error),
        }
    }
}

fn name_comes_back(call: &Value) {
    if let Some(id) = call.get("id") {
        let answer = serde_json::json!({ "id": id }).to_string();
        let read: Value = serde_json::from_str(&answer).expect("an answer can be read");
        assert_eq!(read.get("id"), Some(id));
    }
}

fn parameter(call: &Call, place: usize) {
    checked(call.text(place));
    checked(call.number(place));
    checked(call.flag(place, false));
    checked(call.verbosity(place, 0));
    checked(call.bytes(place));
    checked(call.hash::<BlockHash>(place));
    checked(call.decoded::<Transaction>(place, "TX"));
    checked(call.all_decoded::<Transaction>(place, "TX"));
    match call.amount(place) {
        Ok(Some(amount)) => {
            assert!(amount <= Amount::MAX_MONEY, "{amount}");
            assert_eq!(amount::parse(&amount::coins(amount).to_string()), Some(amount));
        }
        Ok(None) => assert_eq!(call.optional(place), None),
        Err(error) => refused(&error),
    }
    match call.fee_rate_limit(place, Amount::from_sat(10_000_000)) {
        Ok(limit) => assert!(limit.is_none_or(|limit| limit > Amount::ZERO && limit < Amount::ONE_BTC)),
        Err(error) => refused(&error),
    }
}

fn checked<T>(read: Result<T, RequestError>) {
    if let Err(error) = read {
        refused(&error);
    }
}

fn refused(error: &RequestError) {
    let known = [INVALID_REQUEST, MISC, TYPE, INVALID_PARAMETER, DESERIALIZATION];
    assert!(known.contains(&error.code) && !error.message.is_empty(), "{error:?}");
}
