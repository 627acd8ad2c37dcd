use bitcoin::secp256k1::{Message, schnorr::Signature};
use serde_json::Value;

use super::*;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn array32(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn at<'a>(list: &'a Value, index: &Value) -> &'a Value {
    &list[usize::try_from(index.as_u64().unwrap()).unwrap()]
}

fn picked(list: &Value, indices: &Value) -> Vec<Vec<u8>> {
    indices.as_array().unwrap().iter().map(|index| bytes(at(list, index))).collect()
}

fn keys(list: &Value, indices: &Value) -> Option<Vec<PublicKey>> {
    picked(list, indices).iter().map(|key| PublicKey::from_slice(key).ok().filter(|_| key.len() == 33)).collect()
}

fn nonces(list: &Value, indices: &Value) -> Result<Vec<PublicNonce>, Musig2Error> {
    picked(list, indices).iter().map(|nonce| PublicNonce::of_signer(nonce)).collect()
}

fn tweaked(context: KeyContext, all: &Value, case: &Value) -> Result<KeyContext, Musig2Error> {
    let tweaks = picked(all, &case["tweak_indices"]);
    let x_only = case["is_xonly"].as_array().unwrap().iter().map(|one| one.as_bool().unwrap());
    tweaks
        .into_iter()
        .zip(x_only)
        .try_fold(context, |context, (tweak, is_x_only)| context.tweaked(&tweak.try_into().unwrap(), is_x_only))
}

fn cases<'a>(vectors: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let list = vectors[name].as_array().unwrap();
    assert!(!list.is_empty());
    list.iter()
}

fn secret_nonce(value: &Value) -> Option<SecretNonce> {
    let bytes = bytes(value);
    let key = |from: usize| SecretKey::from_slice(&bytes[from..from + 32]).ok();
    Some(SecretNonce { first: key(0)?, second: key(32)? })
}

#[test]
fn keys_are_sorted_and_aggregated_as_bip_327_says() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/key_sort.json")).unwrap();
    let parse = |list: &Value| -> Vec<PublicKey> {
        list.as_array().unwrap().iter().map(|key| PublicKey::from_slice(&bytes(key)).unwrap()).collect()
    };
    let mut sorted = parse(&vectors["pubkeys"]);
    sort(&mut sorted);
    assert_eq!(sorted, parse(&vectors["sorted_pubkeys"]));

    let vectors: Value = serde_json::from_str(include_str!("vectors/key_agg.json")).unwrap();
    for case in cases(&vectors, "valid_test_cases") {
        let context = KeyContext::new(&keys(&vectors["pubkeys"], &case["key_indices"]).unwrap()).unwrap();
        assert_eq!(context.x_only().serialize().to_vec(), bytes(&case["expected"]));
    }
    for case in cases(&vectors, "error_test_cases") {
        let made = keys(&vectors["pubkeys"], &case["key_indices"])
            .ok_or(Musig2Error::Keys)
            .and_then(|keys| tweaked(KeyContext::new(&keys)?, &vectors["tweaks"], case));
        assert!(made.is_err(), "{case}");
    }
}

#[test]
fn nonces_are_made_and_aggregated_as_bip_327_says() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/nonce_gen.json")).unwrap();
    for case in cases(&vectors, "test_cases") {
        let some = |name: &str| (!case[name].is_null()).then(|| bytes(&case[name]));
        let secret = some("sk").map(|secret| SecretKey::from_slice(&secret).unwrap());
        let public = PublicKey::from_slice(&bytes(&case["pk"])).unwrap();
        let (aggregate, extra) = (some("aggpk").unwrap_or_default(), some("extra_in").unwrap_or_default());
        let message = some("msg");
        let random = array32(&case["rand_"]);
        let made = SecretNonce::generate(&random, secret.as_ref(), &public, &aggregate, message.as_deref(), &extra);
        let made = made.unwrap_or_else(|error| panic!("{error}"));
        let expected = bytes(&case["expected_secnonce"]);
        assert_eq!(made.first.secret_bytes(), expected[..32]);
        assert_eq!(made.second.secret_bytes(), expected[32..64]);
        assert_eq!(made.public().bytes().to_vec(), bytes(&case["expected_pubnonce"]));
    }
    let vectors: Value = serde_json::from_str(include_str!("vectors/nonce_agg.json")).unwrap();
    for case in cases(&vectors, "valid_test_cases") {
        let nonces = nonces(&vectors["pnonces"], &case["pnonce_indices"]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(PublicNonce::aggregate(&nonces).bytes().to_vec(), bytes(&case["expected"]));
    }
    for case in cases(&vectors, "error_test_cases") {
        assert!(nonces(&vectors["pnonces"], &case["pnonce_indices"]).is_err(), "{case}");
    }
}

