//! BOLT 3's appendices B, C and F: every commitment and HTLC transaction to the byte, every signature.

use bitcoin::{Transaction, consensus::encode};
use secp256k1::{PublicKey, ecdsa::Signature};
use serde_json::Value;

use super::*;
use crate::{
    keys::{CommitmentSignatures, HtlcKey},
    types::{CltvExpiry, CommitmentNumber, FeeratePerKw, HtlcDirection, HtlcId, Msat, PaymentPreimage},
    vectors::{bytes32_field, hex_field, json},
    workers::OneThread,
};

#[test]
fn funding_output_is_that_of_appendix_b() {
    let Some(file) = json("lightning/bolt03/appendix_b_funding.json") else { return };
    let vector = &file["vector"];
    let key = |name| PublicKey::from_slice(&hex_field(vector, name)).unwrap();
    let (local, remote) = (key("local_funding_pubkey"), key("remote_funding_pubkey"));
    let tx: Transaction = encode::deserialize(&hex_field(vector, "funding_tx")).unwrap();
    for (one, another) in [(local, remote), (remote, local)] {
        assert_eq!(funding_witness_script(&one, &another).to_bytes(), hex_field(vector, "funding_witness_script"));
        assert_eq!(funding_script_pubkey(&one, &another), tx.output[0].script_pubkey);
    }
    assert_eq!(tx.compute_txid().to_string(), vector["txid"].as_str().unwrap());
    println!("BOLT 3 appendix B: 1 case");
}

/// What appendices C and F have in common.
struct Fixture {
    nodes: TwoNodes,
    params: Value,
    keys: CommitmentKeys,
    htlcs: Vec<(CommitmentHtlc, PaymentPreimage)>,
}

impl Fixture {
    fn load() -> Option<Self> {
        let file = json("lightning/bolt03/appendix_c_commitment_static_remotekey.json")?;
        let (params, internal) = (file["params"].clone(), &file["internal_secrets"]);
        let signer = |funding, revocation, payment, delayed| {
            KeysSigner::new(BasepointSecrets {
                funding: secret(funding),
                revocation: secret(revocation),
                payment: secret(payment),
                delayed_payment: secret(delayed),
                htlc: secret(payment),
                commitment_seed: [0; 32],
            })
        };
        let nodes = TwoNodes {
            local: signer(
                bytes32_field(&params, "local_funding_privkey"),
                [9; 32],
                bytes32_field(internal, "local_payment_basepoint_secret"),
                bytes32_field(internal, "local_delayed_payment_basepoint_secret"),
            ),
            remote: signer(
                bytes32_field(internal, "remote_funding_privkey"),
                bytes32_field(internal, "remote_revocation_basepoint_secret"),
                bytes32_field(internal, "remote_payment_basepoint_secret"),
                [9; 32],
            ),
        };
        let point = PublicKey::from_slice(&hex_field(internal, "local_per_commitment_point")).unwrap();
        let keys = CommitmentKeys::derive(point, nodes.local.basepoints(), nodes.remote.basepoints()).unwrap();
        for (key, name) in [
            (keys.htlc().unwrap().owner, "local_htlcpubkey"),
            (keys.htlc().unwrap().other, "remote_htlcpubkey"),
            (keys.owner_delayed, "local_delayedpubkey"),
            (keys.revocation, "local_revocation_pubkey"),
        ] {
            assert_eq!(key.serialize().to_vec(), hex_field(&params, name), "{name}");
        }
        let htlcs = file["htlcs"].as_array().unwrap().iter().map(|htlc| {
            let preimage = PaymentPreimage(bytes32_field(htlc, "payment_preimage"));
            let htlc = CommitmentHtlc {
                direction: match htlc["direction"].as_str().unwrap() {
                    "local->remote" => HtlcDirection::Offered,
                    "remote->local" => HtlcDirection::Received,
                    other => panic!("direction {other}"),
                },
                id: HtlcId(htlc["id"].as_u64().unwrap()),
                amount: Msat(htlc["amount_msat"].as_u64().unwrap()),
                payment_hash: preimage.hash(),
                cltv_expiry: CltvExpiry(htlc["expiry"].as_u64().unwrap() as u32),
            };
            (htlc, preimage)
        });
        Some(Self { htlcs: htlcs.collect(), nodes, params, keys })
    }

