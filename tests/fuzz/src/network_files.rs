//! Network files: any text is answered, a file is written and read as the same, and a network that is made of one has a
//! genesis block by its own rules and no more money than there may be.

use bitcoin::Amount;
use leyden_consensus::header::check_proof_of_work;
use leyden_consensus::subsidy::{MAX_MONEY, block_subsidy};
use leyden_consensus::{NetworkFile, Params, check_block};

/// Bits from here on are met by one of some thousand nonces; below, a search takes too long for a fuzzer.
const EASY_BITS: u32 = 0x1f00_ffff;

pub fn network_files(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(file) = toml::from_str::<NetworkFile>(text) else { return };
    let written = toml::to_string(&file).expect("a file that was read can be written");
    assert_eq!(toml::from_str::<NetworkFile>(&written).as_ref(), Ok(&file));

    let is_easy = u32::from_str_radix(&file.genesis.bits, 16).is_ok_and(|bits| bits >= EASY_BITS);
    if file.genesis.nonce.is_none() && !is_easy {
        return;
    }
    let Ok(params) = Params::try_from(&file) else { return };
    assert_eq!(params.genesis.block_hash(), params.genesis_hash);
    check_proof_of_work(&params.genesis.header, &params).expect("the genesis block has its work");
    check_block(&params.genesis, &params).expect("the genesis block obeys the rules");
    money_is_bounded(&params);
}

fn money_is_bounded(params: &Params) {
    let interval = params.halving_interval;
    let mut total = Amount::ZERO;
    for halving in 0.. {
        let Some(height) = interval.checked_mul(halving) else { break };
        let subsidy = block_subsidy(height, params);
        if subsidy == Amount::ZERO {
            break;
        }
        let sum = subsidy.checked_mul(u64::from(interval)).expect("a halving's subsidies can be counted");
        total = total.checked_add(sum).expect("all subsidies can be counted");
    }
    assert!(total <= MAX_MONEY, "{total}");
}
