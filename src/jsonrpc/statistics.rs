//! Numbers about blocks of the past.

use std::sync::Arc;

use bitcoin::{Block, BlockHash, TxOut};
use leyden_consensus::{BlockUndo, coins::is_unspendable, subsidy::block_subsidy};
use leyden_jsonrpc::Call;
use leyden_node::Node;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    aside::turn,
    blockchain::unknown_block,
    error::{INTERNAL, MISC, RpcError},
};

/// What Bitcoin Core adds to an unspent output's bytes: outpoint, height and coinbase flag.
const PER_OUTPUT: i64 = 41;
/// The parts of a block's weight at which its feerates are told, in tenths of a percent.
const PERCENTILES: [u64; 5] = [100, 250, 500, 750, 900];
/// A month of blocks is what `getchaintxstats` looks at unless the caller says otherwise.
const MONTH: u32 = 30 * 24 * 60 * 60;

/// A block of the active chain by its hash or its height.
fn named_block(node: &Node, call: &Call) -> Result<(BlockHash, u32), RpcError> {
    if call.optional(0).is_some_and(Value::is_number) {
        let height = call.number(0)?;
        let tip = node.tip().height;
        if height < 0 {
            return Err(RpcError::parameter(format!("Target block height {height} is negative")));
        }
        let at = u32::try_from(height).ok().and_then(|height| Some((node.block_hash(height)?, height)));
        return at.ok_or_else(|| RpcError::parameter(format!("Target block height {height} after current tip {tip}")));
    }
    let hash: BlockHash = call.hash(0)?;
    let (_, height) = node.header(&hash).ok_or_else(unknown_block)?;
    Ok((hash, height))
}

pub(super) async fn of_block(node: &Node, call: &Call) -> Result<Value, RpcError> {
    let (hash, height) = named_block(node, call)?;
    let wanted: Vec<&str> = match call.optional(1) {
        None => Vec::new(),
        Some(_) => call.texts(1)?,
    };
    let missing = |what: &str| RpcError::new(MISC, format!("{what} not available (pruned, or never connected)"));
    let block = node.block(hash).await?.ok_or_else(|| missing("Block"))?;
    let spent = match node.spent_by(hash).await? {
        Some(spent) => spent,
        // The genesis block spends nothing.
        None if height == 0 => Arc::new(BlockUndo { spent: Vec::new(), overwritten: Vec::new() }),
        None => return Err(missing("Undo data")),
    };
    let numbers = tokio::task::spawn_blocking(move || numbers(&block, &spent, height)).await;
    let mut all = numbers.map_err(|error| RpcError::new(INTERNAL, error.to_string()))??;
    let place = node.header_place(&hash).ok_or_else(unknown_block)?;
    all.insert("blockhash".to_owned(), json!(hash));
    all.insert("height".to_owned(), json!(height));
    all.insert("mediantime".to_owned(), json!(place.median_time_past));
    all.insert("time".to_owned(), json!(place.time));
    all.insert("subsidy".to_owned(), json!(block_subsidy(height, node.params()).to_sat()));
    if wanted.is_empty() {
        return Ok(Value::Object(all));
    }
    let mut chosen = Map::new();
    for name in wanted {
        let value = all.get(name).cloned();
        let value = value.ok_or_else(|| RpcError::parameter(format!("Invalid selected statistic '{name}'")))?;
        chosen.insert(name.to_owned(), value);
    }
    Ok(Value::Object(chosen))
}

/// The smallest, the largest, the sum and the middle of some numbers.
struct Spread {
    sorted: Vec<u64>,
}

impl Spread {
    fn new(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        Self { sorted: numbers }
    }

    fn least(&self) -> u64 {
        self.sorted.first().copied().unwrap_or(0)
    }

    fn most(&self) -> u64 {
        self.sorted.last().copied().unwrap_or(0)
    }

