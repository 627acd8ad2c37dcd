//! The funding output is spent by a transaction that this node never signed: its key has leaked.

use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
    hashes::Hash as _,
    sighash::{EcdsaSighashType, SighashCache},
    transaction::Version,
};
use leyden_channels::{
    channel::StateName,
    keys::Signer as _,
    onchain::{self, Closer, FeeEstimates, Notice},
    tx::{OutputKind, funding_witness_script},
    types::{CommitmentType, FeeratePerKw, Side},
};

use secp256k1::Message;

use crate::{node::Crash, world::*};

/// What the thief leaves to `who`, in an output of the form that a commitment of the peer's has.
const LEFT: Amount = Amount::from_sat(90_000);
const ANCHOR: Amount = Amount::from_sat(330);

/// A script that nobody of the channel has agreed to.
fn foreign() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([0x66; 20]))
}

/// Both funding keys sign it, as a thief can who has them.
fn theft(world: &World, who: Who) -> Transaction {
    let core = world[who].core();
    let commitment = core.local_close().expect("whole").expect("not lost").commitment;
    let params = core.terms().expect("established").commitment_params(Side::Remote);
    let (to_remote, _) = params.to_remote_output();
    let mut output = vec![
        TxOut { value: Amount::from_sat(world.setup.capacity - 100_000), script_pubkey: foreign() },
        TxOut { value: LEFT, script_pubkey: to_remote.clone() },
    ];
    // Ours is the local one of our own commitment.
    let anchor = commitment.outputs().find(|(_, _, info)| info.kind == OutputKind::ToLocalAnchor);
    output.extend(anchor.map(|(_, output, _)| output.clone()));
    let input = TxIn {
        previous_output: world.funding,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let mut tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![input], output };
    let sides = &core.terms().expect("established").sides;
    let (local, remote) = (sides.local.basepoints.funding, sides.remote.basepoints.funding);
    let script = funding_witness_script(&local, &remote);
    let value = Amount::from_sat(world.setup.capacity);
    let sighash =
        SighashCache::new(&tx).p2wsh_signature_hash(0, &script, value, EcdsaSighashType::All).expect("input 0");
    let mut signed = [(local, who), (remote, who.other())].map(|(key, who)| {
        let signature = world[who].signer.sign_funding_input(&Message::from(sighash));
        (key.serialize(), [signature.serialize_der().as_ref(), &[EcdsaSighashType::All as u8]].concat())
    });
    signed.sort();
    let [(_, first), (_, second)] = signed;
    tx.input[0].witness = Witness::from_slice(&[Vec::new(), first, second, script.into_bytes()]);
    tx
}

fn was_told(world: &World, who: Who, tx: &Transaction) -> bool {
    let notice = onchain::Effect::Notice(Notice::UnknownSpend { txid: tx.compute_txid() });
    world[who].log.iter().any(|(_, effect)| *effect == notice)
}

#[test]
fn scenario_25_a_spend_to_a_foreign_script_is_told_and_what_is_ours_is_claimed() {
    for kind in KINDS {
        for in_mempool_first in [false, true] {
            for crash in Crash::ALL {
                let mut world = World::new(Setup::new(kind));
                world.pay(Alice, 30_000);
                assert_eq!(world[Alice].core().state_name(), StateName::Normal);
                world.rebase();
                world[Alice].crash = crash;
                // An anchor is worth its claim only where blocks are empty.
                world[Alice].estimates = FeeEstimates::flat(FeeratePerKw::FLOOR);
                let tx = theft(&world, Alice);
                world.submit_other(&tx);
                if in_mempool_first {
                    world.look();
                }
                world.mine(1);
                assert_eq!(world[Alice].core().state_name(), StateName::Closing);
                assert_eq!(world[Alice].closer(), Some(&Closer::Unknown), "{kind:?}");
                // Whoever dies before it is told sees it in the list of closing channels.
                assert!(was_told(&world, Alice, &tx) || crash == Crash::BeforeEveryEffect);
                world.mine(40);
                assert!(world[Alice].is_resolved());
                let txid = tx.compute_txid();
                let spent = |vout| !world.chain.is_unspent(&OutPoint { txid, vout });
                assert!(!spent(0), "it is not ours");
                assert!(spent(1), "to_remote is claimed, {kind:?}, {crash:?}");
                assert_eq!(kind == CommitmentType::Anchors, tx.output.get(2).is_some_and(|one| one.value == ANCHOR));
                assert!(tx.output.len() < 3 || spent(2), "the anchor is claimed, {crash:?}");
                let gain = world.gain(Alice);
                assert!(gain > LEFT.to_sat() as i64 / 2, "{kind:?}: {gain}");
            }
        }
    }
}
