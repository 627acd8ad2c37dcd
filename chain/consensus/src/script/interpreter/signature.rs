//! The CHECKSIG family.
//!
//! ECDSA in legacy and version 0 scripts: a bad signature is a false result, and only flags make a badly encoded one
//! a failure. Schnorr in taproot: a signature is good or empty, anything else fails the script at once.

use std::borrow::Cow;
use std::sync::LazyLock;

use bitcoin::hashes::sha256;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, VerifyOnly, XOnlyPublicKey, ecdsa, schnorr};

use super::{Execution, MAX_OPERATIONS, Version};
use crate::script::error::ScriptError;
use crate::script::flags::ScriptFlags;
use crate::script::opcodes::{Instructions, push_of};
use crate::script::sighash::{DIGEST_ONE, DigestInput, EcdsaHashType, LeafPosition, LegacyDigest, finish};
use crate::script::stack::Item;

/// The most keys of one CHECKMULTISIG.
const MAX_MULTISIG_KEYS: i64 = 20;
/// BIP 342: what each signature check takes from the budget that the witness size gives.
const WEIGHT_PER_SIGNATURE: i64 = 50;

/// Tables for verification, built once.
pub(in crate::script) static SECP: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// BIP 66: `0x30 length 0x02 length R 0x02 length S hash_type`, with R and S positive and without padding.
fn is_strict_der(signature: &[u8]) -> bool {
    if !(9..=73).contains(&signature.len()) {
        return false;
    }
    let Some((_hash_type, der)) = signature.split_last() else { return false };
    let [0x30, total, body @ ..] = der else { return false };
    if usize::from(*total) != body.len() {
        return false;
    }
    let Some(rest) = strict_integer(body) else { return false };
    strict_integer(rest).is_some_and(<[u8]>::is_empty)
}

/// Takes one DER integer off the front and gives what follows it.
fn strict_integer(bytes: &[u8]) -> Option<&[u8]> {
    let [0x02, length, rest @ ..] = bytes else { return None };
    let (integer, rest) = rest.split_at_checked(usize::from(*length))?;
    match integer {
        [] => None,
        [first, ..] if first & 0x80 != 0 => None,
        [0, second, ..] if second & 0x80 == 0 => None,
        _ => Some(rest),
    }
}

/// Whether the S value of this signature, which ends in a hash type, is the lower of the two that verify.
fn is_low_s(signature: &[u8]) -> bool {
    let Some((_hash_type, der)) = signature.split_last() else { return false };
    let Ok(parsed) = ecdsa::Signature::from_der_lax(der) else { return false };
    let mut normalized = parsed;
    normalized.normalize_s();
    normalized == parsed
}

fn check_signature_encoding(signature: &[u8], flags: ScriptFlags) -> Result<(), ScriptError> {
    const ENCODING: ScriptFlags = ScriptFlags::STRICTENC.union(ScriptFlags::DERSIG).union(ScriptFlags::LOW_S);
    let Some((hash_type, _)) = signature.split_last() else {
        // The empty signature is the short way to say "not signed".
        return Ok(());
    };
    if flags.intersects(ENCODING) && !is_strict_der(signature) {
        return Err(ScriptError::SigDer);
    }
    if flags.contains(ScriptFlags::LOW_S) && !is_low_s(signature) {
        return Err(ScriptError::SigHighS);
    }
    if flags.contains(ScriptFlags::STRICTENC) && !matches!(hash_type & !0x80, 1..=3) {
        return Err(ScriptError::SigHashType);
    }
    Ok(())
}

fn check_key_encoding(key: &[u8], flags: ScriptFlags, version: &Version) -> Result<(), ScriptError> {
    let compressed = matches!(key, [2 | 3, rest @ ..] if rest.len() == 32);
    let uncompressed = matches!(key, [4, rest @ ..] if rest.len() == 64);
    if flags.contains(ScriptFlags::STRICTENC) && !compressed && !uncompressed {
        return Err(ScriptError::PubkeyType);
    }
    if flags.contains(ScriptFlags::WITNESS_PUBKEYTYPE) && matches!(version, Version::WitnessV0) && !compressed {
        return Err(ScriptError::WitnessPubkeyType);
    }
    Ok(())
}

