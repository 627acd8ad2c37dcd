//! One pre-signed way to spend one output, and several of them in one transaction.

use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Weight, Witness,
    absolute::LockTime, ecdsa, sighash::SighashCache, transaction::Version,
};
use leyden_channels::{
    onchain::fee_at,
    tx::{CLAIM_SIGNATURE_LEN, ClaimPath},
    types::FeeratePerKw,
};
use secp256k1::{Message, ecdsa::Signature};

/// The rate at which each claim pays for itself unless the client says otherwise: 10 sat/vB, LND's default.
pub const DEFAULT_SWEEP_FEERATE: FeeratePerKw = FeeratePerKw(2_500);

/// The frame of a transaction of one input and one output: version, lock time and both counts at four, marker and flag.
const FRAME: u64 = (4 + 4 + 1 + 1) * 4 + 2;
/// Outpoint, empty script, sequence.
const INPUT: u64 = (36 + 1 + 4) * 4;

/// An output on the chain, the way in which the client's signature spends it, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Which output.
    pub outpoint: OutPoint,
    /// The output as the chain has it.
    pub output: TxOut,
    /// `None` for a P2WPKH.
    pub witness_script: Option<ScriptBuf>,
    /// By which branch of its script.
    pub path: ClaimPath,
    /// What the client signed for.
    pub to: TxOut,
}

impl Sweep {
    /// A sweep of `output`; `None` where it is not worth one, at any rate that relays.
    pub fn new(
        outpoint: OutPoint,
        output: TxOut,
        witness_script: Option<ScriptBuf>,
        path: ClaimPath,
        (script, feerate): (&ScriptBuf, FeeratePerKw),
    ) -> Option<Self> {
        let to = TxOut { value: Amount::ZERO, script_pubkey: script.clone() };
        let mut sweep = Self { outpoint, output, witness_script, path, to };
        sweep.to.value = sweep.output_value(feerate)?;
        Some(sweep)
    }

    /// What its output has: the input less a whole transaction's fee at `feerate`, but not less than is relayed; `None`
    /// where even the lowest rate that relays leaves dust. Client and tower compute it alike, so it travels nowhere.
    pub fn output_value(&self, feerate: FeeratePerKw) -> Option<Amount> {
        let dust = self.to.script_pubkey.minimal_non_dust();
        let left = |rate: FeeratePerKw| self.output.value.checked_sub(fee_at(rate, self.weight_alone()));
        left(FeeratePerKw::FLOOR).filter(|left| *left >= dust)?;
        Some(left(feerate).unwrap_or(Amount::ZERO).max(dust))
    }

    /// What the tower may spend of it: the input less the output that the client signed for.
    pub fn slack(&self) -> Amount {
        self.output.value.checked_sub(self.to.value).unwrap_or(Amount::ZERO)
    }

    /// Its input and its output, with a signature of low R: of others half are a byte of witness longer.
    pub fn weight(&self) -> Weight {
        let witness = self.path.witness(self.witness_script.as_ref(), &[0; CLAIM_SIGNATURE_LEN]);
        Weight::from_wu(INPUT.saturating_add(witness.size() as u64)) + self.to.weight()
    }

    fn weight_alone(&self) -> Weight {
        self.weight() + Weight::from_wu(FRAME)
    }

    /// Of the input: a delay, or what replace-by-fee wants.
    pub fn sequence(&self) -> Sequence {
        self.path.sequence()
    }

    /// What the client signs.
    pub fn sighash(&self) -> Option<Message> {
        let tx = joined([(self, Witness::new())], &[]);
        let mut cache = SighashCache::new(&tx);
        let (kind, value) = (EcdsaSighashType::SinglePlusAnyoneCanPay, self.output.value);
        match &self.witness_script {
            Some(script) => cache.p2wsh_signature_hash(0, script, value, kind).ok().map(Message::from),
            None => cache.p2wpkh_signature_hash(0, &self.output.script_pubkey, value, kind).ok().map(Message::from),
        }
    }

    /// The input's witness with this signature, for SIGHASH_SINGLE | ANYONECANPAY.
    pub fn witness(&self, signature: Signature) -> Witness {
        let signature = ecdsa::Signature { signature, sighash_type: EcdsaSighashType::SinglePlusAnyoneCanPay };
        self.path.witness(self.witness_script.as_ref(), &signature.serialize())
    }
}

/// One transaction of these sweeps, each input with its output at the same place, and of what else is paid.
pub fn joined<'a>(sweeps: impl IntoIterator<Item = (&'a Sweep, Witness)>, more: &[TxOut]) -> Transaction {
    let (input, output): (Vec<TxIn>, Vec<TxOut>) = sweeps
        .into_iter()
        .map(|(sweep, witness)| {
            let (previous_output, sequence) = (sweep.outpoint, sweep.sequence());
            (TxIn { previous_output, script_sig: ScriptBuf::new(), sequence, witness }, sweep.to.clone())
        })
        .unzip();
    let output = output.into_iter().chain(more.iter().cloned()).collect();
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}
