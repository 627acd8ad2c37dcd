//! What several peers say of the filters, held against each other (BIP 157).
//!
//! ```text
//!   hashes of the filters, of each peer ─▶ all name the same one ─▶ the filter with that hash counts
//!                                      └─▶ they differ ──────────▶ the block itself is looked at, and shows who lies
//! ```
//!
//! A filter that leaves out what a block pays to is a lie, which the block proves; so is one with more than the block can have. One that leaves out what a block spends
//! from cannot be proven wrong without the coins; but where peers differ no filter is used at all, and of peers that agree
//! all would have to lie in the same way.

use std::collections::BTreeMap;

use bitcoin::bip158::{BlockFilter, FilterHash};
use bitcoin::consensus::Decodable;
use bitcoin::{Block, VarInt};
use leyden_net::PeerId;

/// Bits that an entry takes at least: 19 of its remainder, and one that ends its quotient (BIP 158).
const LEAST_ENTRY_BITS: usize = 20;

/// What counts for one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All say the same.
    Agreed(FilterHash),
    /// Who says what.
    Disputed(BTreeMap<FilterHash, Vec<PeerId>>),
}

/// One verdict a block, as far as all lists reach.
pub(crate) fn judge(claims: &[(PeerId, Vec<FilterHash>)]) -> Vec<Verdict> {
    let reach = claims.iter().map(|(_, hashes)| hashes.len()).min().unwrap_or(0);
    (0..reach)
        .map(|place| {
            let mut said: BTreeMap<FilterHash, Vec<PeerId>> = BTreeMap::new();
            for (peer, hash) in claims.iter().filter_map(|(peer, hashes)| Some((peer, hashes.get(place)?))) {
                said.entry(*hash).or_default().push(*peer);
            }
            match said.first_key_value() {
                Some((hash, _)) if said.len() == 1 => Verdict::Agreed(*hash),
                Some(_) | None => Verdict::Disputed(said),
            }
        })
        .collect()
}

/// Whether the filter has room for as many entries as it counts. Who reads on without room counts beyond all numbers.
pub(crate) fn is_readable(filter: &BlockFilter) -> bool {
    entries(filter).is_some()
}

/// How many entries the filter has; `None` if it has no room for them.
fn entries(filter: &BlockFilter) -> Option<usize> {
    let mut rest = filter.content.as_slice();
    let count = usize::try_from(VarInt::consensus_decode(&mut rest).ok()?.0).ok()?;
    let room = rest.len().checked_mul(8)? / LEAST_ENTRY_BITS;
    (count <= room).then_some(count)
}

/// Whether a filter leaves out something that the block pays to, has more than the block pays to and spends from, or cannot
/// be read.
pub(crate) fn is_lie(filter: &BlockFilter, block: &Block) -> bool {
    let hash = block.block_hash();
    let outputs = block.txdata.iter().flat_map(|transaction| &transaction.output);
    let scripts: Vec<&[u8]> = outputs
        .map(|output| &output.script_pubkey)
        .filter(|script| !script.is_empty() && !script.is_op_return())
        .map(|script| script.as_bytes())
        .collect();
    let Some(entries) = entries(filter) else { return true };
    // The coinbase spends nothing.
    let spent: usize = block.txdata.iter().skip(1).map(|transaction| transaction.input.len()).sum();
    if entries > scripts.len().saturating_add(spent) {
        return true;
    }
    // No script at all is no question.
    !scripts.is_empty() && !filter.match_all(&hash, scripts.into_iter()).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_filter::build_from;
    use bitcoin::constants::genesis_block;
    use bitcoin::hashes::Hash;
    use bitcoin::{Network, ScriptBuf, consensus};

    fn hash(number: u8) -> FilterHash {
        FilterHash::from_byte_array([number; 32])
    }

    #[test]
    fn a_block_of_whose_filter_peers_differ_is_disputed_and_no_other() {
        let claims = [(PeerId(1), vec![hash(1), hash(2), hash(3)]), (PeerId(2), vec![hash(1), hash(9), hash(3)])];
        let said = BTreeMap::from([(hash(2), vec![PeerId(1)]), (hash(9), vec![PeerId(2)])]);
        assert_eq!(judge(&claims), [Verdict::Agreed(hash(1)), Verdict::Disputed(said), Verdict::Agreed(hash(3))]);
        assert_eq!(judge(&claims[..1]).len(), 3);
        assert!(judge(&[]).is_empty());
    }

    #[test]
    fn a_filter_without_a_scripts_of_its_block_is_a_lie() {
        let block = genesis_block(Network::Regtest);
        let good = build_from(&block, []).unwrap();
        assert!(!is_lie(&good, &block));
        let extra = build_from(&block, [ScriptBuf::from_bytes(vec![1, 2, 3]).as_script()]).unwrap();
        assert!(is_lie(&extra, &block), "the block has one output, and spends nothing");
        let mut other = block.clone();
        other.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(vec![7; 22]);
        // The key of a filter is the block's hash, which the header alone makes.
        assert!(is_lie(&build_from(&other, []).unwrap(), &block));
        assert!(is_lie(&BlockFilter::new(&[]), &block) && is_lie(&BlockFilter::new(&[0]), &block));
    }

    #[test]
    fn a_filter_without_room_for_what_it_counts_is_not_read() {
        let block = genesis_block(Network::Regtest);
        for count in [u64::MAX, 1 << 45, 81] {
            let content = [consensus::serialize(&VarInt(count)), vec![7; 200]].concat();
            let filter = BlockFilter { content };
            assert!(!is_readable(&filter) && is_lie(&filter, &block), "{count}");
        }
        assert!(is_readable(&BlockFilter { content: [&[80][..], &[7; 200]].concat() }));
        assert!(is_readable(&BlockFilter::new(&[0])) && !is_readable(&BlockFilter::new(&[])));
        assert!(!is_readable(&BlockFilter::new(&[0xfd])));
    }
}
