//! What the funding transaction needs. It is as long as the opener has paid for: 68 bytes here for an input that takes at
//! least 41 virtual bytes of a block.

use super::{FORMAT, damaged, get_count, open, put_number};
use crate::channel::error::RestoreError;
use crate::channel::funding::FundingInput;
use crate::wire::codec::{DecodeError, Field as _, Reader};
use bitcoin::OutPoint;

pub(crate) fn encode_inputs(inputs: &[FundingInput]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + 68 * inputs.len());
    out.push(FORMAT);
    put_number(inputs.len() as u64, &mut out);
    for FundingInput { coin, by } in inputs {
        coin.txid.write(&mut out);
        coin.vout.write(&mut out);
        by.write(&mut out);
    }
    out
}

pub(crate) fn decode_inputs(bytes: &[u8]) -> Result<Vec<FundingInput>, RestoreError> {
    let what = "funding inputs";
    let mut reader = open(what, bytes)?;
    let mut read = || -> Result<Vec<FundingInput>, DecodeError> {
        let count = get_count(&mut reader)?;
        (0..count).map(|_| read_input(&mut reader)).collect()
    };
    let inputs = read().map_err(damaged(what))?;
    reader.finish().map_err(damaged(what))?;
    Ok(inputs)
}

fn read_input(reader: &mut Reader<'_>) -> Result<FundingInput, DecodeError> {
    let coin = OutPoint { txid: reader.field()?, vout: reader.field()? };
    Ok(FundingInput { coin, by: reader.field()? })
}
