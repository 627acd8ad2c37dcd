//! What miners need to know of the next block.

use bitcoin::{Amount, CompactTarget, ScriptBuf, Target, Work};
use leyden_consensus::HeaderChain as _;
use leyden_consensus::subsidy::block_subsidy;

use super::Core;
use crate::error::{BlockRejected, NodeError};
use crate::sync::{lock, read};
use crate::template::{self, Template, TemplateContext};

impl Core {
    /// A block on top of the tip, checked by the same rules as any other.
    pub fn template(&self, script: ScriptBuf, extra_nonce: u64) -> Result<Template, NodeError> {
        self.full("blocks to mine on")?;
        let chain = lock(&self.chain);
        self.store.check_running()?;
        let context = self.template_context()?;
        let template = template::build(&read(&self.mempool), &context, script.clone(), extra_nonce);
        match chain.check_template(&template.block) {
            Ok(()) => return Ok(template),
            Err(BlockRejected::Node(error)) => return Err(error),
            // A bug of the mempool's; mining goes on without it.
            Err(error) => tracing::error!(%error, "the mempool's transactions do not make a valid block"),
        }
        let empty = template::assemble(Vec::new(), Amount::ZERO, &context, script, extra_nonce);
        chain.check_template(&empty.block).map_err(|error| NodeError::InvalidTemplate(Box::new(error)))?;
        Ok(empty)
    }

    /// More to search for a template whose nonces are used up: the time of now, with the target that goes with it, and another
    /// extra nonce. `false` if there is another tip.
    pub fn roll_template(&self, template: &mut Template) -> Result<bool, NodeError> {
        let context = self.template_context()?;
        let header = &mut template.block.header;
        if context.parent != header.prev_blockhash {
            return Ok(false);
        }
        (header.time, header.bits) = (context.time, context.bits);
        template.set_extra_nonce(rand::random());
        Ok(true)
    }

    /// The target that the next block needs to meet if it is made now.
    pub fn next_bits(&self) -> Result<CompactTarget, NodeError> {
        Ok(self.template_context()?.bits)
    }

    /// Expected hashes for the next block, and what all miners did per second over the last blocks.
    pub fn network_work(&self) -> Result<(Work, f64), NodeError> {
        const SPAN: u32 = 120;
        let rate = self.hash_rate_over(self.tip().height, SPAN)?;
        Ok((Target::from_compact(self.next_bits()?).to_work(), rate))
    }

    /// What all miners did per second over the `span` blocks that end at `height`; 0 if these took no time.
    pub fn hash_rate_over(&self, height: u32, span: u32) -> Result<f64, NodeError> {
        let index = read(&self.index);
        let at = |height: u32| index.active_at(height).and_then(|hash| index.tree.get(&hash));
        let (Some(first), Some(last)) = (at(height.saturating_sub(span)), at(height)) else { return Ok(0.0) };
        let times = || {
            index.tree.branch(&last.hash).map(|branch| {
                (first.height..=last.height)
                    .filter_map(move |height| branch.header_at(height).map(|header| header.time))
            })
        };
        // Times may step back between two blocks.
        let (earliest, latest) = (times().and_then(Iterator::min), times().and_then(Iterator::max));
        let seconds = latest.unwrap_or(0).saturating_sub(earliest.unwrap_or(0));
        let work = as_f64(last.chain_work) - as_f64(first.chain_work);
        Ok(if seconds == 0 { 0.0 } else { work / f64::from(seconds) })
    }

    pub(super) fn template_context(&self) -> Result<TemplateContext, NodeError> {
        let index = read(&self.index);
        let tip = index.tip();
        let unknown = NodeError::UnknownBlock(tip.hash);
        let height = tip.height.saturating_add(1);
        let earliest = index.tree.earliest_time(&tip.hash).ok_or(unknown.clone())?;
        let time = u32::try_from(self.clock.now()).unwrap_or(u32::MAX).max(earliest);
        let latest = self.clock.now().saturating_add(u64::from(self.params.max_ahead));
        if u64::from(time) > latest {
            let seconds = u64::from(time).saturating_sub(self.clock.now());
            return Err(NodeError::ClockBehindChain { seconds });
        }
        let bits = index.tree.next_bits(&tip.hash, time).ok_or(unknown)?;
        Ok(TemplateContext {
            parent: tip.hash,
            height,
            time,
            bits,
            subsidy: block_subsidy(height, &self.params),
            segwit: height >= self.params.activation.segwit,
        })
    }
}

/// A number of hashes, rounded.
pub(super) fn as_f64(work: Work) -> f64 {
    work.to_be_bytes().iter().fold(0.0, |sum, byte| sum * 256.0 + f64::from(*byte))
}
