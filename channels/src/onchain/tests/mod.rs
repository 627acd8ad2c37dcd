//! Closes on a small chain that checks everything: scripts by our interpreter, lock times, fees and replacement.

#![allow(unreachable_pub, reason = "helpers are shared between tests")]

mod breach;
pub(crate) mod chain;
mod coins;
mod force_close;
mod node;
mod random;
mod rivals;
mod taken_back;

use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut, Txid, hashes::Hash as _};

use super::*;
use crate::{
    keys::{KeysSigner, Signer as _},
    tx::{self, CommitmentHtlc, Funding},
    types::{
        ChannelId, CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat,
        PaymentPreimage, Side,
    },
    workers::OneThread,
};
use chain::Chain;
use node::Node;

pub(super) const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];
pub(super) const CAPACITY: Amount = Amount::from_sat(1_000_000);
pub(super) const DELAY: u16 = 144;
/// Where the chains of the tests begin.
pub(super) const START: u32 = 1_000;
/// The first HTLC's expiry; each further one expires a block later.
pub(super) const EXPIRY: u32 = START + 40;

/// A channel of Alice ("local") and Bob with a history of states.
pub(super) struct Duo {
    pub alice: KeysSigner,
    pub bob: KeysSigner,
    pub kind: CommitmentType,
    pub funding: Funding,
    /// By commitment number, which both sides share here.
    pub states: Vec<State>,
}

/// One agreed state. Alice offers `offered`, Bob offers `received`.
#[derive(Clone, Default)]
pub(super) struct State {
    pub alice: u64,
    pub offered: Vec<(u64, u64)>,
    pub received: Vec<(u64, u64)>,
}

pub(super) fn preimage(id: u64) -> PaymentPreimage {
    let mut bytes = [0x77; 32];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    PaymentPreimage(bytes)
}

pub(super) fn htlc(direction: HtlcDirection, id: u64, sat: u64) -> CommitmentHtlc {
    CommitmentHtlc {
        direction,
        id: HtlcId(id),
        amount: Msat(sat * 1000),
        payment_hash: preimage(id).hash(),
        cltv_expiry: CltvExpiry(EXPIRY + (id % 50) as u32),
    }
}

impl State {
    /// All HTLCs as `owner`'s commitment has them.
    pub fn htlcs(&self, owner: Side) -> Vec<CommitmentHtlc> {
        let by_alice = self.offered.iter().map(|(id, sat)| htlc(HtlcDirection::Offered, *id, *sat));
        let by_bob = self.received.iter().map(|(id, sat)| htlc(HtlcDirection::Received, *id, *sat));
        let mut all: Vec<_> = by_alice.chain(by_bob).collect();
        if owner == Side::Remote {
            all.iter_mut().for_each(|htlc| htlc.direction = htlc.direction.reversed());
        }
        all
    }

    fn balances(&self) -> (Msat, Msat) {
        let in_htlcs: u64 = self.offered.iter().chain(&self.received).map(|(_, sat)| sat).sum();
        (Msat(self.alice * 1000), Msat((CAPACITY.to_sat() - self.alice - in_htlcs) * 1000))
    }
}

impl Duo {
    pub fn new(kind: CommitmentType, states: Vec<State>) -> Self {
        let [alice, bob] = [1, 2].map(|seed| KeysSigner::from_channel_seed(&[seed; 32]).unwrap());
        let outpoint = OutPoint { txid: Txid::from_byte_array([0xf0; 32]), vout: 0 };
        let funding = Funding::new(outpoint, CAPACITY, alice.basepoints().funding, bob.basepoints().funding);
        Self { alice, bob, kind, funding, states }
    }

    pub fn funding_output(&self) -> TxOut {
        TxOut { value: CAPACITY, script_pubkey: self.funding.script_pubkey() }
    }

    fn signer(&self, side: Side) -> &KeysSigner {
        match side {
            Side::Local => &self.alice,
            Side::Remote => &self.bob,
        }
    }

    /// The channel as `side` would have it if state `number` were the latest.
    pub fn closing_at(&self, side: Side, number: usize) -> ClosingChannel {
        let (me, other) = (self.signer(side), self.signer(side.other()));
        let state = &self.states[number];
        let commitment_number = CommitmentNumber(number as u64);
        let (alice, bob) = state.balances();
        let (mine, theirs) = if side == Side::Local { (alice, bob) } else { (bob, alice) };
        let mut channel = ClosingChannel {
            channel_id: ChannelId([9; 32]),
            kind: self.kind,
            opener: if side == Side::Local { Side::Local } else { Side::Remote },
            funding: self.funding.outpoint,
            capacity: CAPACITY,
            local: me.basepoints().clone(),
            remote: other.basepoints().clone(),
            local_dust_limit: Amount::from_sat(546),
            remote_dust_limit: Amount::from_sat(546),
            local_delay: DELAY,
            remote_delay: DELAY,
            local_state: None,
            local_may_be_revoked: false,
            remote_state: Some(RemoteState {
                number: commitment_number,
                per_commitment_point: other.per_commitment_point(commitment_number).unwrap(),
                feerate: FeeratePerKw(1_000),
                to_local: theirs,
                to_remote: mine,
                htlcs: state.htlcs(side.other()),
            }),
            remote_next: None,
            secrets: Default::default(),
            mutual_scripts: MutualScripts::Agreed(vec![destination(Side::Local), destination(Side::Remote)]),
            preimages: Default::default(),
            upstream_expiries: Default::default(),
            destination: destination(side),
        };
        for revoked in (0..number as u64).map(CommitmentNumber) {
            channel.secrets.insert(revoked, other.release_commitment_secret(revoked)).unwrap();
        }
        let point = me.per_commitment_point(commitment_number).unwrap();
        // The other side signs it as its view of our commitment.
        let mut local = LocalState {
            number: commitment_number,
            per_commitment_point: point,
            feerate: FeeratePerKw(1_000),
            to_local: mine,
            to_remote: theirs,
            htlcs: state.htlcs(side),
            signatures: crate::keys::CommitmentSignatures {
                commitment: secp256k1::ecdsa::Signature::from_compact(&[1; 64]).unwrap(),
                htlcs: vec![],
            },
        };
        channel.local_state = Some(local.clone());
        let commitment = channel.local_commitment().unwrap().unwrap();
        local.signatures = commitment.sign(other, &channel.funding(), &point, &OneThread).unwrap();
        tx::verify_commitment(
            &commitment,
            &channel.funding(),
            &channel.keys(Side::Local, point).unwrap(),
            &local.signatures,
            &OneThread,
        )
        .unwrap();
        channel.local_state = Some(local);
        channel
    }

    pub fn closing(&self, side: Side) -> ClosingChannel {
        self.closing_at(side, self.states.len() - 1)
    }

    /// A chain in which the funding output is confirmed.
    pub fn chain(&self) -> Chain {
        let mut chain = Chain::new(START);
        chain.add(self.funding.outpoint, self.funding_output());
        chain
    }

    pub fn node(&self, side: Side, channel: ClosingChannel) -> Node {
        Node::new(
            channel,
            self.signer(side).clone(),
            self.states.iter().map(|state| state.htlcs(side.other())).collect(),
        )
    }
}

pub(super) fn destination(side: Side) -> ScriptBuf {
    let byte = if side == Side::Local { 0xa1 } else { 0xb0 };
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([byte; 20]))
}
