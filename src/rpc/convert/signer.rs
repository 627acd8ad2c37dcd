//! Keys that are lent to programs, and what they have signed.

use bitcoin::{
    Address, Amount, ScriptBuf, Transaction, TxOut, Witness,
    secp256k1::{PublicKey, SecretKey, XOnlyPublicKey},
};
use leyden_proto::{signrpc, walletrpc};

use super::edge;
use crate::{
    api::{
        ApiError, CoinToSign, CombinedKey, Digest, Form, KeyChoice, KeyLocator, KeyTweak, NetworkInfo,
        OpenSigningSession, OutputToSign, PUBLIC_NONCE, SessionId, SignWithKey, SigningSession, Spend, Tweaks,
    },
    wallet::signing,
};

/// Signatures that one request may ask for: each is a hash of the whole transaction at worst.
const MAX_SIGNATURES: usize = 1_000;

/// A message that is signed or verified.
fn message(field: &str, message: Vec<u8>) -> Result<Vec<u8>, ApiError> {
    if message.is_empty() {
        Err(ApiError::invalid(format!("a message to {field} MUST be passed in")))
    } else {
        Ok(message)
    }
}

pub(crate) fn locator(locator: &signrpc::KeyLocator) -> Result<KeyLocator, ApiError> {
    let number = |field, number: i32| {
        u32::try_from(number).map_err(|_| edge::wrong(field, format!("{number} is negative; keys are counted from 0")))
    };
    Ok(KeyLocator { family: number("key_family", locator.key_family)?, index: number("key_index", locator.key_index)? })
}

pub(crate) fn family(request: &walletrpc::KeyReq) -> Result<u32, ApiError> {
    let key_family = request.key_family;
    Ok(locator(&signrpc::KeyLocator { key_family, key_index: 0 })?.family)
}

pub(crate) fn descriptor(at: KeyLocator, key: &PublicKey) -> Result<signrpc::KeyDescriptor, ApiError> {
    let number = |number: u32| i32::try_from(number).map_err(|error| ApiError::internal(error.to_string()));
    Ok(signrpc::KeyDescriptor {
        raw_key_bytes: key.serialize().to_vec(),
        key_loc: Some(signrpc::KeyLocator { key_family: number(at.family)?, key_index: number(at.index)? }),
    })
}

fn compressed(bytes: &[u8]) -> Result<PublicKey, ApiError> {
    let key = PublicKey::from_slice(bytes).ok().filter(|_| bytes.len() == 33);
    key.ok_or_else(|| ApiError::invalid("pubkey must be serialized in compressed format if specified"))
}

/// Which key is meant: the one at a place, or the one that is named, in that place's family.
fn choice(descriptor: &signrpc::KeyDescriptor) -> Result<KeyChoice, ApiError> {
    let at = descriptor.key_loc.as_ref().map(locator).transpose()?;
    match (descriptor.raw_key_bytes.as_slice(), at) {
        ([], Some(at)) => Ok(KeyChoice::At(at)),
        ([], None) => Err(edge::wrong("key_desc", "give key_loc or raw_key_bytes")),
        (bytes, at) => {
            let key = compressed(bytes)?;
            match at {
                // As DeriveKey gives it: the place is enough, if it is that key's.
                Some(at) if at.index != 0 => Ok(KeyChoice::At(at)),
                Some(KeyLocator { family, .. }) => Ok(KeyChoice::Public { family, key }),
                None => Ok(KeyChoice::Public { family: 0, key }),
            }
        }
    }
}

