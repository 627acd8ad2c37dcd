//! Every spend that this crate builds, executed by our own interpreter under standardness flags.

use bitcoin::{ScriptBuf, Transaction, TxOut, Weight};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

use super::*;
use crate::{
    keys::{ClaimKey, ClaimSigner as _, PerCommitmentSecret, Signer as _, curve},
    types::{CltvExpiry, CommitmentNumber, FeeratePerKw, Height, HtlcDirection, HtlcId, Msat, PaymentPreimage},
    workers::OneThread,
};

const KINDS: [CommitmentType; 2] = [CommitmentType::StaticRemoteKey, CommitmentType::Anchors];
const TIP: Height = Height(800_000);

pub(crate) fn execute(tx: &Transaction, spent: Vec<TxOut>) {
    let spending = SpendingTx::new(tx, spent).unwrap();
    for index in 0..tx.input.len() {
        if let Err(error) = spending.verify_input(index, ScriptFlags::STANDARD) {
            panic!("input {index}: {error}");
        }
    }
}

/// A commitment of `owner` with one HTLC of each direction per preimage, with all that its spends need.
struct Scene {
    nodes: TwoNodes,
    params: CommitmentParams,
    secret: PerCommitmentSecret,
    keys: CommitmentKeys,
    commitment: CommitmentTx,
    htlcs: Vec<CommitmentHtlc>,
}

fn preimage(id: u64) -> PaymentPreimage {
    PaymentPreimage([id as u8; 32])
}

impl Scene {
    fn new(kind: CommitmentType, owner: Side) -> Self {
        let nodes = TwoNodes::from_seeds(1, 2);
        let funding = nodes.funding(Amount::from_sat(1_000_000));
        let params = nodes.params(kind, funding, owner, Side::Local);
        let number = CommitmentNumber(7);
        let owner_signer = nodes.signer(owner);
        let secret = owner_signer.release_commitment_secret(number);
        let keys = nodes.keys(owner, secret.point().unwrap());
        let htlcs: Vec<_> = (1..=4)
            .map(|id| CommitmentHtlc {
                direction: if id % 2 == 0 { HtlcDirection::Offered } else { HtlcDirection::Received },
                id: HtlcId(id),
                amount: Msat(20_000_000 + id * 1_000),
                payment_hash: preimage(id).hash(),
                cltv_expiry: CltvExpiry(TIP.0 - 10 + id as u32),
            })
            .collect();
        let in_htlcs: u64 = htlcs.iter().map(|htlc| htlc.amount.0).sum();
        let commitment = build_commitment(&CommitmentInput {
            params: &params,
            keys: &keys,
            number,
            feerate: FeeratePerKw(2_500),
            to_local: Msat(500_000_000),
            to_remote: Msat(500_000_000 - in_htlcs),
            htlcs: &htlcs,
        })
        .unwrap();
        Self { nodes, params, secret, keys, commitment, htlcs }
    }

    fn outpoint(&self, vout: u32) -> OutPoint {
        OutPoint { txid: self.commitment.txid, vout }
    }

    fn claim(&self, vout: u32, key: ClaimKey, path: ClaimPath) -> ClaimInput {
        ClaimInput {
            outpoint: self.outpoint(vout),
            output: self.commitment.tx.output[vout as usize].clone(),
            witness_script: self.commitment.outputs[vout as usize].witness_script.clone(),
            key,
            path,
        }
    }

    fn find(&self, wanted: OutputKind) -> u32 {
        self.commitment.outputs().find(|(_, _, info)| info.kind == wanted).unwrap().0
    }
}

fn destination() -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([5; 20]))
}

