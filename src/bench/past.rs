//! What a long life leaves in the database, made up: `leyden bench growth` has it written between two runs of a node.

use bitcoin::{
    Amount, OutPoint, Txid,
    hashes::{Hash as _, sha256},
};
use leyden_channels::{
    channel::{Key, Persist as _, Write},
    payment::{
        outgoing::{Payment, PaymentFailure, PaymentLimits, PaymentRequest, PaymentState},
        record,
    },
    switch::{ForwardRecord, HtlcRef, Outgoing},
    types::{ChannelId, Height, HtlcId, Msat, PaymentHash, PaymentPreimage, ShortChannelId, Side, UnixTime},
};
use leyden_node::Clock;
use secp256k1::{SECP256K1, SecretKey};

use crate::store::{ClosedChannel, ClosureType, CoreKey, Store, StoreError};

/// Every so many payments found no route; the others were paid.
const FAILED_EVERY: u32 = 4;
/// Between a payment and the next one.
const SECONDS_APART: u64 = 60;

/// Payments, forwards and closed channels: as the node itself would have written them.
pub(super) fn write(store: &mut Store, count: u32) -> Result<(), StoreError> {
    let key = SecretKey::from_slice(&[7; 32]).map_err(|error| store.damaged(&error.to_string()))?;
    let node_id = key.public_key(SECP256K1);
    let hash = |number: u32| sha256::Hash::hash(&number.to_be_bytes()).to_byte_array();
    let now = UnixTime(Clock::System.now());
    for number in 1..=count {
        let payment_hash = PaymentHash(hash(number));
        let index = u64::from(number);
        let at = UnixTime(now.0.saturating_sub(u64::from(count - number) * SECONDS_APART));
        let state = match number.is_multiple_of(FAILED_EVERY) {
            true => PaymentState::Failed { reason: PaymentFailure::NoRoute, at },
            false => PaymentState::Succeeded { preimage: PaymentPreimage(hash(number)), at },
        };
        let payment = Payment {
            index,
            request: PaymentRequest {
                payment_hash,
                destination: node_id,
                amount: Msat(1_000),
                payment_secret: None,
                payment_metadata: None,
                final_cltv_delta: 18,
                max_fee: Msat(1_000),
                deadline: at,
                bolt11: String::new(),
                hints: Vec::new(),
                limits: PaymentLimits {
                    max_parts: 1,
                    max_part: None,
                    max_cltv: None,
                    outgoing: Vec::new(),
                    last_hop: None,
                    time_pref: 0,
                },
                keysend: None,
                custom_records: Vec::new(),
            },
            created: at,
            attempts: Vec::new(),
            state,
        };
        let channel = ChannelId(hash(number));
        let forward = ForwardRecord {
            number: index,
            at,
            incoming: HtlcRef { channel, id: HtlcId(index) },
            incoming_channel: Some(ShortChannelId(index)),
            incoming_amount: Msat(1_001),
            outgoing: Outgoing { channel, id: Some(HtlcId(index)) },
            outgoing_channel: Some(ShortChannelId(index)),
            outgoing_amount: Msat(1_000),
        };
        store.commit(vec![
            Write::Put { key: CoreKey::from(Key::Payment(index)), value: record::encode_payment(&payment) },
            Write::Put { key: Key::PaymentIndex(payment_hash).into(), value: index.to_be_bytes().to_vec() },
            Write::Put { key: Key::Forward(index).into(), value: forward.encode() },
        ])?;
        let txid = Txid::from_byte_array(hash(number));
        store.put_closed_channel(&ClosedChannel {
            node_id,
            funding: OutPoint { txid, vout: 0 },
            short_channel_id: Some(ShortChannelId(index)),
            capacity: Amount::from_sat(1_000_000),
            closing_txid: Some(txid),
            height: Height(number),
            settled: Some(Amount::from_sat(500_000)),
            time_locked: Amount::ZERO,
            closure: ClosureType::Cooperative,
            opener: Side::Local,
            closer: Some(Side::Local),
            reason: "this node's user asked the peer to close it together".to_owned(),
            fees: Amount::ZERO,
            outputs: Vec::new(),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_is_read_back_as_a_nodes_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        write(&mut store, 3).unwrap();
        assert_eq!(store.closed_channels().unwrap().len(), 3);
        for index in 1..=3 {
            let payment = store.core_record(&Key::Payment(index).encode()).unwrap().expect("a payment");
            assert_eq!(record::decode_payment(&payment).unwrap().index, index);
            let forward = store.core_record(&Key::Forward(index).encode()).unwrap().expect("a forward");
            assert_eq!(ForwardRecord::decode(index, &forward).unwrap().incoming.id, HtlcId(index));
        }
    }
}