#[test]
fn partial_signatures_are_those_of_bip_327_and_wrong_ones_are_told() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/sign_verify.json")).unwrap();
    let secret = SecretKey::from_slice(&bytes(&vectors["sk"])).unwrap();
    let session = |case: &Value| {
        let keys = keys(&vectors["pubkeys"], &case["key_indices"]).unwrap();
        let aggregate = PublicNonce::aggregate_of_bytes(&bytes(at(&vectors["aggnonces"], &case["aggnonce_index"])));
        Session::new(KeyContext::new(&keys)?, &aggregate?, &bytes(at(&vectors["msgs"], &case["msg_index"])))
    };
    for case in cases(&vectors, "valid_test_cases") {
        let session = session(case).unwrap_or_else(|error| panic!("{error}"));
        let nonce = secret_nonce(&vectors["secnonces"][0]).unwrap();
        let (told, public) = (nonce.public(), secret.public_key(SECP256K1));
        let signed = session.sign(nonce, &secret).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(signed.bytes().to_vec(), bytes(&case["expected"]));
        assert!(session.is_valid(&signed, &told, &public));
    }
    for case in cases(&vectors, "sign_error_test_cases") {
        let made = keys(&vectors["pubkeys"], &case["key_indices"]).ok_or(Musig2Error::Keys).and_then(|_| {
            let nonce = secret_nonce(at(&vectors["secnonces"], &case["secnonce_index"])).ok_or(Musig2Error::Nonce)?;
            session(case)?.sign(nonce, &secret)
        });
        assert!(made.is_err(), "{case}");
    }
    for case in cases(&vectors, "verify_fail_test_cases") {
        let Ok(signature) = PartialSignature::of_bytes(&bytes(&case["sig"])) else { continue };
        let keys = keys(&vectors["pubkeys"], &case["key_indices"]).unwrap();
        let nonces = nonces(&vectors["pnonces"], &case["nonce_indices"]).unwrap_or_else(|error| panic!("{error}"));
        let message = bytes(at(&vectors["msgs"], &case["msg_index"]));
        let context = KeyContext::new(&keys).unwrap_or_else(|error| panic!("{error}"));
        let session = Session::new(context, &PublicNonce::aggregate(&nonces), &message).unwrap();
        let signer = usize::try_from(case["signer_index"].as_u64().unwrap()).unwrap();
        assert!(!session.is_valid(&signature, &nonces[signer], &keys[signer]), "{case}");
    }
}

#[test]
fn tweaked_keys_sign_as_bip_327_says() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/tweak.json")).unwrap();
    let secret = SecretKey::from_slice(&bytes(&vectors["sk"])).unwrap();
    let aggregate = PublicNonce::aggregate_of_bytes(&bytes(&vectors["aggnonce"])).unwrap();
    let signed = |case: &Value| {
        let keys = keys(&vectors["pubkeys"], &case["key_indices"]).unwrap();
        let context = tweaked(KeyContext::new(&keys)?, &vectors["tweaks"], case)?;
        let nonce = secret_nonce(&vectors["secnonce"]).unwrap();
        Session::new(context, &aggregate, &bytes(&vectors["msg"]))?.sign(nonce, &secret)
    };
    for case in cases(&vectors, "valid_test_cases") {
        let signed = signed(case).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(signed.bytes().to_vec(), bytes(&case["expected"]), "{case}");
    }
    for case in cases(&vectors, "error_test_cases") {
        assert!(signed(case).is_err(), "{case}");
    }
}

#[test]
fn the_signature_of_all_is_one_of_bip_340() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/sig_agg.json")).unwrap();
    let message = bytes(&vectors["msg"]);
    for case in cases(&vectors, "valid_test_cases") {
        let keys = keys(&vectors["pubkeys"], &case["key_indices"]).unwrap();
        let context = tweaked(KeyContext::new(&keys).unwrap(), &vectors["tweaks"], case).unwrap();
        let nonces = nonces(&vectors["pnonces"], &case["nonce_indices"]).unwrap_or_else(|error| panic!("{error}"));
        let aggregate = PublicNonce::aggregate(&nonces);
        assert_eq!(aggregate.bytes().to_vec(), bytes(&case["aggnonce"]));
        let key = context.x_only();
        let parts: Vec<PartialSignature> = picked(&vectors["psigs"], &case["psig_indices"])
            .iter()
            .map(|part| PartialSignature::of_bytes(part).unwrap_or_else(|error| panic!("{error}")))
            .collect();
        let signature = Session::new(context, &aggregate, &message).unwrap().aggregate(&parts);
        assert_eq!(signature.to_vec(), bytes(&case["expected"]), "{case}");
        let signature = Signature::from_slice(&signature).unwrap();
        SECP256K1.verify_schnorr(&signature, &Message::from_digest(message.clone().try_into().unwrap()), &key).unwrap();
    }
    for case in cases(&vectors, "error_test_cases") {
        let mut parts = picked(&vectors["psigs"], &case["psig_indices"]).into_iter();
        assert!(parts.any(|part| PartialSignature::of_bytes(&part).is_err()), "{case}");
    }
}