/// Removes every occurrence of `pattern` that starts where an opcode starts. `None` if there is none.
fn find_and_delete(script: &[u8], pattern: &[u8]) -> Option<Vec<u8>> {
    let mut kept: Option<Vec<u8>> = None;
    let mut instructions = Instructions::new(script);
    // Everything before `kept_from` is in `kept` or deleted.
    let mut kept_from = script;
    loop {
        let before = instructions.rest();
        while !pattern.is_empty() && instructions.rest().starts_with(pattern) {
            instructions.skip_bytes(pattern.len());
        }
        if instructions.rest().len() != before.len() {
            let upto = kept_from.len().saturating_sub(before.len());
            kept.get_or_insert_default().extend_from_slice(kept_from.get(..upto).unwrap_or_default());
            kept_from = instructions.rest();
        }
        if !matches!(instructions.next(), Some(Ok(_))) {
            break;
        }
    }
    if let Some(kept) = &mut kept {
        kept.extend_from_slice(kept_from);
    }
    kept
}

/// The digests that one script's signature checks have computed so far, up to their hash type. The script code
/// differs only by the code separator that it starts after; codes with a signature deleted are not kept.
#[derive(Default)]
pub(super) struct DigestCache {
    entries: [Option<(usize, sha256::HashEngine)>; EcdsaHashType::CLASSES],
}

/// The part of a script that its signatures sign.
struct ScriptCode<'s> {
    bytes: Cow<'s, [u8]>,
    /// Where in the script it starts.
    start: usize,
}

impl DigestCache {
    fn digest(
        &mut self,
        input: &DigestInput<'_>,
        code: &ScriptCode<'_>,
        hash_type: EcdsaHashType,
        version: &Version,
    ) -> [u8; 32] {
        let mut entry = match code.bytes {
            Cow::Borrowed(_) => self.entries.get_mut(hash_type.class()),
            Cow::Owned(_) => None,
        };
        if let Some(Some((start, engine))) = &entry
            && *start == code.start
        {
            return finish(engine.clone(), hash_type);
        }
        let engine = match version {
            Version::WitnessV0 => input.segwit_v0(&code.bytes, hash_type),
            Version::Legacy | Version::Tapscript(_) => match input.legacy(&code.bytes, hash_type) {
                LegacyDigest::One => return DIGEST_ONE,
                LegacyDigest::Engine(engine) => engine,
            },
        };
        if let Some(entry) = &mut entry {
            **entry = Some((code.start, engine.clone()));
        }
        finish(engine, hash_type)
    }
}

/// BIP 341 and 342: verifies a Schnorr signature of 64 bytes, or 65 with a hash type that is not the default one.
pub(in crate::script) fn check_schnorr(
    input: &DigestInput<'_>,
    signature: &[u8],
    key: &[u8],
    annex_hash: Option<&sha256::Hash>,
    leaf: Option<&LeafPosition>,
) -> Result<(), ScriptError> {
    let (signature, hash_type) = match (signature.len(), signature.split_last()) {
        (64, _) => (signature, 0),
        (65, Some((0, _))) => return Err(ScriptError::SchnorrSigHashType),
        (65, Some((hash_type, signature))) => (signature, *hash_type),
        _ => return Err(ScriptError::SchnorrSigSize),
    };
    let digest = input.taproot(hash_type, annex_hash, leaf).ok_or(ScriptError::SchnorrSigHashType)?;
    let key = XOnlyPublicKey::from_slice(key).map_err(|_| ScriptError::SchnorrSig)?;
    let signature = schnorr::Signature::from_slice(signature).map_err(|_| ScriptError::SchnorrSig)?;
    SECP.verify_schnorr(&signature, &Message::from_digest(digest), &key).map_err(|_| ScriptError::SchnorrSig)
}

