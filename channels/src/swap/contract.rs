//! The hash-time-locked output: to one key with the secret, back to another key after a time.
//!
//! ```text
//!  OP_IF
//!      OP_SIZE 32 OP_EQUALVERIFY OP_SHA256 <hash> OP_EQUALVERIFY <redeem key>      redeem: <signature> <secret> 1
//!  OP_ELSE
//!      <expiry> OP_CHECKLOCKTIMEVERIFY OP_DROP <refund key>                        refund: <signature> <empty>
//!  OP_ENDIF
//!  OP_CHECKSIG
//! ```
//!
//! The secret's hash is SHA-256, which is what a Lightning payment hash is: one secret then serves an output and a
//! payment alike. (decred's `atomicswap` uses SHA-256, too, and hashes the keys, since its output is a P2SH of its time;
//! a P2WSH hides the keys until it is spent, so that nothing is gained by hashing them again.) The size is checked
//! because a secret that one chain takes and the other does not would be a theft: 33 bytes that one script hashes, and
//! that no push on another chain may hold.

use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness,
    absolute::LockTime,
    opcodes::all::{OP_CHECKSIG, OP_CLTV, OP_DROP, OP_ELSE, OP_ENDIF, OP_EQUALVERIFY, OP_IF, OP_SHA256, OP_SIZE},
    script::{Builder, Instruction},
    sighash::SighashCache,
    transaction::Version,
};
use leyden_consensus::locktime::LOCK_TIME_THRESHOLD;
use secp256k1::{Message, PublicKey, SecretKey};

use super::leg::Tip;
use crate::{
    keys::curve,
    tx::CLAIM_SIGNATURE_LEN,
    types::{Height, PaymentHash, PaymentPreimage, UnixTime},
};

/// Signature, secret, branch, script. A refund has no secret; more or fewer no block takes.
const REDEEM_ITEMS: usize = 4;

/// What is locked, for whom, until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contract {
    /// SHA-256 of the secret.
    pub hash: PaymentHash,
    /// Takes the coins with the secret.
    pub redeem_key: PublicKey,
    /// Takes them back after the expiry.
    pub refund_key: PublicKey,
    /// When it goes back.
    pub expiry: Expiry,
}

/// What a contract's refund waits for (BIP 65).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The refund may be in a block whose parent's median time is after this.
    Time(UnixTime),
    /// The refund may be in a block above this height.
    Height(Height),
}

/// Why something is no contract, or no spend of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum ContractError {
    #[error("this script is no swap contract of Leyden: it was altered, or made by another program")]
    Foreign,
    #[error("the expiry {0:?} is no time and no height that a transaction can be locked to")]
    Expiry(Expiry),
    #[error("the secret does not have this contract's hash")]
    WrongSecret,
    #[error("a secret has 32 bytes, not {0}")]
    SecretLength(usize),
    #[error("the key does not belong to this contract")]
    WrongKey,
    #[error("a fee of {fee} leaves nothing of {amount}")]
    Uneconomic { fee: Amount, amount: Amount },
    #[error("the contract's spend cannot be hashed for signing")]
    Sighash,
}

/// A way to spend a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// With the secret, by the redeem key.
    Redeem(PaymentPreimage),
    /// After the expiry, by the refund key.
    Refund,
}

/// A spend of a contract to be built.
#[derive(Clone, Copy, Debug)]
pub struct Spend<'a> {
    /// The contract's output.
    pub outpoint: OutPoint,
    /// What it holds.
    pub amount: Amount,
    /// The branch.
    pub path: Path,
    /// Where the coins go.
    pub to: &'a Script,
    /// What the transaction pays.
    pub fee: Amount,
}

impl Expiry {
    /// A lock time as a transaction has it: heights lie below BIP 65's threshold, times above.
    pub fn of(lock_time: u32) -> Self {
        if lock_time < LOCK_TIME_THRESHOLD {
            Self::Height(Height(lock_time))
        } else {
            Self::Time(UnixTime(u64::from(lock_time)))
        }
    }
}