pub(crate) fn sign_message(request: signrpc::SignMessageReq) -> Result<SignWithKey, ApiError> {
    let refused = |text: &str| Err(ApiError::invalid(text));
    let message = message("sign", request.msg)?;
    let at = request.key_loc.as_ref().ok_or_else(|| ApiError::invalid("a key locator MUST be passed in"))?;
    if request.schnorr_sig && request.compact_sig {
        return refused("compact format can not be used for Schnorr signatures");
    }
    if !request.schnorr_sig && !request.tag.is_empty() {
        return refused("tag can only be used when the Schnorr signature option is set");
    }
    if !request.schnorr_sig && !request.schnorr_sig_tap_tweak.is_empty() {
        return refused("schnorr_sig_tap_tweak: it goes with schnorr_sig");
    }
    if request.tag.starts_with(b"BIP0340") {
        return refused("tag cannot have BIP0340 prefix");
    }
    if request.tag.starts_with(b"TapSighash") {
        return refused("tag cannot be TapSighash");
    }
    let digest = match (request.double_hash, request.tag.is_empty()) {
        (true, false) => return refused("double hash and tag can't be set at the same time"),
        (true, true) => Digest::Double,
        (false, true) => Digest::Single,
        (false, false) => Digest::Tagged(request.tag),
    };
    let form = match (request.schnorr_sig, request.compact_sig) {
        (true, _) => Form::Schnorr { tweak: request.schnorr_sig_tap_tweak },
        (false, true) => Form::Compact,
        (false, false) => Form::Ecdsa,
    };
    Ok(SignWithKey { at: locator(at)?, message, digest, form })
}

pub(crate) fn is_valid(request: signrpc::VerifyMessageReq) -> Result<bool, ApiError> {
    let message = message("verify", request.msg)?;
    if request.signature.is_empty() {
        return Err(ApiError::invalid("a signature to verify MUST be passed in"));
    }
    if request.pubkey.is_empty() {
        return Err(ApiError::invalid("a pubkey to verify MUST be passed in"));
    }
    if !request.is_schnorr_sig && !request.tag.is_empty() {
        return Err(ApiError::invalid("tag can only be used when the Schnorr signature option is set"));
    }
    let no_key = |error| ApiError::invalid(format!("unable to parse pubkey: {error}"));
    let valid = if request.is_schnorr_sig {
        let key = XOnlyPublicKey::from_slice(&request.pubkey).map_err(no_key)?;
        let digest = if request.tag.is_empty() { Digest::Single } else { Digest::Tagged(request.tag) };
        signing::verify_schnorr(&key, &message, &request.signature, &digest)
    } else {
        let key = PublicKey::from_slice(&request.pubkey).map_err(no_key)?;
        signing::verify_ecdsa(&key, &message, &request.signature)
    };
    valid.ok_or_else(|| {
        let length = request.signature.len();
        ApiError::invalid(format!(
            "failed to decode signature: {length} bytes that are none: DER for ECDSA, 64 bytes for Schnorr"
        ))
    })
}

#[allow(deprecated)] // `key_loc` is still sent by clients.
pub(crate) fn shared_key(request: &signrpc::SharedKeyRequest) -> Result<(KeyChoice, PublicKey), ApiError> {
    if request.ephemeral_pubkey.is_empty() {
        return Err(ApiError::invalid("must provide ephemeral pubkey"));
    }
    let other = compressed(&request.ephemeral_pubkey)
        .map_err(|error| ApiError::invalid(format!("error in ephemeral pubkey: {error}")))?;
    let key = match (&request.key_desc, &request.key_loc) {
        (Some(_), Some(_)) => return Err(ApiError::invalid("use either key_desc or key_loc")),
        (None, None) => KeyChoice::At(KeyLocator::NODE),
        (None, Some(at)) => KeyChoice::At(locator(at)?),
        (Some(descriptor), None) => {
            let at = descriptor.key_loc.as_ref().ok_or_else(|| {
                ApiError::invalid("when setting key_desc the field key_desc.key_loc must also be set")
            })?;
            if !descriptor.raw_key_bytes.is_empty() && at.key_index != 0 {
                return Err(ApiError::invalid("use either raw_key_bytes or key_index"));
            }
            choice(descriptor)?
        }
    };
    Ok((key, other))
}

