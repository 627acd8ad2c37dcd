//! What a transaction must satisfy besides its scripts: on its own, and with the coins that it spends.

use std::collections::HashSet;

use bitcoin::{Amount, OutPoint, Transaction};

use crate::coins::Coin;
use crate::error::TransactionError;
use crate::subsidy::{MAX_MONEY, checked_sum};
use crate::weight::{MAX_BLOCK_WEIGHT, WITNESS_SCALE};

/// How many blocks a coinbase output waits before it can be spent.
pub const COINBASE_MATURITY: u32 = 100;

/// The rules that need nothing but the transaction.
pub fn check_transaction(tx: &Transaction) -> Result<(), TransactionError> {
    if tx.input.is_empty() {
        return Err(TransactionError::NoInputs);
    }
    if tx.output.is_empty() {
        return Err(TransactionError::NoOutputs);
    }
    let size = tx.base_size();
    if size as u64 * WITNESS_SCALE > MAX_BLOCK_WEIGHT {
        return Err(TransactionError::Oversize { size });
    }
    output_sum(tx)?;
    // CVE-2018-17144: without this a transaction could spend one output twice and create money.
    let mut seen = HashSet::with_capacity(tx.input.len());
    for input in &tx.input {
        if !seen.insert(input.previous_output) {
            return Err(TransactionError::DuplicateInput(input.previous_output));
        }
    }
    if tx.is_coinbase() {
        let length = tx.input.first().map_or(0, |input| input.script_sig.len());
        if !(2..=100).contains(&length) {
            return Err(TransactionError::CoinbaseScriptLength { length });
        }
    } else if tx.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(TransactionError::NullInput);
    }
    Ok(())
}

/// What the outputs are worth together; every output and every partial sum must be money (CVE-2010-5139).
pub(crate) fn output_sum(tx: &Transaction) -> Result<Amount, TransactionError> {
    let mut sum = Amount::ZERO;
    for (index, output) in tx.output.iter().enumerate() {
        let value = output.value;
        // On the wire a value is a signed number.
        if value.to_sat() > i64::MAX as u64 {
            return Err(TransactionError::NegativeOutput { index });
        }
        if value > MAX_MONEY {
            return Err(TransactionError::OutputTooLarge { index, value });
        }
        sum = checked_sum(sum, value).ok_or(TransactionError::OutputSumTooLarge)?;
    }
    Ok(sum)
}

/// The rules on amounts and maturity for a transaction mined at `height` that spends `coins`, one an input in input
/// order. Returns the fee.
///
/// A coin that is missing is `None`; which of several faults is reported follows Bitcoin Core's order.
pub fn check_transaction_inputs(
    tx: &Transaction,
    coins: &[Option<&Coin>],
    height: u32,
) -> Result<Amount, TransactionError> {
    let spent = tx
        .input
        .iter()
        .enumerate()
        .map(|(index, input)| match coins.get(index).copied().flatten() {
            Some(coin) => Ok((input.previous_output, coin)),
            None => Err(TransactionError::MissingInput(input.previous_output)),
        })
        .collect::<Result<Vec<(OutPoint, &Coin)>, _>>()?;
    let mut inputs = Amount::ZERO;
    for (outpoint, coin) in spent {
        let depth = height.saturating_sub(coin.height);
        if coin.is_coinbase && depth < COINBASE_MATURITY {
            return Err(TransactionError::ImmatureCoinbase { outpoint, depth, required: COINBASE_MATURITY });
        }
        if coin.output.value > MAX_MONEY {
            return Err(TransactionError::InputSumTooLarge);
        }
        inputs = checked_sum(inputs, coin.output.value).ok_or(TransactionError::InputSumTooLarge)?;
    }
    let outputs = output_sum(tx)?;
    inputs.checked_sub(outputs).ok_or(TransactionError::OutputsExceedInputs { inputs, outputs })
}