impl Contract {
    /// An error if the expiry cannot be written as a lock time.
    pub fn witness_script(&self) -> Result<ScriptBuf, ContractError> {
        let expiry = self.lock_time()?;
        Ok(Builder::new()
            .push_opcode(OP_IF)
            .push_opcode(OP_SIZE)
            .push_int(32)
            .push_opcode(OP_EQUALVERIFY)
            .push_opcode(OP_SHA256)
            .push_slice(self.hash.0)
            .push_opcode(OP_EQUALVERIFY)
            .push_slice(self.redeem_key.serialize())
            .push_opcode(OP_ELSE)
            .push_int(i64::from(expiry.to_consensus_u32()))
            .push_opcode(OP_CLTV)
            .push_opcode(OP_DROP)
            .push_slice(self.refund_key.serialize())
            .push_opcode(OP_ENDIF)
            .push_opcode(OP_CHECKSIG)
            .into_script())
    }

    /// The output's script: P2WSH.
    pub fn script_pubkey(&self) -> Result<ScriptBuf, ContractError> {
        Ok(self.witness_script()?.to_p2wsh())
    }

    /// Reads a contract back from its witness script: exactly the shape above, nothing else.
    pub fn parse(script: &Script) -> Result<Self, ContractError> {
        let steps: Vec<Instruction<'_>> =
            script.instructions_minimal().collect::<Result<_, _>>().map_err(|_| ContractError::Foreign)?;
        let push = |at: usize| match steps.get(at) {
            Some(Instruction::PushBytes(bytes)) => Ok(bytes.as_bytes()),
            Some(Instruction::Op(_)) | None => Err(ContractError::Foreign),
        };
        let (hash, redeem, refund) = (push(5)?, push(7)?, push(12)?);
        let key = |bytes| PublicKey::from_slice(bytes).map_err(|_| ContractError::Foreign);
        let expiry = match steps.get(9) {
            Some(Instruction::PushBytes(bytes)) => bitcoin::script::read_scriptint_non_minimal(bytes.as_bytes()).ok(),
            // The first heights are opcodes: of no use for a contract.
            Some(Instruction::Op(_)) | None => None,
        };
        let expiry = expiry.ok_or(ContractError::Foreign)?;
        let contract = Self {
            hash: PaymentHash(hash.try_into().map_err(|_| ContractError::Foreign)?),
            redeem_key: key(redeem)?,
            refund_key: key(refund)?,
            expiry: Expiry::of(u32::try_from(expiry).map_err(|_| ContractError::Foreign)?),
        };
        // Whatever was not looked at above would show here.
        if contract.witness_script()?.as_script() == script { Ok(contract) } else { Err(ContractError::Foreign) }
    }

    fn lock_time(&self) -> Result<LockTime, ContractError> {
        let number = match self.expiry {
            Expiry::Time(time) => u32::try_from(time.0).ok().filter(|seconds| *seconds >= LOCK_TIME_THRESHOLD),
            Expiry::Height(height) => Some(height.0).filter(|height| *height < LOCK_TIME_THRESHOLD),
        };
        number.map(LockTime::from_consensus).ok_or(ContractError::Expiry(self.expiry))
    }

    /// Whether the refund may be in the block after this one.
    pub fn is_expired(&self, tip: &Tip) -> bool {
        match self.expiry {
            Expiry::Time(time) => tip.median_time > time,
            Expiry::Height(height) => tip.height >= height,
        }
    }

    /// Where a transaction pays at least `amount` to this contract.
    pub fn find_in(&self, transaction: &Transaction, amount: Amount) -> Result<Option<u32>, ContractError> {
        let script = self.script_pubkey()?;
        let found = transaction.output.iter().position(|out| out.script_pubkey == script && out.value >= amount);
        Ok(found.and_then(|index| u32::try_from(index).ok()))
    }

