//! How coins and undo data are stored: small, and read back exactly or not at all.
//!
//! ```text
//! number  base 128, least significant group first, the high bit says that more follows; no superfluous zero group
//! amount  number: 0 for nothing, else 1 + 10·m + e for a value of m·10^e with the largest e ≤ 9
//! script  number: 0 P2PKH, 1 P2SH, 2 P2WPKH (20 bytes follow), 3 P2WSH, 4 P2TR (32 bytes follow), else length + 5
//!         and the bytes of the script
//! coin    number 2·height + (1 for a coinbase) · amount · script
//! undo    number of transactions · for each: number of coins, coins
//!         · number of overwritten coins · for each: txid (32 bytes), output number, coin
//! ```
//!
//! Most coins take 22 to 40 bytes. The format is this project's own; amounts and scripts outside of what consensus
//! allows still survive the round trip.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, PubkeyHash, ScriptBuf, ScriptHash, TxOut, Txid, WPubkeyHash, WScriptHash};

use crate::coins::{BlockUndo, Coin};

/// Why stored bytes are no coin or undo data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum DecodeError {
    #[error("the data ends early")]
    Truncated,
    #[error("{0} bytes follow after the end")]
    Trailing(usize),
    #[error("a number or script is too large or not in its shortest form")]
    BadNumber,
}

impl Coin {
    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        self.put_bytes(&mut out);
        out
    }

    /// Appends the stored form.
    pub fn put_bytes(&self, out: &mut Vec<u8>) {
        put_coin(out, self);
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader(bytes);
        let coin = input.coin()?;
        input.finish(coin)
    }
}

impl BlockUndo {
    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_bytes(&mut out);
        out
    }

    /// Appends the stored form.
    pub fn put_bytes(&self, out: &mut Vec<u8>) {
        put_number(out, self.spent.len() as u128);
        for coins in &self.spent {
            put_number(out, coins.len() as u128);
            for coin in coins {
                put_coin(out, coin);
            }
        }
        put_number(out, self.overwritten.len() as u128);
        for (outpoint, coin) in &self.overwritten {
            out.extend_from_slice(outpoint.txid.as_byte_array());
            put_number(out, u128::from(outpoint.vout));
            put_coin(out, coin);
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader(bytes);
        let mut undo = Self::default();
        for _ in 0..input.number()? {
            let mut coins = Vec::new();
            for _ in 0..input.number()? {
                coins.push(input.coin()?);
            }
            undo.spent.push(coins);
        }
        for _ in 0..input.number()? {
            let txid = Txid::from_byte_array(input.array()?);
            let vout = u32::try_from(input.number()?).map_err(|_| DecodeError::BadNumber)?;
            undo.overwritten.push((OutPoint { txid, vout }, input.coin()?));
        }
        input.finish(undo)
    }
}

const SCRIPT_KINDS: u128 = 5;

fn put_coin(out: &mut Vec<u8>, coin: &Coin) {
    put_number(out, u128::from(coin.height) * 2 + u128::from(coin.is_coinbase));
    put_amount(out, coin.output.value);
    put_script(out, &coin.output.script_pubkey);
}

fn put_number(out: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_amount(out: &mut Vec<u8>, amount: Amount) {
    let mut mantissa = amount.to_sat();
    if mantissa == 0 {
        return put_number(out, 0);
    }
    let mut exponent = 0u128;
    while exponent < 9 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
        exponent += 1;
    }
    put_number(out, 1 + u128::from(mantissa) * 10 + exponent);
}

fn put_script(out: &mut Vec<u8>, script: &ScriptBuf) {
    let bytes = script.as_bytes();
    match template_of(script) {
        Some((kind, hash)) => {
            put_number(out, kind);
            out.extend_from_slice(hash);
        }
        None => {
            put_number(out, bytes.len() as u128 + SCRIPT_KINDS);
            out.extend_from_slice(bytes);
        }
    }
}

