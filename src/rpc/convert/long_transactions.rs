//! The wallet's transactions, as GetTransactions tells them, piece by piece.

use bitcoin::{Network, Script, ScriptBuf, TxIn, TxOut, WPubkeyHash, WScriptHash, consensus, hashes::Hash as _};

use super::{
    put_name, put_outpoint, signed,
    wallet::{address_text, page_indices, script_type, small},
};
use crate::{
    api::{NetworkInfo, WalletTx},
    rpc::long::{
        Pieces,
        wire::{Length, Message, Sink},
    },
};

/// `lnrpc.TransactionDetails`.
pub(crate) struct TransactionPieces {
    page: Vec<WalletTx>,
    addresses: Addresses,
    first_index: u64,
    last_index: u64,
    given: usize,
}

impl TransactionPieces {
    /// A page whose first `skip` transactions are left out.
    pub(crate) fn new(skip: usize, page: Vec<WalletTx>, network: NetworkInfo) -> Self {
        let (first_index, last_index) = page_indices(skip, page.len());
        Self { page, addresses: Addresses::new(network.addresses), first_index, last_index, given: 0 }
    }

    /// What comes after the transactions.
    fn put_end(&self, to: &mut impl Sink) {
        to.uint(2, self.last_index);
        to.uint(3, self.first_index);
    }
}

const TRANSACTIONS: u32 = 1;

impl Pieces for TransactionPieces {
    fn length(&self) -> usize {
        let mut length = Length::default();
        self.page.iter().for_each(|tx| length.message(TRANSACTIONS, &Shown { tx, addresses: &self.addresses }));
        self.put_end(&mut length);
        length.0
    }

    fn append(&mut self, bytes: &mut Vec<u8>, enough: usize) -> bool {
        while bytes.len() < enough {
            let Some(tx) = self.page.get(self.given) else {
                self.put_end(bytes);
                return false;
            };
            bytes.message(TRANSACTIONS, &Shown { tx, addresses: &self.addresses });
            self.given += 1;
        }
        true
    }
}

/// `lnrpc.Transaction`.
struct Shown<'a> {
    tx: &'a WalletTx,
    addresses: &'a Addresses,
}

impl Message for Shown<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Self { tx, addresses } = self;
        let (block, height, confirmations) = match tx.confirmation {
            Some(found) => (Some(found.block.to_byte_array()), found.height.0, found.confirmations),
            None => (None, 0, 0),
        };
        put_name(to, 1, tx.txid.to_byte_array());
        to.int(2, tx.net.to_sat());
        to.int(3, small(confirmations).into());
        if let Some(block) = block {
            put_name(to, 4, block);
        }
        to.int(5, small(height).into());
        to.int(6, i64::try_from(tx.time.0).unwrap_or(i64::MAX));
        to.int(7, tx.fee.map_or(0, signed));
        tx.transaction.output.iter().for_each(|output| addresses.put(to, 8, &output.script_pubkey));
        let size = 2 * tx.transaction.total_size();
        to.head(9, size);
        to.made(size, || consensus::encode::serialize_hex(tx.transaction.as_ref()));
        to.text(10, &tx.label);
        for (index, output) in (0..).zip(&tx.transaction.output) {
            let is_ours = is_among(&tx.local_outputs, index);
            to.message(11, &Output { output, index, is_ours, addresses });
        }
        for (index, input) in (0..).zip(&tx.transaction.input) {
            let is_ours = is_among(&tx.local_inputs, index);
            to.message(12, &Input { input, is_ours });
        }
    }
}

/// `lnrpc.OutputDetail`.
struct Output<'a> {
    output: &'a TxOut,
    index: u32,
    is_ours: bool,
    addresses: &'a Addresses,
}

impl Message for Output<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        let Self { output, index, is_ours, addresses } = self;
        let script = &output.script_pubkey;
        to.int(1, script_type(script) as i64);
        addresses.put(to, 2, script);
        to.hex(3, script.as_bytes());
        to.int(4, i64::from(*index));
        to.int(5, signed(output.value));
        to.flag(6, *is_ours);
    }
}

/// `lnrpc.PreviousOutPoint`.
struct Input<'a> {
    input: &'a TxIn,
    is_ours: bool,
}

impl Message for Input<'_> {
    fn put<T: Sink>(&self, to: &mut T) {
        put_outpoint(to, 1, &self.input.previous_output);
        to.flag(2, self.is_ours);
    }
}

/// `indices`: in rising order.
fn is_among(indices: &[u32], index: u32) -> bool {
    indices.binary_search(&index).is_ok()
}

/// A kind of script, and how long its addresses are.
type Kind = (fn(&Script) -> bool, usize);

/// Addresses of a network: those of one kind are as long as each other, so that most need not be made to know how long they are.
struct Addresses {
    network: Network,
    lengths: [Kind; 3],
}

