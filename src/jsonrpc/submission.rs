//! Transactions that callers send or try.

use bitcoin::{Amount, OutPoint, Transaction, TxOut, Txid};
use leyden_consensus::coins::is_unspendable;
use leyden_jsonrpc::{Call, amount::coins};
use leyden_node::{Accepted, MempoolError, Node, error::PackageError};
use serde_json::{Map, Value, json};

use super::{
    describe::per_kvb,
    error::{ALREADY_IN_UTXO_SET, RpcError, VERIFY, VERIFY_REJECTED},
};

/// What a transaction may pay for 1,000 virtual bytes unless the caller says otherwise: a tenth of a coin.
const MAX_FEE_RATE: Amount = Amount::from_sat(10_000_000);
/// Transactions that one call may send or try.
const MAX_PACKAGE: usize = 25;

/// The fee, if all that it spends is known.
async fn fee(node: &Node, transaction: &Transaction, others: &[Transaction]) -> Result<Option<Amount>, RpcError> {
    let mut sum = Amount::ZERO;
    for input in &transaction.input {
        let OutPoint { txid, vout } = input.previous_output;
        let of = |transaction: &Transaction| transaction.output.get(vout as usize).map(|output| output.value);
        let value = match others.iter().find(|other| other.compute_txid() == txid) {
            Some(other) => of(other),
            None => node.transaction(txid).await?.and_then(|found| of(&found.transaction)),
        };
        let Some(value) = value else { return Ok(None) };
        // More than all money is spent by no valid transaction; the mempool will say so.
        let Some(larger) = sum.checked_add(value) else { return Ok(None) };
        sum = larger;
    }
    let paid = transaction.output.iter().try_fold(Amount::ZERO, |paid, output| paid.checked_add(output.value));
    Ok(paid.and_then(|paid| sum.checked_sub(paid)))
}

/// Whether the fee is more than `limit` for 1,000 virtual bytes.
fn is_too_much(fee: Amount, transaction: &Transaction, limit: Option<Amount>) -> bool {
    let size = u128::try_from(transaction.vsize()).unwrap_or(u128::MAX);
    limit.is_some_and(|limit| u128::from(fee.to_sat()) * 1000 > u128::from(limit.to_sat()).saturating_mul(size))
}

/// Coins sent to what nobody can ever spend are lost: none are, unless the caller says how many an output may have.
fn check_burns(transaction: &Transaction, limit: Option<Amount>) -> Result<(), RpcError> {
    let limit = limit.unwrap_or(Amount::ZERO);
    let burnt = |output: &TxOut| is_unspendable(&output.script_pubkey) && output.value > limit;
    if transaction.output.iter().any(burnt) {
        return Err(RpcError::new(VERIFY, "Unspendable output exceeds maximum configured by user (maxburnamount)"));
    }
    Ok(())
}

fn too_much() -> RpcError {
    RpcError::new(VERIFY, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)")
}

fn refusal(error: &MempoolError) -> RpcError {
    match error {
        MempoolError::AlreadyConfirmed(_) => {
            RpcError::new(ALREADY_IN_UTXO_SET, "Transaction outputs already in utxo set")
        }
        MempoolError::MissingInputs(_) => RpcError::new(VERIFY, "bad-txns-inputs-missingorspent"),
        error => RpcError::new(VERIFY_REJECTED, error.reason()),
    }
}

pub(super) async fn send(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let transaction: Transaction = call.decoded(0, "TX")?;
    let limit = call.fee_rate_limit(1, MAX_FEE_RATE)?;
    check_burns(&transaction, call.amount(2)?)?;
    let txid = transaction.compute_txid();
    if let Some(fee) = fee(node, &transaction, &[]).await?
        && is_too_much(fee, &transaction, limit)
    {
        return Err(too_much());
    }
    match node.submit_transaction(transaction).await {
        // A caller that asks again wants it to be there, and it is.
        Ok(_) | Err(MempoolError::AlreadyInMempool(_) | MempoolError::SameTransactionOtherWitness(_)) => {
            Ok(json!(txid))
        }
        Err(error) => Err(refusal(&error)),
    }
}

/// Transactions of a call that takes several.
fn list(call: &Call) -> Result<Vec<Transaction>, RpcError> {
    let transactions: Vec<Transaction> = call.all_decoded(0, "TX")?;
    if transactions.is_empty() || transactions.len() > MAX_PACKAGE {
        return Err(RpcError::parameter(format!("Array must contain between 1 and {MAX_PACKAGE} transactions.")));
    }
    Ok(transactions)
}

