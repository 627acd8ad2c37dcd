//! What happened to an exchange that kept its books by transaction id.
//!
//! ```text
//!   exchange ── withdrawal (r, s) ──▶ mempool ─ ─ ─ ─ ✗ its coin is spent
//!                    │
//!   attacker ── (r, n − s) ─────────▶ mempool refuses it: S is too high
//!                    └──────────────▶ a miner takes it ──▶ block: the same payment under another id
//! ```
//!
//! Both signatures are good, for whoever has one can make the other without the key. Of a P2PKH input they are part of the
//! transaction id; of a P2WPKH input they are not. A real node is asked each time; nothing here decides what is valid.

pub mod chain;
pub mod exchange;

use bitcoin::{
    Amount, CompressedPublicKey, Transaction, TxOut,
    script::Instruction,
    secp256k1::{SecretKey, ecdsa::Signature},
};
use leyden_consensus::script::{ScriptFlags, SpendingTx};

use self::{
    chain::Chain,
    exchange::{Bookkeeping, Exchange, Form, PATIENCE, put_signature},
};
use super::{LabError, miner, trace::Trace};
use crate::{cluster::DaemonProcess, demo::NOBODY};

/// What each customer withdraws.
pub const WITHDRAWAL: Amount = Amount::from_sat(10 * 100_000_000);
/// Coins of each exchange: one for the withdrawal, one to pay again.
const COINS: u32 = 2;
/// Blocks until a reward can be spent.
const MATURITY: u32 = 100;

/// What was seen with coins of both forms.
pub struct Report {
    /// One for each form.
    pub attacks: Vec<Attack>,
}

/// The same attack on two exchanges whose coins have one form.
pub struct Attack {
    /// The form of their coins.
    pub form: Form,
    /// What the exchange that keeps its books by txid sent first, and what became of it in the attacker's hands.
    pub withdrawal: Changed,
    /// The node's word when it was offered the changed transaction.
    pub refused: String,
    /// The exchanges at the end: the one that keeps its books by txid first.
    pub outcomes: Vec<Outcome>,
}

/// A transaction and what the attacker made of it.
pub struct Changed {
    /// As the exchange signed it.
    pub original: Transaction,
    /// With the other signature.
    pub changed: Transaction,
    /// The output that both spend.
    pub spent: TxOut,
}

impl Changed {
    /// How the interpreter verifies one of the two.
    pub fn trace(&self, transaction: &Transaction, flags: ScriptFlags) -> Result<Trace, LabError> {
        let spending = SpendingTx::new(transaction, vec![self.spent.clone()]);
        Ok(Trace::of(&spending.map_err(|error| LabError::of("a withdrawal", error))?, 0, flags))
    }
}

/// How it ended for one exchange.
pub struct Outcome {
    /// Its books.
    pub exchange: Exchange,
    /// What the chain says that the customer has got.
    pub received: Amount,
}

impl Outcome {
    /// What the customer got beyond what was owed.
    pub fn lost(&self) -> Amount {
        self.received.checked_sub(self.exchange.owed).unwrap_or(Amount::ZERO)
    }
}

/// Starts a node, and attacks two exchanges of each form. `note` is told what happens.
pub async fn play(mut note: impl FnMut(&str)) -> Result<Report, LabError> {
    let folder = tempfile::Builder::new().prefix("leyden-lab-").tempdir().map_err(LabError::Folder)?;
    let mut node = DaemonProcess::new(folder.path(), "node", &[])?.with_bitcoin_rpc();
    note("starting a node");
    node.start().await?;
    note("four exchanges mine coins: two of P2PKH, two of P2WPKH");
    let mut exchanges = Vec::new();
    for form in [Form::P2pkh, Form::P2wpkh] {
        for bookkeeping in [Bookkeeping::ByTxid, Bookkeeping::ByOutpoint] {
            let mut exchange = Exchange::new(bookkeeping, form, WITHDRAWAL)?;
            node.mine(COINS, Some(&exchange.address().to_string())).await?;
            let height = node.height().await?;
            for back in 0..COINS {
                exchange.deposit(Chain::of(&node).reward(height.saturating_sub(back)).await?);
            }
            exchanges.push(exchange);
        }
    }
    node.mine(MATURITY, Some(NOBODY)).await?;
    let mut attacks = Vec::new();
    while !exchanges.is_empty() {
        let pair = exchanges.drain(..2.min(exchanges.len())).collect();
        attacks.push(attack(&node, pair, &mut note).await?);
    }
    Ok(Report { attacks })
}

