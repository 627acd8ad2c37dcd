//! What the library makes of bytes, where a verdict rests on it: the expectations come from the rules.

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Block, OutPoint, Transaction, Txid, Witness, hashes::Hash};
use leyden_consensus::transaction::check_transaction;
use leyden_consensus::weight::{block_weight, stripped_size};

use crate::support::spend;
use crate::traps_blocks::funded;

fn one_input() -> Transaction {
    spend(&[OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 1 }], &[5])
}

/// Version 2, one input, one output, lock time 0; `marked` bytes are put before the inputs, `witness` after the
/// outputs.
fn raw(marked: &[u8], inputs: &[u8], witness: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    bytes.extend(marked);
    bytes.extend(inputs);
    bytes.extend([7; 32]);
    bytes.extend([1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    bytes.extend([1, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0x51]);
    bytes.extend(witness);
    bytes.extend([0; 4]);
    bytes
}

#[test]
fn a_transaction_has_one_serialisation() {
    let plain = one_input();
    assert_eq!(serialize(&plain), raw(&[], &[1], &[]));
    assert_eq!(deserialize::<Transaction>(&raw(&[], &[1], &[])).unwrap(), plain);
    let mut witnessed = plain.clone();
    witnessed.input[0].witness = Witness::from_slice(&[[9u8]]);
    assert_eq!(serialize(&witnessed), raw(&[0, 1], &[1], &[1, 1, 9]));
    assert_eq!(witnessed.compute_txid(), plain.compute_txid());
    for (what, bytes) in [
        ("a mark of witnesses and none", raw(&[0, 1], &[1], &[0])),
        ("an unknown mark", raw(&[0, 2], &[1], &[1, 1, 9])),
        ("a count in three bytes where one does", raw(&[], &[0xfd, 1, 0], &[])),
        ("a count in five bytes where one does", raw(&[], &[0xfe, 1, 0, 0, 0], &[])),
        ("a count in nine bytes where one does", raw(&[], &[0xff, 1, 0, 0, 0, 0, 0, 0, 0], &[])),
        ("an item's length in three bytes where one does", raw(&[0, 1], &[1], &[1, 0xfd, 1, 0, 9])),
        ("a byte too many", [raw(&[], &[1], &[]), vec![0]].concat()),
        ("a byte too few", raw(&[], &[1], &[])[..60].to_vec()),
    ] {
        assert!(deserialize::<Transaction>(&bytes).is_err(), "{what}");
    }
}

#[test]
fn weight_is_three_times_the_bytes_without_witnesses_and_once_all_bytes() {
    let mut tx = one_input();
    assert_eq!((tx.base_size(), tx.total_size()), (61, 61));
    tx.input[0].witness = Witness::from_slice(&[vec![1u8; 252], vec![1; 253], vec![]]);
    // Mark and flag, the number of items, and each with its length: in one byte up to 252, in three from 253 on.
    let witness = 2 + 1 + (1 + 252) + (3 + 253) + 1;
    assert_eq!((tx.base_size(), tx.total_size()), (61, 61 + witness));
    assert_eq!(tx.total_size(), serialize(&tx).len());
    assert_eq!(tx.weight().to_wu(), (61 * 4 + witness) as u64);

    let (chain, _) = funded(1);
    let mut block = chain.next_block(vec![tx; 251], 0);
    // The number of transactions takes one byte up to 252, and three from 253 on.
    for (count, number) in [(252, 1), (253, 3)] {
        assert_eq!(block.txdata.len(), count);
        let bare: usize = block.txdata.iter().map(Transaction::base_size).sum();
        assert_eq!(stripped_size(&block), 80 + number + bare as u64);
        assert_eq!(block_weight(&block), 3 * stripped_size(&block) + serialize(&block).len() as u64);
        block.txdata.push(one_input());
    }
    assert_eq!(deserialize::<Block>(&serialize(&block)).unwrap(), block);
}

#[test]
fn a_coinbase_has_one_input_and_that_is_null() {
    let null = OutPoint { txid: Txid::all_zeros(), vout: u32::MAX };
    let coinbase = |inputs: &[OutPoint]| spend(inputs, &[1]).is_coinbase();
    assert!(coinbase(&[null]));
    assert!(!coinbase(&[OutPoint { vout: u32::MAX - 1, ..null }]));
    assert!(!coinbase(&[OutPoint { vout: 0, ..null }]));
    assert!(!coinbase(&[OutPoint { txid: Txid::from_byte_array([1; 32]), ..null }]));
    assert!(!coinbase(&[null, OutPoint { vout: 0, ..null }]));
    // Elsewhere a null input is a fault.
    assert!(check_transaction(&spend(&[null, OutPoint { vout: 0, ..null }], &[1])).is_err());
}