/// The number of a common kind of script and the hash or key in it.
fn template_of(script: &ScriptBuf) -> Option<(u128, &[u8])> {
    let (kind, place) = if script.is_p2pkh() {
        (0, 3..23)
    } else if script.is_p2sh() {
        (1, 2..22)
    } else if script.is_p2wpkh() {
        (2, 2..22)
    } else if script.is_p2wsh() {
        (3, 2..34)
    } else if script.is_p2tr() {
        (4, 2..34)
    } else {
        return None;
    };
    script.as_bytes().get(place).map(|hash| (kind, hash))
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> Result<&[u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.bytes(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    fn number(&mut self) -> Result<u128, DecodeError> {
        let mut number = 0u128;
        // Eleven groups hold 77 bits, more than any number here needs.
        for group in 0..11 {
            let [byte] = self.array()?;
            number |= u128::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return if byte == 0 && group > 0 { Err(DecodeError::BadNumber) } else { Ok(number) };
            }
        }
        Err(DecodeError::BadNumber)
    }

    fn coin(&mut self) -> Result<Coin, DecodeError> {
        let code = self.number()?;
        let height = u32::try_from(code / 2).map_err(|_| DecodeError::BadNumber)?;
        let value = self.amount()?;
        let script_pubkey = self.script()?;
        Ok(Coin { output: TxOut { value, script_pubkey }, height, is_coinbase: code % 2 == 1 })
    }

    fn amount(&mut self) -> Result<Amount, DecodeError> {
        let Some(code) = self.number()?.checked_sub(1) else { return Ok(Amount::ZERO) };
        let exponent = u32::try_from(code % 10).map_err(|_| DecodeError::BadNumber)?;
        let mantissa = u64::try_from(code / 10).map_err(|_| DecodeError::BadNumber)?;
        // One number, one form: zero has its own, and zeros at the end belong into the exponent.
        if mantissa == 0 || (mantissa % 10 == 0 && exponent < 9) {
            return Err(DecodeError::BadNumber);
        }
        let value = 10u64.checked_pow(exponent).and_then(|power| mantissa.checked_mul(power));
        value.map(Amount::from_sat).ok_or(DecodeError::BadNumber)
    }

    fn script(&mut self) -> Result<ScriptBuf, DecodeError> {
        Ok(match self.number()? {
            0 => ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(self.array()?)),
            1 => ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(self.array()?)),
            2 => ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(self.array()?)),
            3 => ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(self.array()?)),
            // A taproot output key need not be a point on the curve, so no key type can carry it.
            4 => ScriptBuf::from_bytes([&[0x51, 0x20], self.array::<32>()?.as_slice()].concat()),
            more => {
                let length = usize::try_from(more - SCRIPT_KINDS).map_err(|_| DecodeError::BadNumber)?;
                let script = ScriptBuf::from_bytes(self.bytes(length)?.to_vec());
                if template_of(&script).is_some() {
                    return Err(DecodeError::BadNumber);
                }
                script
            }
        })
    }

    fn finish<T>(self, value: T) -> Result<T, DecodeError> {
        if self.0.is_empty() { Ok(value) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coin(value: u64, script: Vec<u8>, height: u32, is_coinbase: bool) -> Coin {
        let output = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(script) };
        Coin { output, height, is_coinbase }
    }

    fn any_script() -> impl Strategy<Value = Vec<u8>> {
        let wrapped = |before: &'static [u8], length: usize, after: &'static [u8]| {
            prop::collection::vec(any::<u8>(), length).prop_map(move |hash| [before, &hash, after].concat())
        };
        prop_oneof![
            wrapped(&[0x76, 0xa9, 0x14], 20, &[0x88, 0xac]),
            wrapped(&[0xa9, 0x14], 20, &[0x87]),
            wrapped(&[0x00, 0x14], 20, &[]),
            wrapped(&[0x00, 0x20], 32, &[]),
            wrapped(&[0x51, 0x20], 32, &[]),
            prop::collection::vec(any::<u8>(), 0..300),
        ]
    }

    fn any_coin() -> impl Strategy<Value = Coin> {
        let value =
            prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), (0u64..2_100_000_000).prop_map(|v| v * 1_000_000)];
        (value, any_script(), any::<u32>(), any::<bool>())
            .prop_map(|(value, script, height, is_coinbase)| coin(value, script, height, is_coinbase))
    }

    proptest! {
        #[test]
        fn every_coin_survives_the_round_trip(coin in any_coin()) {
            prop_assert_eq!(Coin::from_bytes(&coin.to_bytes()), Ok(coin));
        }

        #[test]
        fn undo_data_survives_the_round_trip(
            spent in prop::collection::vec(prop::collection::vec(any_coin(), 0..4), 0..5),
            overwritten in prop::collection::vec((any::<[u8; 32]>(), any::<u32>(), any_coin()), 0..3),
        ) {
            let overwritten = overwritten
                .into_iter()
                .map(|(txid, vout, coin)| (OutPoint { txid: Txid::from_byte_array(txid), vout }, coin))
                .collect();
            let undo = BlockUndo { spent, overwritten };
            let bytes = undo.to_bytes();
            prop_assert_eq!(BlockUndo::from_bytes(&bytes), Ok(undo));
            if let Some((_, shorter)) = bytes.split_last() {
                prop_assert!(BlockUndo::from_bytes(shorter).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_have_one_form(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(coin) = Coin::from_bytes(&bytes) {
                prop_assert_eq!(coin.to_bytes(), bytes.clone());
            }
            let _ = BlockUndo::from_bytes(&bytes);
        }
    }

    #[test]
    fn a_common_coin_takes_few_bytes() {
        let p2wpkh = coin(50_0000_0000, [vec![0x00, 0x14], vec![7; 20]].concat(), 100, true);
        assert_eq!(p2wpkh.to_bytes().len(), 24);
    }

    #[test]
    fn a_byte_too_many_is_refused() {
        let mut bytes = coin(1, vec![0x51], 1, false).to_bytes();
        bytes.push(0);
        assert_eq!(Coin::from_bytes(&bytes), Err(DecodeError::Trailing(1)));
    }
}