/// Signs, executes, and compares the weight with its prediction.
fn spend(signer: &KeysSigner, inputs: Vec<ClaimInput>) -> Transaction {
    let destination = destination();
    let predicted = claim_weight(&inputs, &[], &destination);
    let request =
        ClaimRequest { inputs, fee_coins: &[], destination: &destination, fee: Amount::from_sat(1_000), tip: TIP };
    let claim = build_claim(request).unwrap();
    let tx = claim.sign(signer).unwrap();
    execute(&tx, claim.inputs.iter().map(|input| input.output.clone()).collect());
    let inputs_out = claim.inputs.iter().map(|input| input.output.value).sum::<Amount>();
    assert_eq!(inputs_out - tx.output.iter().map(|out| out.value).sum::<Amount>(), claim.fee);
    assert_weight(tx.weight(), predicted, tx.input.len());
    tx
}

/// A signature is rarely shorter than predicted (by a byte, once in 128), never longer.
fn assert_weight(actual: Weight, predicted: Weight, signatures: usize) {
    assert!(actual <= predicted, "{actual} > {predicted}");
    assert!(predicted - actual <= Weight::from_wu(2 * signatures as u64), "{actual} < {predicted}");
}

#[test]
fn a_commitment_is_spent_from_the_funding_output() {
    for (kind, owner) in KINDS.into_iter().flat_map(|kind| [(kind, Side::Local), (kind, Side::Remote)]) {
        let scene = Scene::new(kind, owner);
        let sighash = scene.commitment.sighash(&scene.params.funding);
        let [local, remote] = [&scene.nodes.local, &scene.nodes.remote].map(|node| node.sign_funding_input(&sighash));
        let tx = scene.commitment.signed(&scene.params.funding, &FundingSignatures { local, remote });
        let funding = TxOut { value: scene.params.funding.amount, script_pubkey: scene.params.funding.script_pubkey() };
        execute(&tx, vec![funding]);
        let predicted = fee::commitment_weight(kind, scene.htlcs.len());
        // The spec counts 73-byte signatures, and with anchors a three-byte output count.
        assert!(tx.weight() <= predicted && predicted - tx.weight() <= Weight::from_wu(16));
    }
}

#[test]
fn both_second_stages_and_their_delayed_claims_are_valid() {
    for kind in KINDS {
        let scene = Scene::new(kind, Side::Local);
        let point = scene.keys.per_commitment_point;
        let signatures = scene.commitment.sign(&scene.nodes.remote, &scene.params.funding, &point, &OneThread).unwrap();
        verify_commitment(&scene.commitment, &scene.params.funding, &scene.keys, &signatures, &OneThread).unwrap();
        let key = scene.nodes.local.htlc_key(&point).unwrap();
        for (htlc, other) in scene.commitment.htlc_txs().zip(signatures.htlcs) {
            let spent = scene.commitment.tx.output[htlc.tx.input[0].previous_output.vout as usize].clone();
            let (direction, output_script) = (htlc.htlc.direction, htlc.output_script.clone());
            let owner = key.sign(&htlc.sighash_for_owner());
            let tx = {
                let preimage = preimage(htlc.htlc.id.0);
                htlc.signed(&HtlcSignatures { owner, other }, Some(&preimage))
            };
            execute(&tx, vec![spent]);
            let predicted = fee::htlc_tx_weight(kind, direction);
            assert!(tx.weight() <= predicted && predicted - tx.weight() <= Weight::from_wu(8), "{}", tx.weight());
            spend(
                &scene.nodes.local,
                vec![ClaimInput {
                    outpoint: OutPoint { txid: tx.compute_txid(), vout: 0 },
                    output: tx.output[0].clone(),
                    witness_script: Some(output_script),
                    key: ClaimKey::Delayed { per_commitment_point: point },
                    path: ClaimPath::Delayed { to_self_delay: 144 },
                }],
            );
        }
        let to_local = scene.find(OutputKind::ToLocal);
        let key = ClaimKey::Delayed { per_commitment_point: point };
        spend(&scene.nodes.local, vec![scene.claim(to_local, key, ClaimPath::Delayed { to_self_delay: 144 })]);
    }
}