fn output(field: &str, output: &signrpc::TxOut) -> Result<TxOut, ApiError> {
    let value: Amount = edge::amount(field, output.value)?;
    Ok(TxOut { value, script_pubkey: ScriptBuf::from_bytes(output.pk_script.clone()) })
}

pub(crate) fn outputs(field: &str, list: &[signrpc::TxOut]) -> Result<Vec<TxOut>, ApiError> {
    list.iter().map(|one| output(field, one)).collect()
}

/// A transaction, and what its inputs spend, if that is told.
fn transaction(request: &signrpc::SignReq) -> Result<(Transaction, Vec<TxOut>), ApiError> {
    if request.raw_tx_bytes.is_empty() {
        return Err(ApiError::invalid("a transaction to sign MUST be passed in"));
    }
    match request.sign_descs.len() {
        0 => return Err(ApiError::invalid("at least one SignDescs MUST be passed in")),
        many if many > MAX_SIGNATURES => {
            return Err(edge::wrong("sign_descs", format!("{many}; at most {MAX_SIGNATURES} at a time")));
        }
        _ => {}
    }
    let transaction: Transaction = bitcoin::consensus::deserialize(&request.raw_tx_bytes)
        .map_err(|error| ApiError::invalid(format!("unable to decode tx: {error}")))?;
    let spent = outputs("prev_outputs", &request.prev_outputs)?;
    if !spent.is_empty() && spent.len() != transaction.input.len() {
        let text = "provided previous outputs doesn't match number of transaction inputs";
        return Err(ApiError::invalid(text));
    }
    Ok((transaction, spent))
}

/// Of a descriptor, which input, and what it spends.
fn input(descriptor: &signrpc::SignDescriptor, spent: &[TxOut]) -> Result<(usize, TxOut), ApiError> {
    let index = descriptor.input_index;
    let input = usize::try_from(index).map_err(|_| edge::wrong("input_index", format!("{index} is negative")))?;
    let told = descriptor.output.as_ref().ok_or_else(|| edge::wrong("output", "what the input spends is needed"))?;
    let told = output("output", told)?;
    if spent.get(input).is_some_and(|other| *other != told) {
        return Err(edge::wrong("output", "it is not what prev_outputs says of this input"));
    }
    Ok((input, told))
}

pub(crate) type OutputsToSign = (Transaction, Vec<TxOut>, Vec<(KeyChoice, OutputToSign)>);

pub(crate) fn outputs_to_sign(request: &signrpc::SignReq) -> Result<OutputsToSign, ApiError> {
    let (transaction, spent) = transaction(request)?;
    let one = |descriptor: &signrpc::SignDescriptor| {
        let key = descriptor.key_desc.as_ref().ok_or_else(|| edge::wrong("key_desc", "a key is needed"))?;
        let (input, output) = input(descriptor, &spent)?;
        let spend = spend(descriptor, &output)?;
        let tweak = key_tweak(descriptor)?;
        Ok((choice(key)?, OutputToSign { input, output, spend, tweak, sighash: descriptor.sighash }))
    };
    let asked: Result<Vec<_>, ApiError> = request.sign_descs.iter().map(one).collect();
    Ok((transaction, spent.clone(), asked?))
}