impl<'s> Execution<'_, 's> {
    fn script_code(&self) -> ScriptCode<'s> {
        let start = self.code_start;
        ScriptCode { bytes: Cow::Borrowed(self.script.get(start..).unwrap_or_default()), start }
    }

    /// Legacy scripts only: a signature cannot sign itself, so its push is cut out of what is signed.
    fn delete_signature(&self, code: &mut ScriptCode<'s>, signature: &Item<'s>) -> Result<(), ScriptError> {
        if !matches!(self.version, Version::Legacy) {
            return Ok(());
        }
        // No push of a script that is shorter than the signature can hold it.
        if signature.bytes().len() < code.bytes.len()
            && let Some(deleted) = find_and_delete(&code.bytes, &push_of(signature.bytes()))
        {
            if self.flags.contains(ScriptFlags::CONST_SCRIPTCODE) {
                return Err(ScriptError::SigFindAndDelete);
            }
            code.bytes = Cow::Owned(deleted);
        }
        Ok(())
    }

    fn verify_ecdsa(&mut self, signature: &[u8], key: &[u8], code: &ScriptCode<'_>) -> bool {
        let Some((hash_type, der)) = signature.split_last() else { return false };
        let Ok(key) = PublicKey::from_slice(key) else { return false };
        // Before BIP 66 a signature could be almost any BER; the lax parser accepts what the chain contains.
        let Ok(mut signature) = ecdsa::Signature::from_der_lax(der) else { return false };
        signature.normalize_s();
        let hash_type = EcdsaHashType(u32::from(*hash_type));
        let digest = self.digests.digest(&self.input, code, hash_type, self.version);
        SECP.verify_ecdsa(&Message::from_digest(digest), &signature, &key).is_ok()
    }

    /// One signature check of any script version. `Err` fails the script, `Ok(false)` is a false result.
    fn check_signature(&mut self, signature: &Item<'s>, key: &Item<'s>) -> Result<bool, ScriptError> {
        let flags = self.flags;
        let (signature_bytes, key_bytes) = (signature.bytes(), key.bytes());
        if let Version::Tapscript(tapscript) = &mut *self.version {
            // BIP 342, in this order: budget, empty key, 32-byte key, key of a future version.
            let given = !signature_bytes.is_empty();
            if given {
                tapscript.weight_left = tapscript.weight_left.saturating_sub(WEIGHT_PER_SIGNATURE);
                if tapscript.weight_left < 0 {
                    return Err(ScriptError::TapscriptValidationWeight);
                }
            }
            match key_bytes.len() {
                0 => return Err(ScriptError::TapscriptEmptyPubkey),
                32 if given => {
                    let annex_hash = tapscript.annex_hash.as_ref();
                    check_schnorr(&self.input, signature_bytes, key_bytes, annex_hash, Some(&tapscript.position))?;
                }
                32 => {}
                _ if flags.contains(ScriptFlags::DISCOURAGE_UPGRADABLE_PUBKEYTYPE) => {
                    return Err(ScriptError::DiscourageUpgradablePubkeyType);
                }
                _ => {}
            }
            return Ok(given);
        }
        let mut code = self.script_code();
        self.delete_signature(&mut code, signature)?;
        check_signature_encoding(signature_bytes, flags)?;
        check_key_encoding(key_bytes, flags, self.version)?;
        let good = self.verify_ecdsa(signature_bytes, key_bytes, &code);
        if !good && flags.contains(ScriptFlags::NULLFAIL) && !signature_bytes.is_empty() {
            return Err(ScriptError::SigNullFail);
        }
        Ok(good)
    }

    /// `signature key -- result`
    pub(super) fn op_checksig(&mut self) -> Result<bool, ScriptError> {
        let (signature, key) = (*self.stack.top(1)?, *self.stack.top(0)?);
        let good = self.check_signature(&signature, &key)?;
        self.stack.drop_items(2)?;
        Ok(good)
    }

    /// `signature number key -- number + result` (BIP 342)
    pub(super) fn op_checksigadd(&mut self) -> Result<(), ScriptError> {
        match self.version {
            Version::Legacy | Version::WitnessV0 => return Err(ScriptError::BadOpcode),
            Version::Tapscript(_) => {}
        }
        let (signature, key) = (*self.stack.top(2)?, *self.stack.top(0)?);
        let number = self.stack.number(1, self.minimal())?;
        let good = self.check_signature(&signature, &key)?;
        self.stack.drop_items(3)?;
        self.stack.push(Item::from_number(number.saturating_add(i64::from(good))));
        Ok(())
    }

    /// `extra signature… count key… count -- result`
    ///
    /// Signatures and keys are taken from the top; both have to be in the same order. The extra item below them is
    /// removed by an oversight of the first version that became consensus.
    pub(super) fn op_checkmultisig(&mut self) -> Result<bool, ScriptError> {
        match self.version {
            Version::Legacy | Version::WitnessV0 => {}
            Version::Tapscript(_) => return Err(ScriptError::TapscriptCheckMultisig),
        }
        let flags = self.flags;
        let count = self.stack.number(0, self.minimal())?;
        let keys =
            usize::try_from(count).ok().filter(|_| count <= MAX_MULTISIG_KEYS).ok_or(ScriptError::PubkeyCount)?;
        self.operations = self.operations.saturating_add(keys);
        if self.operations > MAX_OPERATIONS {
            return Err(ScriptError::OpCount);
        }
        let count = self.stack.number(keys.saturating_add(1), self.minimal())?;
        let signatures = usize::try_from(count).ok().filter(|count| *count <= keys).ok_or(ScriptError::SigCount)?;
        let first_signature = keys.saturating_add(2);
        let extra = first_signature.saturating_add(signatures);
        self.stack.need(extra.saturating_add(1))?;

        let mut code = self.script_code();
        for position in first_signature..extra {
            let signature = *self.stack.top(position)?;
            self.delete_signature(&mut code, &signature)?;
        }

        let (mut key_position, mut signature_position) = (1usize, first_signature);
        let mut good = true;
        while good && signature_position < extra {
            let (signature, key) = (*self.stack.top(signature_position)?, *self.stack.top(key_position)?);
            check_signature_encoding(signature.bytes(), flags)?;
            check_key_encoding(key.bytes(), flags, self.version)?;
            if self.verify_ecdsa(signature.bytes(), key.bytes(), &code) {
                signature_position = signature_position.saturating_add(1);
            }
            key_position = key_position.saturating_add(1);
            // Keys are at 1..=keys. With fewer of them left than signatures, the rest need not be tried.
            let keys_left = keys.saturating_add(1).saturating_sub(key_position);
            good = extra.saturating_sub(signature_position) <= keys_left;
        }

        if !good && flags.contains(ScriptFlags::NULLFAIL) {
            for position in first_signature..extra {
                if !self.stack.top(position)?.is_empty() {
                    return Err(ScriptError::SigNullFail);
                }
            }
        }
        if flags.contains(ScriptFlags::NULLDUMMY) && !self.stack.top(extra)?.is_empty() {
            return Err(ScriptError::SigNullDummy);
        }
        self.stack.drop_items(extra.saturating_add(1))?;
        Ok(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_and_delete_matches_whole_pushes_at_opcode_boundaries() {
        let pattern = [2, 0xaa, 0xbb];
        assert_eq!(find_and_delete(&[2, 0xaa, 0xbb, 0x51], &pattern), Some(vec![0x51]));
        // Twice in a row, and again after another opcode.
        assert_eq!(find_and_delete(&[2, 0xaa, 0xbb, 2, 0xaa, 0xbb, 0x51, 2, 0xaa, 0xbb], &pattern), Some(vec![0x51]));
        // The same bytes inside a longer push are data.
        assert_eq!(find_and_delete(&[4, 2, 0xaa, 0xbb, 0, 0x51], &pattern), None);
        // The same data pushed by another opcode is another push.
        assert_eq!(find_and_delete(&[0x4c, 2, 0xaa, 0xbb], &pattern), None);
        // A match before a truncated push is deleted, the rest is kept as it is.
        assert_eq!(find_and_delete(&[2, 0xaa, 0xbb, 9, 1], &pattern), Some(vec![9, 1]));
        // The empty signature is pushed as OP_0.
        assert_eq!(find_and_delete(&[0, 0x51, 0], &push_of(&[])), Some(vec![0x51]));
    }

    #[test]
    fn strict_der_needs_exact_lengths_and_positive_unpadded_integers() {
        let good = [0x30, 6, 2, 1, 1, 2, 1, 1, 1];
        assert!(is_strict_der(&good));
        for (index, byte) in [(0, 0x31), (1, 5), (1, 7), (2, 3), (3, 0), (3, 2), (4, 0x80), (5, 3), (6, 0), (7, 0x80)] {
            let mut bad = good;
            bad[index] = byte;
            assert!(!is_strict_der(&bad), "byte {index}");
        }
        assert!(!is_strict_der(&good[..8]));
        assert!(!is_strict_der(&[0x30, 7, 2, 2, 0, 1, 2, 1, 1, 1]));
        assert!(is_strict_der(&[0x30, 7, 2, 2, 0, 0x81, 2, 1, 1, 1]));
        assert!(!is_strict_der(&[]));
    }
}