    fn commitment_params(&self, kind: CommitmentType, dust_limit: u64) -> CommitmentParams {
        let txid = self.params["funding_tx_id"].as_str().unwrap().parse().unwrap();
        let (local, remote) = (self.nodes.local.basepoints(), self.nodes.remote.basepoints());
        let funding =
            Funding::new(OutPoint { txid, vout: 0 }, Amount::from_sat(10_000_000), local.funding, remote.funding);
        assert_eq!(funding.witness_script().to_bytes(), hex_field(&self.params, "funding_witness_script"));
        CommitmentParams::new(CommitmentSetup {
            kind,
            funding,
            owner: Side::Local,
            opener: Side::Local,
            local,
            remote,
            owner_dust_limit: Amount::from_sat(dust_limit),
            owner_to_self_delay: 144,
        })
    }

    fn htlcs_by_id(&self, ids: impl IntoIterator<Item = usize>) -> Vec<CommitmentHtlc> {
        ids.into_iter().map(|id| self.htlcs[id].0).collect()
    }

    fn preimage_of(&self, htlc: &CommitmentHtlc) -> Option<&PaymentPreimage> {
        match htlc.direction {
            HtlcDirection::Received => self.htlcs.iter().find(|(known, _)| known == htlc).map(|(_, preimage)| preimage),
            HtlcDirection::Offered => None,
        }
    }
}

/// One case of either appendix.
struct Case<'a> {
    name: &'a str,
    kind: CommitmentType,
    dust_limit: u64,
    feerate: u64,
    to_local: u64,
    to_remote: u64,
    htlcs: Vec<CommitmentHtlc>,
    remote_signature: Vec<u8>,
    commitment_tx: Vec<u8>,
    /// The remote signature and the signed transaction of each HTLC output in its order.
    htlc_txs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Case<'_> {
    fn check(&self, fixture: &Fixture) -> CommitmentTx {
        let name = self.name;
        let params = fixture.commitment_params(self.kind, self.dust_limit);
        let commitment = build_commitment(&CommitmentInput {
            params: &params,
            keys: &fixture.keys,
            number: CommitmentNumber(42),
            feerate: FeeratePerKw(self.feerate as u32),
            to_local: Msat(self.to_local),
            to_remote: Msat(self.to_remote),
            htlcs: &self.htlcs,
        })
        .unwrap();
        assert_eq!(params.obscuring.reveal(&commitment.tx), Some(CommitmentNumber(42)), "{name}");

        let TwoNodes { local, remote } = &fixture.nodes;
        // What the remote node would send in commitment_signed.
        let point = &fixture.keys.per_commitment_point;
        let signatures = commitment.sign(remote, &params.funding, point, &OneThread).unwrap();
        let expected = CommitmentSignatures {
            commitment: signature(&self.remote_signature),
            htlcs: self.htlc_txs.iter().map(|(remote, _)| signature(remote)).collect(),
        };
        assert_eq!(signatures, expected, "{name}");
        verify_commitment(&commitment, &params.funding, &fixture.keys, &signatures, &OneThread).unwrap();

        let signed = commitment.signed(
            &params.funding,
            &FundingSignatures {
                local: local.sign_funding_input(&commitment.sighash(&params.funding)),
                remote: signatures.commitment,
            },
        );
        assert_eq!(hex::encode(encode::serialize(&signed)), hex::encode(&self.commitment_tx), "{name}");

        let key: HtlcKey = local.htlc_key(point).unwrap();
        for ((htlc, other), (_, expected)) in commitment.htlc_txs().zip(signatures.htlcs).zip(&self.htlc_txs) {
            let preimage = fixture.preimage_of(htlc.htlc);
            let owner = key.sign(&htlc.sighash_for_owner());
            let signed = htlc.signed(&HtlcSignatures { owner, other }, preimage);
            assert_eq!(hex::encode(encode::serialize(&signed)), hex::encode(expected), "{name}");
        }
        commitment
    }
}

fn signature(der: &[u8]) -> Signature {
    Signature::from_der(der).unwrap()
}