async fn attack(
    node: &DaemonProcess,
    mut exchanges: Vec<Exchange>,
    note: &mut impl FnMut(&str),
) -> Result<Attack, LabError> {
    let chain = Chain::of(node);
    let form = exchanges.first().map_or(Form::P2pkh, |exchange| exchange.form);
    note(&format!("{}: withdrawals are signed, changed on their way, and mined changed", form.name()));
    let mut withdrawals = Vec::new();
    let mut refused = None;
    for exchange in &mut exchanges {
        let (original, spent) = exchange.withdraw()?;
        let changed = flip(&original, form)?;
        // The attacker is the first to tell the node, or there would be another reason to refuse it.
        match chain.send(&changed).await? {
            Err(reason) => _ = refused.get_or_insert(reason),
            Ok(()) => return Err(LabError::Failed("the mempool took a signature with a high S".to_owned())),
        }
        chain.send(&original).await?.map_err(LabError::Failed)?;
        withdrawals.push(Changed { original, changed, spent });
    }
    let changed = withdrawals.iter().map(|withdrawal| withdrawal.changed.clone()).collect();
    if let Some(reason) = miner::mine_with(node, changed).await? {
        return Err(LabError::of("the block with the changed withdrawals was refused", reason));
    }
    node.mine(PATIENCE.saturating_sub(1), Some(NOBODY)).await?;
    let mut outcomes = Vec::new();
    for mut exchange in exchanges {
        if exchange.judge(&chain).await? {
            note(&format!(
                "{}: the exchange that keeps its books {} pays again",
                form.name(),
                exchange.bookkeeping.name()
            ));
            let (again, _) = exchange.withdraw()?;
            chain.send(&again).await?.map_err(LabError::Failed)?;
            node.mine(PATIENCE, Some(NOBODY)).await?;
            exchange.judge(&chain).await?;
        }
        let received = chain.received(&exchange.customer).await?;
        outcomes.push(Outcome { exchange, received });
    }
    let none = || LabError::Failed("there was no withdrawal".to_owned());
    let withdrawal = withdrawals.into_iter().next().ok_or_else(none)?;
    Ok(Attack { form, withdrawal, refused: refused.unwrap_or_default(), outcomes })
}

/// The signature and the key of a withdrawal's one input.
pub fn signature_and_key(transaction: &Transaction, form: Form) -> Result<(Signature, CompressedPublicKey), LabError> {
    let input = transaction.input.first();
    let items: Vec<Vec<u8>> = match form {
        Form::P2pkh => {
            let pushes = input.into_iter().flat_map(|input| input.script_sig.instructions());
            let data = |push| match push {
                Ok(Instruction::PushBytes(bytes)) => Some(bytes.as_bytes().to_vec()),
                Ok(Instruction::Op(_)) | Err(_) => None,
            };
            pushes.filter_map(data).collect()
        }
        Form::P2wpkh => input.map_or_else(Vec::new, |input| input.witness.to_vec()),
    };
    let [signature, key] = items.as_slice() else {
        return Err(LabError::Failed("a withdrawal has a signature and a key".to_owned()));
    };
    let (_, der) = signature.split_last().ok_or_else(|| LabError::Failed("an empty signature".to_owned()))?;
    let signature = Signature::from_der(der).map_err(|error| LabError::of("a signature", error))?;
    let key = CompressedPublicKey::from_slice(key).map_err(|error| LabError::of("a key", error))?;
    Ok((signature, key))
}

/// `(r, s)` made `(r, n − s)`: what an elliptic curve cannot tell apart.
pub fn flip(transaction: &Transaction, form: Form) -> Result<Transaction, LabError> {
    let (signature, key) = signature_and_key(transaction, form)?;
    let mut compact = signature.serialize_compact();
    let (_, s) = compact.split_at_mut(32);
    let negated = SecretKey::from_slice(s).map_err(|error| LabError::of("a signature", error))?.negate();
    s.copy_from_slice(&negated.secret_bytes());
    let flipped = Signature::from_compact(&compact).map_err(|error| LabError::of("a signature", error))?;
    let mut changed = transaction.clone();
    put_signature(&mut changed, form, &flipped, &key)?;
    Ok(changed)
}
