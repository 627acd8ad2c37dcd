//! An exchange: coins, customers who withdraw, and books about whom it has paid.

use bitcoin::{
    Address, Amount, CompressedPublicKey, EcdsaSighashType, Network, NetworkKind, OutPoint, PrivateKey, ScriptBuf,
    Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime,
    hashes::Hash as _,
    script::PushBytesBuf,
    secp256k1::{Message, SECP256K1, SecretKey, ecdsa::Signature},
    sighash::SighashCache,
    transaction,
};
use serde_json::{Value, json};

use super::{LabError, chain::Chain};

/// What each withdrawal pays to miners.
const FEE: Amount = Amount::from_sat(1_000);
/// Blocks after which a transaction that is in none of them counts as failed.
pub const PATIENCE: u32 = 6;

/// The form of the outputs that an exchange keeps its coins in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Pay-to-public-key-hash: the signature is in the input script, which is part of what the transaction id hashes.
    P2pkh,
    /// Its SegWit twin: the signature is in the witness, which is not.
    P2wpkh,
}

impl Form {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::P2pkh => "P2PKH",
            Self::P2wpkh => "P2WPKH",
        }
    }
}

/// How an exchange finds out whether a withdrawal has been paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bookkeeping {
    /// Is the transaction that was sent in a block?
    ByTxid,
    /// Is the output that was to be spent spent, and does what spends it pay the customer?
    ByOutpoint,
}

impl Bookkeeping {
    /// As the books are headed.
    pub fn name(self) -> &'static str {
        match self {
            Self::ByTxid => "by txid",
            Self::ByOutpoint => "by outpoint",
        }
    }
}

/// One line of the books.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The transaction that was sent.
    pub sent: String,
    /// The output that it spends.
    pub spends: OutPoint,
    /// What the exchange came to believe.
    pub verdict: Verdict,
}

/// What an exchange believes of a transaction that it has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It waits for a block.
    Waits,
    /// The customer has been paid, by this transaction.
    Paid(String),
    /// The transaction is in no block: the exchange believes that it failed.
    Failed,
}

/// A coin that has not been spent, with its amount.
pub type ExchangeCoin = (OutPoint, TxOut);

/// An exchange that owes one customer one withdrawal.
pub struct Exchange {
    /// How it finds out what has been paid.
    pub bookkeeping: Bookkeeping,
    /// The form of its coins.
    pub form: Form,
    key: PrivateKey,
    coins: Vec<ExchangeCoin>,
    /// The customer's output script, which nobody else uses.
    pub customer: ScriptBuf,
    /// What the customer has asked for.
    pub owed: Amount,
    /// The books.
    pub books: Vec<Entry>,
}

impl Exchange {
    /// With fresh keys and no coins yet.
    pub fn new(bookkeeping: Bookkeeping, form: Form, owed: Amount) -> Result<Self, LabError> {
        let fresh = || SecretKey::from_slice(&rand::random::<[u8; 32]>()).map_err(|error| LabError::of("a key", error));
        let key = PrivateKey { compressed: true, network: NetworkKind::Test, inner: fresh()? };
        let customer = CompressedPublicKey(fresh()?.public_key(SECP256K1));
        let customer = ScriptBuf::new_p2wpkh(&customer.wpubkey_hash());
        Ok(Self { bookkeeping, form, key, coins: Vec::new(), customer, owed, books: Vec::new() })
    }

    fn public_key(&self) -> CompressedPublicKey {
        CompressedPublicKey(self.key.inner.public_key(SECP256K1))
    }

    /// Where it takes coins in.
    pub fn address(&self) -> Address {
        match self.form {
            Form::P2pkh => Address::p2pkh(self.public_key(), Network::Regtest),
            Form::P2wpkh => Address::p2wpkh(&self.public_key(), Network::Regtest),
        }
    }

    /// Takes a coin in.
    pub fn deposit(&mut self, coin: ExchangeCoin) {
        self.coins.push(coin);
    }