fn spend(descriptor: &signrpc::SignDescriptor, output: &TxOut) -> Result<Spend, ApiError> {
    use signrpc::SignMethod;
    let method = SignMethod::try_from(descriptor.sign_method)
        .map_err(|_| ApiError::invalid(format!("unknown RPC sign method <{}>", descriptor.sign_method)))?;
    let is_taproot = method != SignMethod::WitnessV0;
    if is_taproot != output.script_pubkey.is_p2tr() {
        return Err(ApiError::invalid(format!(
            "selected sign method {} is not compatible with given pk script {:x}",
            descriptor.sign_method, output.script_pubkey
        )));
    }
    let script = || ScriptBuf::from_bytes(descriptor.witness_script.clone());
    let needs_script = |words: &str| match descriptor.witness_script.is_empty() {
        true => Err(ApiError::invalid(format!("witness script MUST be specified for {words} method"))),
        false => Ok(script()),
    };
    let tap_tweak = descriptor.tap_tweak.as_slice();
    let no_tap_tweak = || edge::refuse("tap_tweak", !tap_tweak.is_empty(), "it goes with the key spend method");
    match method {
        SignMethod::WitnessV0 => {
            no_tap_tweak()?;
            Ok(Spend::WitnessV0(needs_script("segwit v0 sign")?))
        }
        SignMethod::TaprootKeySpendBip0086 if !tap_tweak.is_empty() => {
            Err(ApiError::invalid("tap tweak must be empty for BIP0086 key spend"))
        }
        SignMethod::TaprootKeySpendBip0086 => Ok(Spend::KeyPath(Vec::new())),
        SignMethod::TaprootKeySpend if tap_tweak.len() != 32 => {
            Err(ApiError::invalid("tap tweak must be specified for key spend with root hash"))
        }
        SignMethod::TaprootKeySpend => Ok(Spend::KeyPath(tap_tweak.to_vec())),
        SignMethod::TaprootScriptSpend => {
            no_tap_tweak()?;
            Ok(Spend::ScriptPath(needs_script("taproot script spend")?))
        }
    }
}

fn key_tweak(descriptor: &signrpc::SignDescriptor) -> Result<KeyTweak, ApiError> {
    match (descriptor.single_tweak.as_slice(), descriptor.double_tweak.as_slice()) {
        ([], []) => Ok(KeyTweak::None),
        (single, []) => Ok(KeyTweak::Single(edge::bytes32("single_tweak", single)?)),
        ([], double) => SecretKey::from_slice(double)
            .map(KeyTweak::Double)
            .map_err(|_| edge::wrong("double_tweak", "no secret key; it has 32 bytes")),
        (_, _) => Err(edge::wrong("double_tweak", "give it or single_tweak, not both")),
    }
}

pub(crate) fn coins_to_sign(
    request: &signrpc::SignReq,
) -> Result<(Transaction, Vec<TxOut>, Vec<CoinToSign>), ApiError> {
    let (transaction, spent) = transaction(request)?;
    let one = |descriptor: &signrpc::SignDescriptor| {
        let key_is_given = descriptor.key_desc.as_ref().is_some_and(|key| {
            !key.raw_key_bytes.is_empty() || key.key_loc.as_ref().is_some_and(|at| *at != Default::default())
        });
        edge::refuse("key_desc", key_is_given, "the wallet knows the keys of its coins; SignOutputRaw takes a key")?;
        let tweaked = !descriptor.single_tweak.is_empty() || !descriptor.double_tweak.is_empty();
        edge::refuse("single_tweak", tweaked, "keys of coins are not tweaked")?;
        let (input, output) = input(descriptor, &spent)?;
        Ok(CoinToSign { input, output, sighash: descriptor.sighash })
    };
    let coins: Result<Vec<_>, ApiError> = request.sign_descs.iter().map(one).collect();
    Ok((transaction, spent.clone(), coins?))
}

pub(crate) fn input_script(witness: &Witness) -> signrpc::InputScript {
    signrpc::InputScript { witness: witness.iter().map(<[u8]>::to_vec).collect(), sig_script: Vec::new() }
}

/// Address and message.
pub(crate) fn for_address(
    request: walletrpc::SignMessageWithAddrRequest,
    network: &NetworkInfo,
) -> Result<(Address, Vec<u8>), ApiError> {
    Ok((edge::address("addr", &request.addr, network)?, request.msg))
}

