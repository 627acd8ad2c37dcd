//! What a packet holds: a message's type, in one byte where it has a number (BIP 324, v2 Bitcoin P2P message structure), and
//! its payload as in a frame.

use bitcoin::Transaction;
use bitcoin::block::Header;
use bitcoin::consensus::encode::{self, Decodable, VarInt};
use bitcoin::p2p::message::NetworkMessage;

use crate::codec::{Envelope, FrameError, READ, command_name};

/// Bytes of a type that is spelled out: a zero and the name as in a frame.
pub(super) const MAX_MESSAGE_TYPE: usize = 1 + NAME;
const NAME: usize = 12;

/// The types that have a number, from 1 on.
const NUMBERED: [&str; 28] = [
    "addr",
    "block",
    "blocktxn",
    "cmpctblock",
    "feefilter",
    "filteradd",
    "filterclear",
    "filterload",
    "getblocks",
    "getblocktxn",
    "getdata",
    "getheaders",
    "headers",
    "inv",
    "mempool",
    "merkleblock",
    "notfound",
    "ping",
    "pong",
    "sendcmpct",
    "tx",
    "getcfilters",
    "cfilter",
    "getcfheaders",
    "cfheaders",
    "getcfcheckpt",
    "cfcheckpt",
    "addrv2",
];

/// The type of a message, and how many bytes of it count.
pub(super) fn message_type(envelope: &Envelope) -> ([u8; MAX_MESSAGE_TYPE], usize) {
    let mut bytes = [0; MAX_MESSAGE_TYPE];
    let number = (1u8..).zip(NUMBERED).find(|(_, name)| *name == envelope.command()).map(|(number, _)| number);
    if let Some(number) = number {
        bytes[0] = number;
        return (bytes, 1);
    }
    bytes.iter_mut().skip(1).zip(envelope.command().bytes()).for_each(|(to, from)| *to = from);
    (bytes, MAX_MESSAGE_TYPE)
}

/// The type and the payload of a message that is read here; `None` for all others, and for what is no message.
pub(super) fn read(contents: &[u8]) -> Option<(&'static str, &[u8])> {
    let (first, rest) = contents.split_first()?;
    let (name, payload) = match first.checked_sub(1) {
        None => {
            let (name, payload) = rest.split_first_chunk::<NAME>()?;
            (command_name(name)?, payload)
        }
        Some(index) => (*NUMBERED.get(usize::from(index))?, rest),
    };
    READ.iter().find(|known| **known == name).map(|known| (*known, payload))
}

/// Reads the payload of one of [`READ`].
pub(super) fn decode(command: &str, payload: &[u8]) -> Result<NetworkMessage, FrameError> {
    decode_all(command, payload).map_err(|error| FrameError::Malformed { command: command.to_owned(), error })
}

fn decode_all(command: &str, mut payload: &[u8]) -> Result<NetworkMessage, encode::Error> {
    fn next<T: Decodable>(bytes: &mut &[u8]) -> Result<T, encode::Error> {
        T::consensus_decode_from_finite_reader(bytes)
    }
    let bytes = &mut payload;
    let message = match command {
        "version" => NetworkMessage::Version(next(bytes)?),
        "verack" => NetworkMessage::Verack,
        "wtxidrelay" => NetworkMessage::WtxidRelay,
        "sendaddrv2" => NetworkMessage::SendAddrV2,
        "sendheaders" => NetworkMessage::SendHeaders,
        "feefilter" => {
            let rate: i64 = next(bytes)?;
            if !u64::try_from(rate).is_ok_and(|rate| rate <= bitcoin::Amount::MAX_MONEY.to_sat()) {
                return Err(encode::Error::ParseFailed("feefilter value out of range"));
            }
            NetworkMessage::FeeFilter(rate)
        }
        "ping" => NetworkMessage::Ping(next(bytes)?),
        "pong" => NetworkMessage::Pong(next(bytes)?),
        "getaddr" => NetworkMessage::GetAddr,
        "addr" => NetworkMessage::Addr(next(bytes)?),
        "addrv2" => NetworkMessage::AddrV2(next(bytes)?),
        "inv" => NetworkMessage::Inv(next(bytes)?),
        "getdata" => NetworkMessage::GetData(next(bytes)?),
        "notfound" => NetworkMessage::NotFound(next(bytes)?),
        "getblocks" => NetworkMessage::GetBlocks(next(bytes)?),
        "getheaders" => NetworkMessage::GetHeaders(next(bytes)?),
        "headers" => NetworkMessage::Headers(headers(bytes)?),
        "block" => NetworkMessage::Block(next(bytes)?),
        "tx" => NetworkMessage::Tx(next::<Transaction>(bytes)?),
        "getcfilters" => NetworkMessage::GetCFilters(next(bytes)?),
        "getcfheaders" => NetworkMessage::GetCFHeaders(next(bytes)?),
        "getcfcheckpt" => NetworkMessage::GetCFCheckpt(next(bytes)?),
        "cfilter" => NetworkMessage::CFilter(next(bytes)?),
        "cfheaders" => NetworkMessage::CFHeaders(next(bytes)?),
        "cfcheckpt" => NetworkMessage::CFCheckpt(next(bytes)?),
        "sendcmpct" => NetworkMessage::SendCmpct(next(bytes)?),
        "cmpctblock" => NetworkMessage::CmpctBlock(next(bytes)?),
        "getblocktxn" => NetworkMessage::GetBlockTxn(next(bytes)?),
        "blocktxn" => NetworkMessage::BlockTxn(next(bytes)?),
        _ => return Err(encode::Error::ParseFailed("a message that is not read here")),
    };
    if !bytes.is_empty() {
        return Err(encode::Error::ParseFailed("extra bytes after the message"));
    }
    Ok(message)
}

/// Each is followed by the number of its transactions, none.
fn headers(bytes: &mut &[u8]) -> Result<Vec<Header>, encode::Error> {
    let VarInt(count) = VarInt::consensus_decode_from_finite_reader(bytes)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push(Header::consensus_decode_from_finite_reader(bytes)?);
        if u8::consensus_decode_from_finite_reader(bytes)? != 0 {
            return Err(encode::Error::ParseFailed("headers with transactions"));
        }
    }
    Ok(headers)
}