#[test]
fn second_stages_with_anchors_take_their_fee_from_a_wallet_coin() {
    let scene = Scene::new(CommitmentType::Anchors, Side::Local);
    let point = scene.keys.per_commitment_point;
    let signatures = scene.commitment.sign(&scene.nodes.remote, &scene.params.funding, &point, &OneThread).unwrap();
    let claims: Vec<_> = scene
        .commitment
        .htlc_txs()
        .zip(signatures.htlcs)
        .filter(|(htlc, _)| htlc.htlc.direction == HtlcDirection::Received)
        .filter_map(|(htlc, other)| {
            let preimage = preimage(htlc.htlc.id.0);
            SecondStage::claim(htlc, other, Some(preimage), ClaimKey::Htlc { per_commitment_point: point })
        })
        .collect();
    assert_eq!(claims.len(), 2);
    // The "wallet": a P2WPKH of a key that we can sign with here.
    let coin_key = scene.nodes.remote.basepoints().payment;
    let coin = FeeCoin {
        outpoint: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 3 },
        output: TxOut { value: Amount::from_sat(50_000), script_pubkey: scripts::to_remote_p2wpkh(&coin_key) },
        witness_weight: Weight::from_wu(1 + 72 + 34),
    };
    let destination = destination();
    let predicted = claim_weight(&claims, std::slice::from_ref(&coin), &destination);
    let fee = fee::fee_for_weight(FeeratePerKw(5_000), predicted);
    let request = ClaimRequest {
        inputs: claims,
        fee_coins: std::slice::from_ref(&coin),
        destination: &destination,
        fee,
        tip: TIP,
    };
    let claim = build_claim(request).unwrap();
    let mut tx = claim.sign(&scene.nodes.local).unwrap();
    let sighash = bitcoin::sighash::SighashCache::new(&tx)
        .p2wpkh_signature_hash(2, &coin.output.script_pubkey, coin.output.value, bitcoin::EcdsaSighashType::All)
        .unwrap();
    let signature = scene.nodes.remote.claim_secret(&ClaimKey::Payment).unwrap().sign(&sighash.into());
    tx.input[2].witness = bitcoin::Witness::p2wpkh(&bitcoin::ecdsa::Signature::sighash_all(signature), &coin_key);
    let mut spent: Vec<_> = claim.inputs.iter().map(|input| input.output.clone()).collect();
    spent.push(coin.output);
    execute(&tx, spent);
    assert_eq!(claim.fee, fee);
    assert_weight(tx.weight(), predicted, 3);
}

#[test]
fn the_other_node_claims_to_remote_and_htlcs_directly() {
    for kind in KINDS {
        // The peer's commitment: what it offered we take by preimage, what it received (we offered) by timeout.
        let scene = Scene::new(kind, Side::Remote);
        let point = scene.keys.per_commitment_point;
        let mut claims = Vec::new();
        for (vout, _, info) in scene.commitment.outputs() {
            let (key, path) = match info.kind {
                OutputKind::ToRemote => {
                    let path = match kind {
                        CommitmentType::StaticRemoteKey => {
                            ClaimPath::ToRemote { payment_key: scene.nodes.local.basepoints().payment }
                        }
                        CommitmentType::Anchors => ClaimPath::ToRemoteAnchors,
                    };
                    (ClaimKey::Payment, path)
                }
                OutputKind::Htlc(htlc) => {
                    let path = match htlc.direction {
                        HtlcDirection::Offered => ClaimPath::HtlcPreimage { kind, preimage: preimage(htlc.id.0) },
                        HtlcDirection::Received => ClaimPath::HtlcTimeout { kind, cltv_expiry: htlc.cltv_expiry },
                    };
                    (ClaimKey::Htlc { per_commitment_point: point }, path)
                }
                OutputKind::ToRemoteAnchor => (ClaimKey::Funding, ClaimPath::Anchor),
                OutputKind::ToLocal | OutputKind::ToLocalAnchor => continue,
            };
            claims.push(scene.claim(vout, key, path));
        }
        for claim in &claims {
            if claim.path != ClaimPath::Anchor {
                spend(&scene.nodes.local, vec![claim.clone()]);
            }
        }
        spend(&scene.nodes.local, claims);
    }
}

