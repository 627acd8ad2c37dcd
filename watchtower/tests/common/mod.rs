//! A client, its cheating peer, and the states that they had.
#![allow(dead_code, reason = "each test uses a part")]

pub mod chain;
pub mod world;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid, hashes::Hash as _};
use leyden_channels::{
    keys::{ClaimKey, CommitmentSignatures, KeysSigner, Signer as _},
    onchain::{ClosingChannel, LocalState, MutualScripts, RemoteState},
    tx::{self, CommitmentHtlc, CommitmentTx, Funding, HtlcSignatures, SecondStage},
    types::{
        ChannelId, CltvExpiry, CommitmentNumber, CommitmentType, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat,
        PaymentPreimage, Side,
    },
    workers::OneThread,
};

pub const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];
pub const CAPACITY: Amount = Amount::from_sat(1_000_000);
pub const DELAY: u16 = 144;
/// Where the chains of the tests begin.
pub const START: u32 = 1_000;
/// The first HTLC's expiry; each further one expires a block later.
pub const EXPIRY: u32 = START + 40;
/// Of every commitment.
pub const FEERATE: FeeratePerKw = FeeratePerKw(1_000);

/// A channel of Alice, the client ("local"), and Bob.
pub struct Duo {
    pub alice: KeysSigner,
    pub bob: KeysSigner,
    pub kind: CommitmentType,
    pub funding: Funding,
    pub feerate: FeeratePerKw,
    /// By commitment number, which both share here.
    pub states: Vec<State>,
}

/// One agreed state. Alice offers `offered`, Bob offers `received`: ids with satoshis.
#[derive(Clone, Default)]
pub struct State {
    pub alice: u64,
    pub offered: Vec<(u64, u64)>,
    pub received: Vec<(u64, u64)>,
}

pub fn preimage(id: u64) -> PaymentPreimage {
    let mut bytes = [0x77; 32];
    bytes[..8].copy_from_slice(&id.to_be_bytes());
    PaymentPreimage(bytes)
}

/// All that comes home.
pub fn home(number: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([number; 20]))
}

pub fn cheaters_purse() -> ScriptBuf {
    home(0xb0)
}

impl State {
    /// As Bob's commitment has them.
    pub fn bobs_htlcs(&self) -> Vec<CommitmentHtlc> {
        let one = |direction, (id, sat): &(u64, u64)| CommitmentHtlc {
            direction,
            id: HtlcId(*id),
            amount: Msat(sat * 1000),
            payment_hash: preimage(*id).hash(),
            cltv_expiry: CltvExpiry(EXPIRY + (id % 50) as u32),
        };
        let by_alice = self.offered.iter().map(|htlc| one(HtlcDirection::Received, htlc));
        by_alice.chain(self.received.iter().map(|htlc| one(HtlcDirection::Offered, htlc))).collect()
    }

    fn balances(&self) -> (Msat, Msat) {
        let in_htlcs: u64 = self.offered.iter().chain(&self.received).map(|(_, sat)| sat).sum();
        (Msat(self.alice * 1000), Msat((CAPACITY.to_sat() - self.alice - in_htlcs) * 1000))
    }
}