impl Addresses {
    fn new(network: Network) -> Self {
        let length = |script: ScriptBuf| address_text(&script, network).len();
        let taproot = ScriptBuf::from_bytes([&[0x51, 32], [0; 32].as_slice()].concat());
        let lengths: [Kind; 3] = [
            (Script::is_p2wpkh, length(ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros()))),
            (Script::is_p2wsh, length(ScriptBuf::new_p2wsh(&WScriptHash::all_zeros()))),
            (Script::is_p2tr, length(taproot)),
        ];
        Self { network, lengths }
    }

    /// Nothing if the script has no address.
    fn put<T: Sink>(&self, to: &mut T, field: u32, script: &Script) {
        match self.lengths.iter().find(|(is_kind, _)| is_kind(script)) {
            Some((_, length)) => {
                to.head(field, *length);
                to.made(*length, || address_text(script, self.network));
            }
            None => to.text(field, &address_text(script, self.network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{
        Amount, BlockHash, OutPoint, PubkeyHash, ScriptHash, Sequence, SignedAmount, Transaction, Txid, Witness,
        absolute, transaction,
    };
    use leyden_channels::types::{Height, UnixTime};
    use leyden_proto::lnrpc;
    use prost::Message as _;

    use super::{super::wallet, *};
    use crate::api::Confirmation;

    fn transaction(outputs: usize) -> Transaction {
        let hash = bitcoin::hashes::hash160::Hash::hash(b"a key");
        let scripts = [
            ScriptBuf::new_p2wpkh(&WPubkeyHash::from_raw_hash(hash)),
            ScriptBuf::new_p2wsh(&WScriptHash::hash(b"a script")),
            ScriptBuf::from_bytes([&[0x51, 32], [7; 32].as_slice()].concat()),
            ScriptBuf::new_p2pkh(&PubkeyHash::from_raw_hash(hash)),
            ScriptBuf::new_p2sh(&ScriptHash::from_raw_hash(hash)),
            ScriptBuf::new_op_return([1; 40]),
            // A later version's, a wrong one of version 0, and none at all.
            ScriptBuf::from_bytes([&[0x60, 2], [7; 2].as_slice()].concat()),
            ScriptBuf::from_bytes([&[0x00, 5], [7; 5].as_slice()].concat()),
            ScriptBuf::new(),
        ];
        let output = |(value, script_pubkey): (u64, &ScriptBuf)| TxOut {
            value: Amount::from_sat(value),
            script_pubkey: script_pubkey.clone(),
        };
        let input = |vout| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([vout as u8; 32]), vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[vec![1; 72], vec![2; 33]]),
        };
        Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: [0, 9, 10, 4_294_967_295].into_iter().map(input).collect(),
            output: (0..).zip(scripts.iter().cycle()).take(outputs).map(output).collect(),
        }
    }

    fn entry(outputs: usize, height: Option<u32>, net: i64) -> WalletTx {
        let transaction = transaction(outputs);
        let found = |height| Confirmation { block: BlockHash::all_zeros(), height: Height(height), confirmations: 3 };
        WalletTx {
            txid: transaction.compute_txid(),
            transaction: transaction.into(),
            net: SignedAmount::from_sat(net),
            fee: height.map(|_| Amount::from_sat(141)),
            confirmation: height.map(found),
            time: UnixTime(1_700_000_000),
            label: if net < 0 { "tea".to_owned() } else { String::new() },
            local_outputs: vec![0, 3, 200],
            local_inputs: vec![1],
        }
    }

    #[test]
    fn transactions_in_pieces_are_the_transactions_in_one() {
        let page = vec![entry(1, None, -5), entry(9, Some(7), 0), entry(300, Some(6), i64::MAX), entry(0, Some(1), 1)];
        let networks = [Network::Regtest, Network::Bitcoin, Network::Signet];
        for (network, page) in networks.into_iter().zip([page, vec![entry(20, Some(9), 1)], Vec::new()]) {
            let info = NetworkInfo { addresses: network, ..super::super::tests::regtest() };
            let expected: lnrpc::TransactionDetails = wallet::transactions(4, &page, &info);
            for enough in [1, 1_000, usize::MAX] {
                let mut pieces = TransactionPieces::new(4, page.clone(), info.clone());
                let (length, mut all) = (pieces.length(), Vec::new());
                loop {
                    let mut piece = Vec::new();
                    let more = pieces.append(&mut piece, enough);
                    all.extend(piece);
                    if !more {
                        break;
                    }
                }
                assert_eq!(length, all.len());
                assert_eq!(lnrpc::TransactionDetails::decode(all.as_slice()).unwrap(), expected);
                assert!(all == expected.encode_to_vec(), "other bytes than protobuf's");
            }
        }
    }
}