#[test]
fn every_output_of_a_revoked_state_is_penalised_second_stages_merged_or_not() {
    for kind in KINDS {
        let scene = Scene::new(kind, Side::Remote);
        let (local, remote) = (scene.nodes.local.basepoints(), scene.nodes.remote.basepoints());
        let revoked = RevokedState::new(&scene.params, local, remote, scene.secret).unwrap();
        let claims = revoked.claims(&scene.commitment.tx, local, &scene.htlcs);
        assert_eq!(claims.len(), scene.commitment.outputs.len());
        for ((recognised, _), (vout, output, info)) in claims.iter().zip(scene.commitment.outputs()) {
            assert_eq!((recognised.vout, &recognised.output, &recognised.info), (vout, output, info));
        }
        let claims: Vec<_> = claims.into_iter().filter_map(|(_, claim)| claim).collect();
        assert_eq!(claims.len(), 6);
        for claim in &claims {
            spend(&scene.nodes.local, vec![claim.clone()]);
        }
        spend(&scene.nodes.local, claims);

        // The cheater's second stages; with anchors all of them could be in one transaction.
        let stages: Vec<Transaction> = scene.commitment.htlc_txs().map(|htlc| htlc.tx).collect();
        for stage in &stages {
            let penalties = revoked.second_stage_penalties(stage);
            assert_eq!(penalties.len(), 1);
            spend(&scene.nodes.local, penalties);
        }
        let mut merged = stages[0].clone();
        merged.output.extend(stages[1..].iter().flat_map(|stage| stage.output.clone()));
        merged.output.insert(2, TxOut { value: Amount::from_sat(7_000), script_pubkey: destination() });
        let penalties = revoked.second_stage_penalties(&merged);
        assert_eq!(penalties.iter().map(|claim| claim.outpoint.vout).collect::<Vec<_>>(), [0, 1, 3, 4]);
        spend(&scene.nodes.local, penalties);
    }
}

// BOLT 5, Penalty Transactions Weight Calculation, with its 73-byte signatures.
#[test]
fn penalty_inputs_weigh_what_bolt_5_says() {
    let scene = Scene::new(CommitmentType::StaticRemoteKey, Side::Remote);
    let (local, remote) = (scene.nodes.local.basepoints(), scene.nodes.remote.basepoints());
    let revoked = RevokedState::new(&scene.params, local, remote, scene.secret).unwrap();
    for (recognised, claim) in revoked.claims(&scene.commitment.tx, local, &scene.htlcs) {
        let expected = match recognised.info.kind {
            // The spec takes the delay as eight bytes and leaves out the length of its script and of the 1.
            OutputKind::ToLocal => 324 - (8 - 2) + 1,
            OutputKind::Htlc(htlc) => match htlc.direction {
                HtlcDirection::Offered => 407,
                // An expiry of three bytes, where the spec takes four.
                HtlcDirection::Received => 413 - 1,
            },
            OutputKind::ToRemote => 272,
            OutputKind::ToLocalAnchor | OutputKind::ToRemoteAnchor => panic!("no anchors here"),
        };
        let longer_signature = 73 - CLAIM_SIGNATURE_LEN as u64;
        let weight = claim.unwrap().weight().to_wu() + longer_signature;
        println!("{:?}: {weight}", recognised.info.kind);
        assert!(weight.abs_diff(expected) <= 1, "{weight}, {expected}");
    }
}

