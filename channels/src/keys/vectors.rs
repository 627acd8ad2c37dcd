//! BOLT 3's appendices D (per-commitment secrets) and E (key derivation).

use secp256k1::{PublicKey, SecretKey};

use super::*;
use crate::{
    types::CommitmentNumber,
    vectors::{bytes32_field, hex_field, json},
};

const FIRST_INDEX: u64 = (1 << 48) - 1;

fn number_of(index: &serde_json::Value) -> CommitmentNumber {
    CommitmentNumber(FIRST_INDEX - index.as_u64().unwrap())
}

#[test]
fn secrets_are_generated_as_in_appendix_d() {
    let Some(vectors) = json("lightning/bolt03/appendix_d_per_commitment_secrets.json") else { return };
    let cases = vectors["generation"].as_array().unwrap();
    for case in cases {
        let secret = per_commitment_secret(&bytes32_field(case, "seed"), number_of(&case["index"]));
        assert_eq!(secret.0, bytes32_field(case, "output"), "{}", case["name"]);
    }
    println!("BOLT 3 appendix D, generation: {} cases", cases.len());
    assert_eq!(cases.len(), 5);
}

#[test]
fn secrets_are_stored_and_refused_as_in_appendix_d() {
    let Some(vectors) = json("lightning/bolt03/appendix_d_per_commitment_secrets.json") else { return };
    let cases = vectors["storage"].as_array().unwrap();
    let mut inserts = 0;
    for case in cases {
        let mut secrets = PerCommitmentSecrets::default();
        let mut accepted = Vec::new();
        for insert in case["inserts"].as_array().unwrap() {
            let (number, secret) = (number_of(&insert["index"]), bytes32_field(insert, "secret"));
            let result = secrets.insert(number, PerCommitmentSecret(secret));
            assert_eq!(result.is_ok(), insert["ok"].as_bool().unwrap(), "{}: {result:?}", case["name"]);
            if result.is_ok() {
                accepted.push((number, secret));
            }
            inserts += 1;
        }
        // A list that was never refused gives back every secret.
        if accepted.len() == case["inserts"].as_array().unwrap().len() {
            for (number, secret) in accepted {
                assert_eq!(secrets.get(number), Some(PerCommitmentSecret(secret)));
            }
        }
    }
    println!("BOLT 3 appendix D, storage: {} cases, {inserts} inserts", cases.len());
    assert_eq!((cases.len(), inserts), (9, 56));
}

#[test]
fn keys_are_derived_as_in_appendix_e() {
    let Some(vectors) = json("lightning/bolt03/appendix_e_key_derivation.json") else { return };
    let vector = &vectors["vector"];
    let point = |key| PublicKey::from_slice(&hex_field(vector, key)).unwrap();
    let secret = |key| SecretKey::from_slice(&hex_field(vector, key)).unwrap();
    let (base, base_secret) = (point("base_point"), secret("base_secret"));
    let per_commitment_secret = PerCommitmentSecret(bytes32_field(vector, "per_commitment_secret"));
    let per_commitment_point = per_commitment_secret.point().unwrap();
    assert_eq!(base_secret.public_key(secp()), base);
    assert_eq!(per_commitment_point, point("per_commitment_point"));
    assert_eq!(derive_public_key(&per_commitment_point, &base).unwrap(), point("localpubkey"));
    assert_eq!(derive_secret_key(&per_commitment_point, &base, &base_secret).unwrap(), secret("localprivkey"));
    assert_eq!(derive_revocation_public_key(&per_commitment_point, &base).unwrap(), point("revocationpubkey"));
    assert_eq!(
        derive_revocation_secret_key(&per_commitment_secret, &base, &base_secret).unwrap(),
        secret("revocationprivkey")
    );
    println!("BOLT 3 appendix E: 4 derivations");
}