pub(crate) fn verified_for_address(
    request: &walletrpc::VerifyMessageWithAddrRequest,
    network: &NetworkInfo,
) -> Result<walletrpc::VerifyMessageWithAddrResponse, ApiError> {
    use base64::Engine as _;
    let signature = base64::engine::general_purpose::STANDARD
        .decode(&request.signature)
        .map_err(|error| ApiError::invalid(format!("malformed base64 encoding of the signature: {error}")))?;
    let address = edge::address("addr", &request.addr, network)?;
    let (valid, pubkey) = signing::verify_for_address(&address, &request.msg, &signature)
        .ok_or_else(|| ApiError::invalid("unable to recover public key from compact signature: it has 65 bytes"))?;
    let valid = valid.ok_or_else(|| ApiError::invalid("unsupported address type"))?;
    Ok(walletrpc::VerifyMessageWithAddrResponse { valid, pubkey })
}

// MuSig2.

fn version(version: i32) -> Result<(), ApiError> {
    use signrpc::MuSig2Version;
    match MuSig2Version::try_from(version) {
        Ok(MuSig2Version::Musig2VersionV100rc2) => Ok(()),
        Ok(MuSig2Version::Musig2VersionV040) => Err(edge::wrong(
            "version",
            "the draft of LND 0.15 (MUSIG2_VERSION_V040) is not served; ask for MUSIG2_VERSION_V100RC2",
        )),
        Ok(MuSig2Version::Musig2VersionUndefined) | Err(_) => {
            Err(ApiError::invalid(format!("error parsing version: unknown MuSig2 version: <{version}>")))
        }
    }
}

fn signers(keys: &[Vec<u8>]) -> Result<Vec<PublicKey>, ApiError> {
    let parse = |(at, bytes): (usize, &Vec<u8>)| {
        let key = PublicKey::from_slice(bytes).ok().filter(|_| bytes.len() == 33);
        key.ok_or_else(|| {
            ApiError::invalid(format!("error parsing signer public key {at} for v1.0.0rc2 (compressed format)"))
        })
    };
    keys.iter().enumerate().map(parse).collect()
}

fn tweaks(plain: &[signrpc::TweakDesc], taproot: Option<&signrpc::TaprootTweakDesc>) -> Result<Tweaks, ApiError> {
    match taproot {
        Some(_) if !plain.is_empty() => Err(edge::wrong("tweaks", "give them or taproot_tweak, not both")),
        Some(taproot) if taproot.key_spend_only => {
            edge::refuse("script_root", !taproot.script_root.is_empty(), "with key_spend_only there are no scripts")?;
            Ok(Tweaks::Taproot(Vec::new()))
        }
        Some(taproot) if taproot.script_root.is_empty() => {
            Err(ApiError::invalid("script root cannot be empty for non-keyspend"))
        }
        Some(taproot) => Ok(Tweaks::Taproot(edge::bytes32("script_root", &taproot.script_root)?.to_vec())),
        None => {
            let one = |tweak: &signrpc::TweakDesc| match tweak.tweak.as_slice() {
                [] => Err(ApiError::invalid("tweak cannot be empty")),
                bytes => Ok((edge::bytes32("tweak", bytes)?, tweak.is_x_only)),
            };
            Ok(Tweaks::Plain(plain.iter().map(one).collect::<Result<_, _>>()?))
        }
    }
}

pub(crate) fn keys_to_combine(
    request: &signrpc::MuSig2CombineKeysRequest,
) -> Result<(Vec<PublicKey>, Tweaks), ApiError> {
    version(request.version)?;
    let keys = signers(&request.all_signer_pubkeys)?;
    Ok((keys, tweaks(&request.tweaks, request.taproot_tweak.as_ref())?))
}

pub(crate) fn combined(key: &CombinedKey) -> signrpc::MuSig2CombineKeysResponse {
    signrpc::MuSig2CombineKeysResponse {
        combined_key: key.key.serialize().to_vec(),
        taproot_internal_key: key.internal.serialize().to_vec(),
        version: signrpc::MuSig2Version::Musig2VersionV100rc2.into(),
    }
}