pub(super) async fn send_package(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let package = list(call)?;
    let limit = call.fee_rate_limit(1, MAX_FEE_RATE)?;
    let burns = call.amount(2)?;
    let mut dear = Vec::new();
    for transaction in &package {
        check_burns(transaction, burns)?;
        let fee = fee(node, transaction, &package).await?.unwrap_or(Amount::ZERO);
        dear.extend(is_too_much(fee, transaction, limit).then(|| transaction.compute_txid()));
    }
    if !dear.is_empty() {
        let refused = |txid: &Txid| match dear.contains(txid) {
            true => "max feerate exceeded".to_owned(),
            false => "package-not-validated".to_owned(),
        };
        return Ok(package_answer("transaction failed", results(node, &package, refused)));
    }
    match node.submit_package(package.clone()).await {
        Ok(replaced) => {
            let results = results(node, &package, |_| "transaction failed".to_owned());
            Ok(json!({ "package_msg": "success", "tx-results": results, "replaced-transactions": replaced }))
        }
        Err(MempoolError::Package(PackageError::NotChildWithParents)) => Err(RpcError::new(
            VERIFY,
            "package topology disallowed. not child-with-parents or parents depend on each other.",
        )),
        Err(MempoolError::Node(error)) => Err(error.into()),
        Err(MempoolError::Package(PackageError::Transaction { txid: failed, error })) => {
            let refused = |txid: &Txid| match *txid == failed {
                true => error.reason(),
                false => "package-not-validated".to_owned(),
            };
            Ok(package_answer("transaction failed", results(node, &package, refused)))
        }
        Err(MempoolError::Package(error)) if error.is_of_list() => {
            let refused = |_: &Txid| "package-not-validated".to_owned();
            Ok(package_answer(&error.reason(), results(node, &package, refused)))
        }
        Err(error) => Ok(package_answer("transaction failed", results(node, &package, |_| error.reason()))),
    }
}

/// A package that was refused.
fn package_answer(message: &str, results: Map<String, Value>) -> Value {
    json!({ "package_msg": message, "tx-results": results, "replaced-transactions": [] })
}

/// What became of each: what the mempool says of those that it has, `refused` of the others.
fn results(node: &Node, package: &[Transaction], refused: impl Fn(&Txid) -> String) -> Map<String, Value> {
    let result = |transaction: &Transaction| {
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        let value = match node.mempool_entry(&txid) {
            Some(entry) if entry.wtxid != wtxid => json!({ "txid": txid, "other-wtxid": entry.wtxid }),
            Some(entry) => {
                json!({ "txid": txid, "vsize": entry.virtual_bytes, "fees": { "base": coins(entry.fee) } })
            }
            None => json!({ "txid": txid, "error": refused(&txid) }),
        };
        (wtxid.to_string(), value)
    };
    package.iter().map(result).collect()
}

pub(super) async fn test(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let transactions = list(call)?;
    let limit = call.fee_rate_limit(1, MAX_FEE_RATE)?;
    let named =
        |transaction: &Transaction| json!({ "txid": transaction.compute_txid(), "wtxid": transaction.compute_wtxid() });
    let tested = match node.test_transactions(transactions.clone()).await {
        Ok(tested) => tested,
        Err(MempoolError::Node(error)) => return Err(error.into()),
        Err(error) => {
            let answer = |transaction: &Transaction| {
                let mut value = named(transaction);
                value["package-error"] = json!(error.reason());
                value
            };
            return Ok(transactions.iter().map(answer).collect());
        }
    };
    // After the first that is refused nothing more is said but the names.
    let mut tested = tested.into_iter().fuse();
    let mut answers = Vec::new();
    for transaction in &transactions {
        let mut value = named(transaction);
        match tested.next() {
            Some(Ok(Accepted { fee, .. })) if is_too_much(fee, transaction, limit) => {
                refuse(&mut value, "max-fee-exceeded", None);
                tested = Vec::new().into_iter().fuse();
            }
            Some(Ok(Accepted { fee, virtual_bytes })) => {
                let rate = bitcoin::FeeRate::from_sat_per_kwu(
                    fee.to_sat().saturating_mul(250).checked_div(virtual_bytes).unwrap_or(0),
                );
                value["allowed"] = json!(true);
                value["vsize"] = json!(virtual_bytes);
                value["fees"] = json!({
                    "base": coins(fee),
                    "effective-feerate": per_kvb(rate),
                    "effective-includes": [transaction.compute_wtxid()],
                });
            }
            Some(Err(MempoolError::Node(error))) => return Err(error.into()),
            Some(Err(MempoolError::MissingInputs(_))) => refuse(&mut value, "missing-inputs", None),
            Some(Err(error)) => refuse(&mut value, &error.reason(), Some(&error)),
            None => {}
        }
        answers.push(value);
    }
    Ok(Value::Array(answers))
}

fn refuse(value: &mut Value, reason: &str, details: Option<&MempoolError>) {
    value["allowed"] = json!(false);
    value["reject-reason"] = json!(reason);
    if let Some(details) = details {
        value["reject-details"] = json!(format!("{reason}, {details}"));
    }
}