    /// Signs a payment to the customer with a coin that it has not used yet, and writes it into the books.
    pub fn withdraw(&mut self) -> Result<(Transaction, TxOut), LabError> {
        let none = || LabError::Failed("the exchange has no coins left".to_owned());
        let (outpoint, spent) = self.coins.pop().ok_or_else(none)?;
        let change = spent.value.checked_sub(self.owed).and_then(|left| left.checked_sub(FEE)).ok_or_else(none)?;
        let mut payment = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { previous_output: outpoint, sequence: Sequence::MAX, ..TxIn::default() }],
            output: vec![
                TxOut { value: self.owed, script_pubkey: self.customer.clone() },
                TxOut { value: change, script_pubkey: spent.script_pubkey.clone() },
            ],
        };
        let mut digests = SighashCache::new(&payment);
        let all = EcdsaSighashType::All;
        let digest = match self.form {
            Form::P2pkh => digests
                .legacy_signature_hash(0, &spent.script_pubkey, all.to_u32())
                .map(|hash| hash.to_byte_array())
                .map_err(|error| LabError::of("a digest", error))?,
            Form::P2wpkh => digests
                .p2wpkh_signature_hash(0, &spent.script_pubkey, spent.value, all)
                .map(|hash| hash.to_byte_array())
                .map_err(|error| LabError::of("a digest", error))?,
        };
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest(digest), &self.key.inner);
        put_signature(&mut payment, self.form, &signature, &self.public_key())?;
        self.books.push(Entry { sent: payment.compute_txid().to_string(), spends: outpoint, verdict: Verdict::Waits });
        Ok((payment, spent))
    }

    /// Looks at the chain, [`PATIENCE`] blocks after the last payment, and says whether the customer has to be paid again.
    pub async fn judge(&mut self, chain: &Chain<'_>) -> Result<bool, LabError> {
        let Some(entry) = self.books.last_mut() else { return Ok(true) };
        entry.verdict = match self.bookkeeping {
            Bookkeeping::ByTxid => match chain.is_confirmed(&entry.sent).await? {
                true => Verdict::Paid(entry.sent.clone()),
                false => Verdict::Failed,
            },
            Bookkeeping::ByOutpoint => match chain.spender(entry.spends).await? {
                Some(spender) if pays(&spender, &self.customer, self.owed) => {
                    Verdict::Paid(spender.compute_txid().to_string())
                }
                Some(_) | None => Verdict::Failed,
            },
        };
        Ok(entry.verdict == Verdict::Failed)
    }

    /// What it believes that the customer has got.
    pub fn believes_paid(&self) -> Amount {
        let paid = self.books.iter().filter(|entry| matches!(entry.verdict, Verdict::Paid(_))).count();
        self.owed * u64::try_from(paid).unwrap_or(u64::MAX)
    }

    /// The books, for programs.
    pub fn value(&self) -> Value {
        let entries = self.books.iter().map(|entry| {
            let (verdict, by) = match &entry.verdict {
                Verdict::Waits => ("waits", None),
                Verdict::Paid(by) => ("paid", Some(by)),
                Verdict::Failed => ("failed", None),
            };
            json!({ "sent": entry.sent, "spends": entry.spends.to_string(), "verdict": verdict, "paid_by": by })
        });
        json!(entries.collect::<Vec<_>>())
    }
}

fn pays(transaction: &Transaction, to: &ScriptBuf, amount: Amount) -> bool {
    transaction.output.iter().any(|output| output.script_pubkey == *to && output.value == amount)
}

/// Puts a signature with its key where the form wants them.
pub fn put_signature(
    transaction: &mut Transaction,
    form: Form,
    signature: &Signature,
    key: &CompressedPublicKey,
) -> Result<(), LabError> {
    let Some(input) = transaction.input.first_mut() else { return Ok(()) };
    let mut bytes = signature.serialize_der().to_vec();
    bytes.push(EcdsaSighashType::All as u8);
    match form {
        Form::P2pkh => {
            let bytes = PushBytesBuf::try_from(bytes).map_err(|error| LabError::of("a signature", error))?;
            input.script_sig =
                bitcoin::script::Builder::new().push_slice(bytes).push_slice(key.to_bytes()).into_script();
        }
        Form::P2wpkh => input.witness = Witness::from_slice(&[bytes, key.to_bytes().to_vec()]),
    }
    Ok(())
}