impl Duo {
    /// `number` tells channels apart.
    pub fn new(number: u32, kind: CommitmentType, states: Vec<State>) -> Self {
        let signer = |who: u8| {
            let mut seed = [who; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            KeysSigner::from_channel_seed(&seed).unwrap()
        };
        let (alice, bob) = (signer(1), signer(2));
        let mut txid = [0xf0; 32];
        txid[..4].copy_from_slice(&number.to_be_bytes());
        let outpoint = OutPoint { txid: Txid::from_byte_array(txid), vout: 0 };
        let funding = Funding::new(outpoint, CAPACITY, alice.basepoints().funding, bob.basepoints().funding);
        Self { alice, bob, kind, funding, feerate: FEERATE, states }
    }

    pub fn funding_output(&self) -> TxOut {
        TxOut { value: CAPACITY, script_pubkey: self.funding.script_pubkey() }
    }

    pub fn secret(&self, number: u64) -> leyden_channels::keys::PerCommitmentSecret {
        self.bob.release_commitment_secret(CommitmentNumber(number))
    }

    /// Bob's state `number`, as Alice signed it.
    pub fn bobs_state(&self, number: u64) -> RemoteState {
        let state = &self.states[number as usize];
        let (alice, bob) = state.balances();
        RemoteState {
            number: CommitmentNumber(number),
            per_commitment_point: self.bob.per_commitment_point(CommitmentNumber(number)).unwrap(),
            feerate: self.feerate,
            to_local: bob,
            to_remote: alice,
            htlcs: state.bobs_htlcs(),
        }
    }

    /// The channel without its states, as one of both has it.
    pub fn closing(&self, side: Side) -> ClosingChannel {
        let (me, other) = match side {
            Side::Local => (&self.alice, &self.bob),
            Side::Remote => (&self.bob, &self.alice),
        };
        ClosingChannel {
            channel_id: ChannelId([9; 32]),
            kind: self.kind,
            opener: side,
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
            remote_state: None,
            remote_next: None,
            secrets: Default::default(),
            mutual_scripts: MutualScripts::Agreed(Vec::new()),
            preimages: Default::default(),
            upstream_expiries: Default::default(),
            destination: home(1),
        }
    }

    pub fn bobs_commitment(&self, number: u64) -> CommitmentTx {
        self.closing(Side::Local).remote_commitment(&self.bobs_state(number)).unwrap()
    }

    /// Bob's own view of it, with Alice's signatures.
    fn bobs_channel(&self, number: u64) -> ClosingChannel {
        let RemoteState { number, per_commitment_point, feerate, to_local, to_remote, htlcs } = self.bobs_state(number);
        let commitment = self.bobs_commitment(number.0);
        let CommitmentSignatures { commitment, htlcs: signed } =
            commitment.sign(&self.alice, &self.funding, &per_commitment_point, &OneThread).unwrap();
        let signatures = CommitmentSignatures { commitment, htlcs: signed };
        let local_state = LocalState { number, per_commitment_point, feerate, to_local, to_remote, htlcs, signatures };
        ClosingChannel { local_state: Some(local_state), ..self.closing(Side::Remote) }
    }

    /// What Bob publishes when he cheats.
    pub fn breach(&self, number: u64) -> Transaction {
        self.bobs_channel(number).signed_local_commitment(&self.bob).unwrap().unwrap()
    }

    /// Bob's second stages on the HTLCs of that state: of those that Alice offered with their preimages, of his own after
    /// their expiry.
    pub fn second_stages(&self, number: u64, wanted: HtlcDirection) -> Vec<Transaction> {
        let channel = self.bobs_channel(number);
        let state = channel.local_state.as_ref().unwrap();
        let commitment = channel.local_commitment().unwrap().unwrap();
        let key = self.bob.htlc_key(&state.per_commitment_point).unwrap();
        let pairs = commitment.htlc_txs().zip(&state.signatures.htlcs);
        let wanted = pairs.filter(|(htlc, _)| htlc.htlc.direction == wanted);
        wanted
            .map(|(htlc, other)| {
                let owner = key.sign(&htlc.sighash_for_owner());
                let preimage = preimage(htlc.htlc.id.0);
                htlc.signed(&HtlcSignatures { owner, other: *other }, Some(&preimage))
            })
            .collect()
    }

    /// The same in one transaction: anchors alone allow it.
    pub fn merged_second_stage(&self, number: u64, wanted: HtlcDirection) -> Transaction {
        let channel = self.bobs_channel(number);
        let state = channel.local_state.as_ref().unwrap();
        let commitment = channel.local_commitment().unwrap().unwrap();
        let pairs = commitment.htlc_txs().zip(&state.signatures.htlcs);
        let inputs = pairs
            .filter(|(htlc, _)| htlc.htlc.direction == wanted)
            .filter_map(|(htlc, other)| {
                let key = ClaimKey::Htlc { per_commitment_point: state.per_commitment_point };
                let preimage = preimage(htlc.htlc.id.0);
                SecondStage::claim(htlc, *other, Some(preimage), key)
            })
            .collect();
        let (fee, tip) = (Amount::ZERO, Height(START));
        let request = tx::ClaimRequest { inputs, fee_coins: &[], destination: &cheaters_purse(), fee, tip };
        tx::build_claim(request).unwrap().sign(&self.bob).unwrap()
    }
}