    fn sum(&self) -> u64 {
        self.sorted.iter().fold(0, |sum, number| sum.saturating_add(*number))
    }

    fn average(&self) -> u64 {
        self.sum().checked_div(self.sorted.len() as u64).unwrap_or(0)
    }

    fn median(&self) -> u64 {
        let half = self.sorted.len() / 2;
        let at = |place: usize| self.sorted.get(place).copied().unwrap_or(0);
        if self.sorted.len() % 2 == 1 { at(half) } else { at(half.saturating_sub(1)).midpoint(at(half)) }
    }
}

fn size_as_coin(output: &TxOut) -> i64 {
    i64::try_from(output.size()).unwrap_or(i64::MAX).saturating_add(PER_OUTPUT)
}

/// Satoshi for a virtual byte, at the given parts of the block's weight.
fn percentiles(mut rates: Vec<(u64, u64)>, weight: u64) -> [u64; 5] {
    rates.sort_unstable();
    let mut seen = 0u64;
    let mut found = PERCENTILES.map(|_| rates.last().map_or(0, |(rate, _)| *rate));
    let mut next = PERCENTILES.iter().zip(&mut found).peekable();
    for (rate, of) in &rates {
        seen = seen.saturating_add(*of);
        while let Some((_, at)) = next.next_if(|(part, _)| seen.saturating_mul(1000) >= weight.saturating_mul(**part)) {
            *at = *rate;
        }
    }
    found
}

fn numbers(block: &Block, spent: &BlockUndo, height: u32) -> Result<Map<String, Value>, RpcError> {
    let (mut outputs, mut inputs, mut unspent) = (0i64, 0i64, 0i64);
    let (mut size_change, mut real_size_change) = (0i64, 0i64);
    let (mut segwit, mut segwit_size, mut segwit_weight, mut total_out) = (0u64, 0u64, 0u64, 0u64);
    let (mut fees, mut sizes, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
    for transaction in &block.txdata {
        outputs = outputs.saturating_add(count(transaction.output.len()));
        for output in &transaction.output {
            let size = size_as_coin(output);
            size_change = size_change.saturating_add(size);
            // The genesis block's output is none of the unspent ones.
            if height > 0 && !is_unspendable(&output.script_pubkey) {
                unspent = unspent.saturating_add(1);
                real_size_change = real_size_change.saturating_add(size);
            }
        }
    }
    for (transaction, spent) in block.txdata.iter().skip(1).zip(&spent.spent) {
        inputs = inputs.saturating_add(count(transaction.input.len()));
        let paid = transaction.output.iter().fold(0u64, |sum, output| sum.saturating_add(output.value.to_sat()));
        let mut taken = 0u64;
        for coin in spent {
            taken = taken.saturating_add(coin.output.value.to_sat());
            let size = size_as_coin(&coin.output);
            (size_change, real_size_change) = (size_change.saturating_sub(size), real_size_change.saturating_sub(size));
        }
        let fee = taken.checked_sub(paid);
        let fee = fee.ok_or_else(|| RpcError::new(INTERNAL, "a transaction of the block pays more than it has"))?;
        let (size, weight) = (transaction.total_size() as u64, transaction.weight().to_wu());
        total_out = total_out.saturating_add(paid);
        fees.push(fee);
        sizes.push(size);
        rates.push((fee.saturating_mul(4).checked_div(weight).unwrap_or(0), weight));
        if transaction.input.iter().any(|input| !input.witness.is_empty()) {
            segwit = segwit.saturating_add(1);
            segwit_size = segwit_size.saturating_add(size);
            segwit_weight = segwit_weight.saturating_add(weight);
        }
    }
    let weight = rates.iter().fold(0u64, |sum, (_, weight)| sum.saturating_add(*weight));
    let rate = Spread::new(rates.iter().map(|(rate, _)| *rate).collect());
    let (fee, size) = (Spread::new(fees), Spread::new(sizes));
    let value = json!({
        "avgfee": fee.average(),
        "avgfeerate": fee.sum().saturating_mul(4).checked_div(weight).unwrap_or(0),
        "avgtxsize": size.average(),
        "feerate_percentiles": percentiles(rates, weight),
        "ins": inputs,
        "maxfee": fee.most(),
        "maxfeerate": rate.most(),
        "maxtxsize": size.most(),
        "medianfee": fee.median(),
        "mediantxsize": size.median(),
        "minfee": fee.least(),
        "minfeerate": rate.least(),
        "mintxsize": size.least(),
        "outs": outputs,
        "swtotal_size": segwit_size,
        "swtotal_weight": segwit_weight,
        "swtxs": segwit,
        "total_out": total_out,
        "total_size": size.sum(),
        "total_weight": weight,
        "totalfee": fee.sum(),
        "txs": block.txdata.len(),
        "utxo_increase": outputs.saturating_sub(inputs),
        "utxo_size_inc": size_change,
        "utxo_increase_actual": unspent.saturating_sub(inputs),
        "utxo_size_inc_actual": real_size_change,
    });
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(RpcError::new(INTERNAL, "no object")),
    }
}

