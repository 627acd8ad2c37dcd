//! What a long life leaves in the database, made up: `leyden bench growth` and `leyden bench api` have it written between two runs
//! of a node.

use std::{fs, path::PathBuf};

use bitcoin::{
    Amount, OutPoint, Txid,
    hashes::{Hash as _, sha256},
};
use leyden_channels::{
    channel::{Key, Persist as _, Write},
    gossip::synthetic::{Size, SyntheticNetwork},
    payment::{
        outgoing::{Payment, PaymentFailure, PaymentLimits, PaymentRequest, PaymentState},
        record,
    },
    switch::{ForwardRecord, HtlcRef, Outgoing},
    types::{ChannelId, Height, HtlcId, Msat, PaymentHash, PaymentPreimage, ShortChannelId, Side, UnixTime},
};
use leyden_node::Clock;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use super::BenchError;
use crate::{
    driver::gossip::funding_row,
    store::{ClosedChannel, ClosureType, CoreKey, Store, Table},
};

/// Every so many payments found no route; the others were paid.
const FAILED_EVERY: u32 = 4;
/// Between a payment and the next one.
const SECONDS_APART: u64 = 60;

/// Records in one commit.
const AT_ONCE: usize = 1_000;

/// How much of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct PastSize {
    /// Payments and closed channels, and forwards where nothing else is said
    #[arg(long)]
    count: u32,
    /// Forwards
    #[arg(long)]
    forwards: Option<u32>,
    /// Nodes of a made-up network
    #[arg(long, default_value_t = 0)]
    nodes: u32,
    /// Channels of the network
    #[arg(long, default_value_t = 0)]
    channels: u32,
    /// A file with the place of each channel's output in the chain, as a number, and the output's name
    #[arg(long, requires = "channels", value_name = "FILE")]
    places: Option<PathBuf>,
}

impl PastSize {
    /// Payments, forwards, closed channels and gossip: as the node itself would have written them.
    pub(super) fn write(&self, store: &mut Store) -> Result<(), BenchError> {
        let key = SecretKey::from_slice(&[7; 32]).map_err(|error| store.damaged(&error.to_string()))?;
        let node_id = key.public_key(SECP256K1);
        let now = UnixTime(Clock::System.now());
        let at = |number: u32, last: u32| {
            UnixTime(now.0.saturating_sub(u64::from(last.saturating_sub(number)).saturating_mul(SECONDS_APART)))
        };
        let mut writes = Vec::new();
        for number in 1..=self.count {
            let payment = payment(number, node_id, at(number, self.count));
            let (index, hash) = (payment.index, payment.request.payment_hash);
            writes
                .push(Write::Put { key: CoreKey::from(Key::Payment(index)), value: record::encode_payment(&payment) });
            writes.push(Write::Put { key: Key::PaymentIndex(hash).into(), value: index.to_be_bytes().to_vec() });
        }
        let forwards = self.forwards.unwrap_or(self.count);
        for number in 1..=forwards {
            let forward = forward(number, at(number, forwards));
            writes.push(Write::Put { key: Key::Forward(forward.number).into(), value: forward.encode() });
        }
        while !writes.is_empty() {
            let rest = writes.split_off(writes.len().min(AT_ONCE));
            store.commit(std::mem::replace(&mut writes, rest))?;
        }
        for number in 1..=self.count {
            store.put_closed_channel(&closed(number, node_id))?;
        }
        self.write_network(store)
    }

    fn write_network(&self, store: &Store) -> Result<(), BenchError> {
        if self.channels == 0 {
            return Ok(());
        }
        let size = Size { nodes: self.nodes, channels: self.channels, ..Size::PUBLIC };
        let mut network = SyntheticNetwork::generate(size);
        if let Some(path) = &self.places {
            let text = fs::read_to_string(path).map_err(|error| BenchError::Read(path.clone(), error))?;
            let place = |line: &str| {
                let (id, output) = line.split_once(' ')?;
                Some((ShortChannelId(id.parse().ok()?), output.parse::<OutPoint>().ok()?))
            };
            let places: Vec<_> = text.lines().filter_map(place).collect();
            if places.len() != network.channels.len() {
                return Err(BenchError::Places { channels: network.channels.len(), places: places.len() });
            }
            for (made, (id, _)) in network.channels.iter_mut().zip(&places) {
                made.channel.short_channel_id = *id;
            }
            store.put_table(Table::Fundings, places.into_iter().map(|(id, output)| funding_row(id, Some(output))))?;
        }
        super::graph::store(store, &network).map(drop)
    }
}

fn hash(number: u32) -> [u8; 32] {
    sha256::Hash::hash(&number.to_be_bytes()).to_byte_array()
}

fn payment(number: u32, destination: PublicKey, at: UnixTime) -> Payment {
    let state = match number.is_multiple_of(FAILED_EVERY) {
        true => PaymentState::Failed { reason: PaymentFailure::NoRoute, at },
        false => PaymentState::Succeeded { preimage: PaymentPreimage(hash(number)), at },
    };
    Payment {
        index: u64::from(number),
        request: PaymentRequest {
            payment_hash: PaymentHash(hash(number)),
            destination,
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
    }
}

fn forward(number: u32, at: UnixTime) -> ForwardRecord {
    let (channel, index) = (ChannelId(hash(number)), u64::from(number));
    ForwardRecord {
        number: index,
        at,
        incoming: HtlcRef { channel, id: HtlcId(index) },
        incoming_channel: Some(ShortChannelId(index)),
        incoming_amount: Msat(1_001),
        outgoing: Outgoing { channel, id: Some(HtlcId(index)) },
        outgoing_channel: Some(ShortChannelId(index)),
        outgoing_amount: Msat(1_000),
    }
}

fn closed(number: u32, node_id: PublicKey) -> ClosedChannel {
    let txid = Txid::from_byte_array(hash(number));
    ClosedChannel {
        node_id: node_id.into(),
        funding: OutPoint { txid, vout: 0 },
        short_channel_id: Some(ShortChannelId(u64::from(number))),
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::gossip::load_graph;

    #[test]
    fn what_is_made_up_is_read_back_as_a_nodes_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        let past = PastSize { count: 3, forwards: Some(5), nodes: 10, channels: 20, places: None };
        past.write(&mut store).unwrap();
        assert_eq!(store.closed_channels().unwrap().len(), 3);
        for index in 1..=3 {
            let payment = store.core_record(&Key::Payment(index).encode()).unwrap().expect("a payment");
            assert_eq!(record::decode_payment(&payment).unwrap().index, index);
            let forward = store.core_record(&Key::Forward(index).encode()).unwrap().expect("a forward");
            assert_eq!(ForwardRecord::decode(index, &forward).unwrap().incoming.id, HtlcId(index));
        }
        assert!(store.core_record(&Key::Forward(5).encode()).unwrap().is_some());
        assert_eq!(load_graph(&store).unwrap().channel_count(), 20);
    }
}