#[test]
fn static_remotekey_commitments_are_those_of_appendix_c() {
    let Some(fixture) = Fixture::load() else { return };
    let file = json("lightning/bolt03/appendix_c_commitment_static_remotekey.json").unwrap();
    let cases = file["cases"].as_array().unwrap();
    let mut htlc_txs = 0;
    for (index, case) in cases.iter().enumerate() {
        let ids = match index {
            0 => vec![],
            15 => vec![1, 5, 6],
            _ => (0..5).collect(),
        };
        let htlc_cases = case["htlc_txs"].as_array().unwrap();
        htlc_txs += htlc_cases.len();
        let commitment = Case {
            name: case["name"].as_str().unwrap(),
            kind: CommitmentType::StaticRemoteKey,
            dust_limit: 546,
            feerate: case["local_feerate_per_kw"].as_u64().unwrap(),
            to_local: case["to_local_msat"].as_u64().unwrap(),
            to_remote: case["to_remote_msat"].as_u64().unwrap(),
            htlcs: fixture.htlcs_by_id(ids),
            remote_signature: hex_field(case, "remote_signature"),
            commitment_tx: hex_field(case, "commit_tx"),
            htlc_txs: htlc_cases
                .iter()
                .map(|tx| (hex_field(tx, "remote_htlc_signature"), hex_field(tx, "tx")))
                .collect(),
        }
        .check(&fixture);
        assert_eq!(commitment.txid.to_string(), case["commit_txid"].as_str().unwrap());
        check_outputs(&commitment, case["outputs"].as_array().unwrap());
    }
    println!("BOLT 3 appendix C: {} commitments, {htlc_txs} HTLC transactions", cases.len());
    assert_eq!((cases.len(), htlc_txs), (16, 33));
}

/// Each output is labelled as the vector labels it, with the script that it names. The vector lists some or all of them, unordered.
fn check_outputs(commitment: &CommitmentTx, expected: &[Value]) {
    assert!(!expected.is_empty() && expected.len() <= commitment.outputs.len());
    for output in expected {
        let found = commitment.outputs().any(|(_, out, info)| {
            out.value.to_sat() == output["amount_sat"].as_u64().unwrap()
                && match (output["kind"].as_str().unwrap(), &info.kind) {
                    ("to_local", OutputKind::ToLocal) => true,
                    ("to_remote", OutputKind::ToRemote) => info.witness_script.is_none(),
                    ("htlc", OutputKind::Htlc(htlc)) => htlc.id.0 == output["htlc"].as_u64().unwrap(),
                    _ => false,
                }
                && output.get("witness_script").is_none_or(|script| {
                    info.witness_script.as_ref().map(|known| hex::encode(known.as_bytes())).as_deref()
                        == script.as_str()
                })
        });
        assert!(found, "{output}");
    }
}

#[test]
fn anchor_commitments_are_those_of_appendix_f() {
    let Some(fixture) = Fixture::load() else { return };
    let file = json("lightning/bolt03/appendix_f_commitment_anchors.json").unwrap();
    let cases = file["cases"].as_array().unwrap();
    let mut htlc_txs = 0;
    for (index, case) in cases.iter().enumerate() {
        let ids = match (case["UseTestHtlcs"].as_bool().unwrap(), index) {
            (false, _) => vec![],
            (true, 8) => vec![1, 5, 6],
            (true, _) => (0..5).collect(),
        };
        let htlc_cases = case["HtlcDescs"].as_array().unwrap();
        htlc_txs += htlc_cases.len();
        let commitment = Case {
            name: case["Name"].as_str().unwrap(),
            kind: CommitmentType::Anchors,
            dust_limit: case["DustLimitSatoshis"].as_u64().unwrap(),
            feerate: case["FeePerKw"].as_u64().unwrap(),
            to_local: case["LocalBalance"].as_u64().unwrap(),
            to_remote: case["RemoteBalance"].as_u64().unwrap(),
            htlcs: fixture.htlcs_by_id(ids),
            remote_signature: hex_field(case, "RemoteSigHex"),
            commitment_tx: hex_field(case, "ExpectedCommitmentTxHex"),
            htlc_txs: htlc_cases
                .iter()
                .map(|tx| (hex_field(tx, "RemoteSigHex"), hex_field(tx, "ResolutionTxHex")))
                .collect(),
        }
        .check(&fixture);
        assert_eq!(commitment.txid.to_string(), case["CommitmentTxid"].as_str().unwrap());
    }
    println!("BOLT 3 appendix F: {} commitments, {htlc_txs} HTLC transactions", cases.len());
    assert_eq!((cases.len(), htlc_txs), (9, 15));
}