pub(crate) fn session_to_open(request: &signrpc::MuSig2SessionRequest) -> Result<OpenSigningSession, ApiError> {
    version(request.version)?;
    let at = request.key_loc.as_ref().ok_or_else(|| ApiError::invalid("missing key_loc"))?;
    let keys = signers(&request.all_signer_pubkeys)?;
    let (given, most) = (request.other_signer_public_nonces.len(), keys.len().saturating_sub(1));
    if given > most {
        let text = format!("too many other signer public nonces, got {given} but expected a maximum of {most}");
        return Err(ApiError::invalid(text));
    }
    Ok(OpenSigningSession {
        at: locator(at)?,
        tweaks: tweaks(&request.tweaks, request.taproot_tweak.as_ref())?,
        nonces: nonces(&request.other_signer_public_nonces)?,
        keys,
    })
}

pub(crate) fn opened(session: &SigningSession, has_taproot_tweak: bool) -> signrpc::MuSig2SessionResponse {
    let internal = if has_taproot_tweak { session.key.internal.serialize().to_vec() } else { Vec::new() };
    signrpc::MuSig2SessionResponse {
        session_id: session.id.to_vec(),
        combined_key: session.key.key.serialize().to_vec(),
        taproot_internal_key: internal,
        local_public_nonces: session.nonce.to_vec(),
        have_all_nonces: session.has_all_nonces,
        version: signrpc::MuSig2Version::Musig2VersionV100rc2.into(),
    }
}

pub(crate) fn session(id: &[u8]) -> Result<SessionId, ApiError> {
    id.try_into().map_err(|_| {
        let length = id.len();
        ApiError::invalid(format!("error parsing session ID: invalid session ID size, got {length} but expected 32"))
    })
}

fn nonces(nonces: &[Vec<u8>]) -> Result<Vec<[u8; PUBLIC_NONCE]>, ApiError> {
    let one = |(at, bytes): (usize, &Vec<u8>)| {
        bytes.as_slice().try_into().map_err(|_| {
            let length = bytes.len();
            ApiError::invalid(format!(
                "error parsing other nonces: invalid public nonce at index {at}: invalid length, got {length} but \
                 expected {PUBLIC_NONCE}"
            ))
        })
    };
    nonces.iter().enumerate().map(one).collect()
}

pub(crate) fn more_nonces(
    request: &signrpc::MuSig2RegisterNoncesRequest,
) -> Result<(SessionId, Vec<[u8; PUBLIC_NONCE]>), ApiError> {
    let session = session(&request.session_id)?;
    if request.other_signer_public_nonces.is_empty() {
        return Err(ApiError::invalid(
            "error parsing other nonces: at least one other signer public nonce is required",
        ));
    }
    Ok((session, nonces(&request.other_signer_public_nonces)?))
}

pub(crate) fn combined_nonce(
    request: &signrpc::MuSig2RegisterCombinedNonceRequest,
) -> Result<(SessionId, [u8; PUBLIC_NONCE]), ApiError> {
    let session = session(&request.session_id)?;
    let nonce = request.combined_public_nonce.as_slice().try_into().map_err(|_| {
        let length = request.combined_public_nonce.len();
        ApiError::invalid(format!("invalid combined nonce length, got {length} wanted {PUBLIC_NONCE}"))
    })?;
    Ok((session, nonce))
}

pub(crate) fn digest(request: &signrpc::MuSig2SignRequest) -> Result<(SessionId, [u8; 32]), ApiError> {
    let session = session(&request.session_id)?;
    let digest = request.message_digest.as_slice().try_into().map_err(|_| {
        let length = request.message_digest.len();
        ApiError::invalid(format!("invalid message digest size, got {length} but expected 32"))
    })?;
    Ok((session, digest))
}

pub(crate) fn parts(request: &signrpc::MuSig2CombineSigRequest) -> Result<(SessionId, Vec<Vec<u8>>), ApiError> {
    let session = session(&request.session_id)?;
    if request.other_partial_signatures.is_empty() {
        let text = "error parsing partial signatures: at least one partial signature is required";
        return Err(ApiError::invalid(text));
    }
    Ok((session, request.other_partial_signatures.clone()))
}