#[test]
fn a_claim_that_cannot_pay_its_fee_is_refused() {
    let scene = Scene::new(CommitmentType::Anchors, Side::Remote);
    let anchor = scene.claim(scene.find(OutputKind::ToRemoteAnchor), ClaimKey::Funding, ClaimPath::Anchor);
    let destination = destination();
    let request = ClaimRequest {
        inputs: vec![anchor],
        fee_coins: &[],
        destination: &destination,
        fee: Amount::from_sat(200),
        tip: TIP,
    };
    assert!(matches!(build_claim(request), Err(ClaimError::Uneconomic { .. })));
}

#[test]
fn closing_transactions_drop_dust_and_are_found_by_their_signature() {
    let nodes = TwoNodes::from_seeds(1, 2);
    let funding = nodes.funding(Amount::from_sat(1_000_000));
    let (local_script, remote_script) =
        (destination(), funding_script_pubkey(&nodes.local.basepoints().htlc, &nodes.remote.basepoints().htlc));
    let input = |to_local: u64, fee: u64| ClosingInput {
        funding: &funding,
        to_local: Msat(to_local),
        to_remote: Msat(1_000_000_000 - to_local),
        opener: Side::Local,
        fee: Amount::from_sat(fee),
        local_script: &local_script,
        remote_script: &remote_script,
        dust_limit: Amount::from_sat(546),
    };
    let spent = || vec![TxOut { value: funding.amount, script_pubkey: funding.script_pubkey() }];
    for (to_local, outputs) in [(600_000_999, 2), (2_000_000, 2), (1_400_000, 1), (999_999_999, 1)] {
        let closing = build_closing(&input(to_local, 1_000)).unwrap();
        assert_eq!(closing.tx.output.len(), outputs);
        assert_eq!(closing.to_local + closing.to_remote + closing.fee(&funding), funding.amount);
        let signature = nodes.remote.sign_funding_input(&closing.sighash(&funding));
        assert_eq!(verify_closing(&input(to_local, 1_000), &signature), Some(closing.clone()));
        // Another fee is another transaction, unless the payer's output is gone anyway.
        assert_eq!(verify_closing(&input(to_local, 999), &signature).is_none(), closing.to_local > Amount::ZERO);
        let local = nodes.local.sign_funding_input(&closing.sighash(&funding));
        let tx = closing.signed(&funding, &FundingSignatures { local, remote: signature });
        execute(&tx, spent());
        assert!(tx.weight() <= closing_weight(&local_script, &remote_script));
    }
    // The peer left its own output out.
    let mut without = build_closing(&input(600_000_000, 1_000)).unwrap();
    without.tx.output.retain(|output| output.script_pubkey == local_script);
    let signature = nodes.remote.sign_funding_input(&without.sighash(&funding));
    let found = verify_closing(&input(600_000_000, 1_000), &signature).unwrap();
    assert_eq!((found.to_remote, found.tx), (Amount::ZERO, without.tx));
    // It cannot leave ours out and burn what it cannot have.
    let mut without = build_closing(&input(600_000_000, 1_000)).unwrap();
    without.tx.output.retain(|output| output.script_pubkey == remote_script);
    let signature = nodes.remote.sign_funding_input(&without.sighash(&funding));
    assert_eq!(verify_closing(&input(600_000_000, 1_000), &signature), None);
    assert!(matches!(build_closing(&input(500_000, 501)), Err(ClosingTxError::FeeBeyondBalance { .. })));
}

#[test]
fn a_signature_with_high_s_is_refused() {
    let scene = Scene::new(CommitmentType::Anchors, Side::Local);
    let sighash = scene.commitment.sighash(&scene.params.funding);
    let signature = scene.nodes.remote.sign_funding_input(&sighash);
    let mut compact = signature.serialize_compact();
    let s = secp256k1::SecretKey::from_slice(&compact[32..]).unwrap().negate();
    compact[32..].copy_from_slice(&s.secret_bytes());
    let high = secp256k1::ecdsa::Signature::from_compact(&compact).unwrap();
    let key = scene.params.funding.remote_key();
    assert!(curve::verify(&sighash, &signature, key));
    assert!(!curve::verify(&sighash, &high, key));
}