/// Transactions in all and in the last blocks. Counting them takes a read a block, so one call at a time does it.
pub(super) async fn of_chain(
    node: &Node,
    call: &Call,
    one_at_a_time: &Semaphore,
    ended: &CancellationToken,
) -> Result<Value, RpcError> {
    let hash: BlockHash = if call.optional(1).is_some() { call.hash(1)? } else { node.tip().hash };
    let last = node.header_place(&hash).ok_or_else(unknown_block)?;
    if !node.is_active(&hash) {
        return Err(RpcError::parameter("Block is not in main chain"));
    }
    let blocks = match call.optional(0) {
        None => MONTH.checked_div(node.params().spacing.get()).unwrap_or(0).min(last.height.saturating_sub(1)),
        Some(_) => {
            let blocks = u32::try_from(call.number(0)?).ok();
            let blocks = blocks.filter(|blocks| *blocks == 0 || *blocks < last.height);
            blocks.ok_or_else(|| {
                RpcError::parameter("Invalid block count: should be between 0 and the block's height - 1")
            })?
        }
    };
    let before = last.height.saturating_sub(blocks);
    let first = node.block_hash(before).and_then(|hash| node.header_place(&hash)).ok_or_else(unknown_block)?;
    let _turn = turn(one_at_a_time, ended).await?;
    let earlier = node.transaction_count(0..=before).await?;
    let within = match before.checked_add(1) {
        Some(from) if from <= last.height => node.transaction_count(from..=last.height).await?,
        Some(_) | None => 0,
    };
    let mut value = json!({
        "time": last.time,
        "txcount": earlier.saturating_add(within),
        "window_final_block_hash": hash,
        "window_final_block_height": last.height,
        "window_block_count": blocks,
    });
    if blocks > 0 {
        let seconds = i64::from(last.median_time_past) - i64::from(first.median_time_past);
        value["window_interval"] = json!(seconds);
        value["window_tx_count"] = json!(within);
        if seconds > 0 {
            value["txrate"] = json!(within as f64 / seconds as f64);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_go_by_weight() {
        assert_eq!(percentiles(Vec::new(), 0), [0; 5]);
        assert_eq!(percentiles(vec![(7, 100)], 100), [7; 5]);
        // 1 has a tenth of the weight, 2 up to a half, 3 up to nine tenths, 9 the rest.
        assert_eq!(percentiles(vec![(9, 100), (3, 400), (1, 100), (2, 400)], 1000), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn the_middle_of_an_even_number_of_them_is_between_two() {
        let of = |numbers: &[u64]| Spread::new(numbers.to_vec()).median();
        assert_eq!((of(&[]), of(&[5]), of(&[5, 1]), of(&[9, 1, 2])), (0, 5, 3, 2));
    }
}
