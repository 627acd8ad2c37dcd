//! The sentences of LND's that clients compare, whole: nothing may stand behind them.
//!
//! ```text
//!   "unable to find node: 02ab… is not known" ─┬─► the message of the status   unable to find node
//!                                              └─► [`ADVICE`] beside it        02ab… is not known
//! ```
//!
//! The domain's errors begin with LND's words and go on with advice. Programs compare the message of a status for equality
//! (`err.details === 'unable to find node'`), so the advice travels beside it, where `leyden` and the page find it.

use leyden_common::names::ADVICE;
use tonic::{
    Code, Status,
    metadata::{BinaryMetadataKey, MetadataMap, MetadataValue},
};

/// Whole sentences of LND's.
const WHOLE: [&str; 18] = [
    "payment isn't initiated",
    "invoice is already paid",
    "unable to locate invoice",
    "invoice still open",
    "invoice with payment hash already exists",
    "unable to find a path to destination",
    "unable to find node",
    "edge not found",
    "invalid passphrase for master public key",
    "insufficient funds available to construct transaction",
    WALLET_LOCKED,
    NO_WALLET,
    WALLET_OPEN,
    "cannot make connection to self",
    "cannot label transaction not known to wallet",
    "permission denied",
    "tower not found",
    WATCHTOWER_INACTIVE,
];

/// Clients compare the code of these too, which with LND is UNKNOWN.
const OF_UNKNOWN_CODE: [&str; 4] = [WATCHTOWER_INACTIVE, WALLET_LOCKED, NO_WALLET, WALLET_OPEN];
const WATCHTOWER_INACTIVE: &str = "watchtower not active";
const WALLET_LOCKED: &str = "wallet locked, unlock it to enable full RPC access";
const NO_WALLET: &str = "wallet not created, create one to enable full RPC access";
const WALLET_OPEN: &str = "wallet already unlocked, WalletUnlocker service is no longer available";

/// Sentences of LND's that hold names.
const BEGINNINGS: [&str; 2] = ["unknown method ", "unknown service "];

/// The status of a text that may begin with LND's words.
pub(super) fn status(code: Code, text: String) -> Status {
    let Some((words, advice)) = text.split_once(": ").filter(|(words, _)| is_whole(words)) else {
        return Status::new(code, text);
    };
    let code = if OF_UNKNOWN_CODE.contains(&words) { Code::Unknown } else { code };
    let mut beside = MetadataMap::new();
    if let Ok(key) = BinaryMetadataKey::from_bytes(ADVICE.as_bytes()) {
        beside.insert_bin(key, MetadataValue::from_bytes(advice.as_bytes()));
    }
    Status::with_metadata(code, words, beside)
}

fn is_whole(words: &str) -> bool {
    WHOLE.contains(&words) || BEGINNINGS.iter().any(|beginning| words.starts_with(beginning))
}

/// The message and the advice beside it, as people read them.
#[cfg(test)]
pub(super) fn with_advice(status: &Status) -> String {
    match status.metadata().get_bin(ADVICE).and_then(|advice| advice.to_bytes().ok()) {
        Some(advice) => format!("{}: {}", status.message(), String::from_utf8_lossy(&advice)),
        None => status.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (Code, String, Option<String>) {
        let status = status(Code::NotFound, text.to_owned());
        let advice = status.metadata().get_bin(ADVICE).map(|advice| advice.to_bytes().unwrap());
        let advice = advice.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        (status.code(), status.message().to_owned(), advice)
    }

    #[test]
    fn what_clients_compare_stands_alone_and_advice_beside_it() {
        let (code, words, advice) = said("unable to find node: 02ab is not known: see é");
        assert_eq!((code, words.as_str()), (Code::NotFound, "unable to find node"));
        assert_eq!(advice.as_deref(), Some("02ab is not known: see é"));
        let (_, words, advice) = said("unknown method X for service lnrpc.Y: leydend does not answer it");
        assert_eq!(words, "unknown method X for service lnrpc.Y");
        assert!(advice.is_some());
        let (code, words, _) = said("watchtower not active: start leydend with --tower");
        assert_eq!((code, words.as_str()), (Code::Unknown, "watchtower not active"));
        let (code, words, advice) = said(&format!("{WALLET_LOCKED}: `leyden unlock` does"));
        assert_eq!(
            (code, words.as_str(), advice.as_deref()),
            (Code::Unknown, WALLET_LOCKED, Some("`leyden unlock` does"))
        );
    }

    #[test]
    fn other_sentences_stay_whole() {
        for text in ["unable to find node", "dest: it has 33 bytes", "peer 02ab is not online: connect it", ""] {
            assert_eq!(said(text), (Code::NotFound, text.to_owned(), None), "{text}");
        }
    }
}
