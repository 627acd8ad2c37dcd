use super::*;
use bitcoin::Network;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::CommandString;
use bitcoin::p2p::message_blockdata::Inventory;

fn messages() -> Vec<NetworkMessage> {
    let block = genesis_block(Network::Regtest);
    vec![
        NetworkMessage::Verack,
        NetworkMessage::Ping(7),
        NetworkMessage::Headers(vec![block.header; 3]),
        NetworkMessage::Inv(vec![Inventory::WTx(bitcoin::Wtxid::all_zeros())]),
        NetworkMessage::Tx(block.txdata[0].clone()),
        NetworkMessage::Block(block),
    ]
}

fn decode_all(decoder: &mut FrameDecoder) -> Vec<NetworkMessage> {
    std::iter::from_fn(|| decoder.next_message().expect("the stream is sound")).collect()
}

#[test]
fn messages_survive_any_division_of_the_stream() {
    let unread = NetworkMessage::Unknown {
        command: CommandString::try_from_static("sendtxrcncl").unwrap(),
        payload: vec![1; 50],
    };
    let mut stream = Vec::new();
    for message in messages() {
        stream.extend(encode_frame(Magic::REGTEST, unread.clone()));
        stream.extend(encode_frame(Magic::REGTEST, message));
        stream.extend(encode_frame(Magic::REGTEST, NetworkMessage::FilterClear));
    }
    for size in [1, 2, 3, 7, 24, 25, 100, stream.len()] {
        let mut decoder = FrameDecoder::new(Magic::REGTEST);
        let mut got = Vec::new();
        for part in stream.chunks(size) {
            decoder.feed(part);
            got.extend(decode_all(&mut decoder));
        }
        assert_eq!(got, messages(), "in parts of {size}");
    }
}

#[test]
fn another_networks_magic_is_refused() {
    let mut decoder = FrameDecoder::new(Magic::REGTEST);
    decoder.feed(&encode_frame(Magic::BITCOIN, NetworkMessage::Verack));
    assert!(matches!(decoder.next_message(), Err(FrameError::WrongMagic { .. })));
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut frame = encode_frame(Magic::REGTEST, NetworkMessage::Ping(7));
    frame[20] ^= 1;
    let mut decoder = FrameDecoder::new(Magic::REGTEST);
    decoder.feed(&frame);
    assert!(matches!(decoder.next_message(), Err(FrameError::WrongChecksum { .. })));
}

#[test]
fn an_oversized_message_is_refused_from_its_header_alone() {
    let mut frame = encode_frame(Magic::REGTEST, NetworkMessage::Ping(7));
    frame[16..20].copy_from_slice(&4_000_001u32.to_le_bytes());
    let mut decoder = FrameDecoder::new(Magic::REGTEST);
    decoder.feed(&frame[..FRAME_HEADER]);
    assert!(matches!(decoder.next_message(), Err(FrameError::Oversized { length: 4_000_001, .. })));
}

#[test]
fn trailing_bytes_and_bad_commands_are_refused() {
    let unknown =
        NetworkMessage::Unknown { command: CommandString::try_from_static("ping").unwrap(), payload: vec![0; 9] };
    let mut decoder = FrameDecoder::new(Magic::REGTEST);
    decoder.feed(&encode_frame(Magic::REGTEST, unknown));
    assert!(matches!(decoder.next_message(), Err(FrameError::Malformed { .. })));
    let mut frame = encode_frame(Magic::REGTEST, NetworkMessage::Verack);
    frame[14] = b'x';
    let mut decoder = FrameDecoder::new(Magic::REGTEST);
    decoder.feed(&frame);
    assert!(matches!(decoder.next_message(), Err(FrameError::BadCommand)));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        index in 0usize..READ.len(),
        payload in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        tail in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
    ) {
        let command = CommandString::try_from_static(READ[index]).unwrap();
        let mut bytes = encode_frame(Magic::REGTEST, NetworkMessage::Unknown { command, payload });
        bytes.extend(tail);
        let mut decoder = FrameDecoder::new(Magic::REGTEST);
        for part in bytes.chunks(17) {
            decoder.feed(part);
            while let Ok(Some(_)) = decoder.next_message() {}
        }
    }

    #[test]
    fn a_flipped_bit_never_panics(index in 0usize..6, at in 0usize..400, bit in 0u8..8) {
        let mut bytes = encode_frame(Magic::REGTEST, messages().swap_remove(index));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let mut decoder = FrameDecoder::new(Magic::REGTEST);
        decoder.feed(&bytes);
        while let Ok(Some(_)) = decoder.next_message() {}
    }
}