    /// The weight of a spend that pays to `to`, with the longest signature.
    pub fn spend_weight(&self, path: Path, to: &Script) -> Result<Weight, ContractError> {
        let spend = Spend { outpoint: OutPoint::null(), amount: Amount::MAX_MONEY, path, to, fee: Amount::ZERO };
        let mut transaction = self.unsigned(&spend)?;
        let script = self.witness_script()?;
        if let Some(input) = transaction.input.first_mut() {
            input.witness = witness(path, &[0; CLAIM_SIGNATURE_LEN], &script);
        }
        Ok(transaction.weight())
    }

    /// A signed spend: replaceable (BIP 125), one input, one output.
    pub fn spend(&self, spend: &Spend<'_>, key: &SecretKey) -> Result<Transaction, ContractError> {
        let wanted = match spend.path {
            Path::Redeem(secret) if secret.hash() != self.hash => return Err(ContractError::WrongSecret),
            Path::Redeem(_) => self.redeem_key,
            Path::Refund => self.refund_key,
        };
        if curve::public_key(key) != wanted {
            return Err(ContractError::WrongKey);
        }
        let mut transaction = self.unsigned(spend)?;
        let script = self.witness_script()?;
        let sighash = SighashCache::new(&transaction)
            .p2wsh_signature_hash(0, &script, spend.amount, EcdsaSighashType::All)
            .map_err(|_| ContractError::Sighash)?;
        let signature = curve::sign_low_r(&Message::from(sighash), key);
        let signature = bitcoin::ecdsa::Signature::sighash_all(signature).to_vec();
        if let Some(input) = transaction.input.first_mut() {
            input.witness = witness(spend.path, &signature, &script);
        }
        Ok(transaction)
    }

    fn unsigned(&self, spend: &Spend<'_>) -> Result<Transaction, ContractError> {
        let uneconomic = ContractError::Uneconomic { fee: spend.fee, amount: spend.amount };
        let value = spend.amount.checked_sub(spend.fee).filter(|value| *value >= spend.to.minimal_non_dust());
        let lock_time = match spend.path {
            Path::Redeem(_) => LockTime::ZERO,
            Path::Refund => self.lock_time()?,
        };
        Ok(Transaction {
            version: Version::TWO,
            lock_time,
            input: vec![TxIn {
                previous_output: spend.outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            }],
            output: vec![TxOut { value: value.ok_or(uneconomic)?, script_pubkey: spend.to.to_owned() }],
        })
    }

    /// The secret in a witness that spends this contract by its redeem branch; `None` for any other. The number of items says
    /// which branch it is: blocks take any false value for the branch of a refund, even one that looks like a secret of zeros.
    pub fn secret_in(&self, witness: &Witness) -> Option<PaymentPreimage> {
        let item = witness.nth(1).filter(|_| witness.len() == REDEEM_ITEMS)?;
        secret_with_hash(item, &self.hash)
    }
}

/// The secret with this hash among everything that a transaction shows.
pub fn extract_secret(transaction: &Transaction, hash: &PaymentHash) -> Option<PaymentPreimage> {
    transaction.input.iter().flat_map(|input| input.witness.iter()).find_map(|item| secret_with_hash(item, hash))
}

/// A secret as somebody has typed it.
pub fn secret_from(bytes: &[u8], hash: &PaymentHash) -> Result<PaymentPreimage, ContractError> {
    let secret = bytes.try_into().map(PaymentPreimage).map_err(|_| ContractError::SecretLength(bytes.len()))?;
    if secret.hash() == *hash { Ok(secret) } else { Err(ContractError::WrongSecret) }
}

fn secret_with_hash(item: &[u8], hash: &PaymentHash) -> Option<PaymentPreimage> {
    secret_from(item, hash).ok()
}

fn witness(path: Path, signature: &[u8], script: &Script) -> Witness {
    let mut witness = Witness::new();
    witness.push(signature);
    match path {
        Path::Redeem(secret) => {
            witness.push(secret.0);
            witness.push([1]);
        }
        Path::Refund => witness.push([]),
    }
    witness.push(script);
    witness
}
