//! The unspent outputs of some scripts, for whoever has no index of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use bitcoin::{OutPoint, ScriptBuf, Txid};
use leyden_consensus::Coin;

use crate::error::NodeError;
use crate::node::Node;
use crate::store::Going;
use crate::sync::read;
use crate::types::BlockRef;

/// Outputs that a search may find: some ten megabytes.
pub const MAX_FOUND: usize = 100_000;

/// A search, as others see it.
#[derive(Debug, Default)]
pub struct CoinSearch {
    percent: AtomicU8,
    given_up: AtomicBool,
}

impl CoinSearch {
    /// How much of the outputs has been looked at.
    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }

    /// Ends it: what was found until then is the answer.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Outputs come in the order of their ids, which are as good as random.
    fn note(&self, txid: &Txid) {
        let first = bitcoin::hashes::Hash::as_byte_array(txid).first().copied().unwrap_or(0);
        let percent = u16::from(first).saturating_mul(100) / 256;
        self.percent.store(u8::try_from(percent).unwrap_or(100), Ordering::Relaxed);
    }
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct CoinsFound {
    /// The tip to which the outputs belong.
    pub block: BlockRef,
    /// How many were looked at.
    pub looked_at: u64,
    /// Those of the scripts, with their names.
    pub coins: Vec<(OutPoint, Coin)>,
    /// All were looked at.
    pub is_complete: bool,
    /// There were more than [`MAX_FOUND`], and the search ended there.
    pub is_too_much: bool,
}

enum End {
    GivenUp,
    TooMuch,
}

impl Node {
    /// Looks at all unspent outputs for those of the scripts: on a large chain that takes minutes.
    pub async fn search_coins(
        &self,
        scripts: HashSet<ScriptBuf>,
        search: Arc<CoinSearch>,
    ) -> Result<CoinsFound, NodeError> {
        self.blocking(move |core| {
            core.full("unspent outputs")?;
            let (mut coins, mut looked_at, mut end) = (Vec::new(), 0u64, None);
            let tip = core.store.scan_coins(|outpoint, coin| {
                if core.shutdown.is_cancelled() {
                    return Err(NodeError::ShuttingDown);
                }
                if end.is_some() {
                    return Ok(Going::Stop);
                }
                looked_at = looked_at.saturating_add(1);
                search.note(&outpoint.txid);
                if scripts.contains(&coin.output.script_pubkey) {
                    coins.push((*outpoint, coin.clone()));
                }
                if search.given_up.load(Ordering::Relaxed) {
                    end = Some(End::GivenUp);
                } else if coins.len() >= MAX_FOUND {
                    end = Some(End::TooMuch);
                }
                Ok(Going::On)
            })?;
            let block = read(&core.index).block_ref(&tip).ok_or(NodeError::UnknownBlock(tip))?;
            let is_too_much = matches!(end, Some(End::TooMuch));
            Ok(CoinsFound { block, looked_at, coins, is_complete: end.is_none(), is_too_much })
        })
        .await
    }
}
