use std::path::PathBuf;

use bitcoin::Network;
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::p2p::message::{CommandString, NetworkMessage};
use bitcoin::p2p::message_blockdata::Inventory;
use bitcoin::p2p::message_compact_blocks::SendCmpct;
use proptest::prelude::*;
use secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use secp256k1::{PublicKey, SecretKey};

use super::cipher::{SessionKeys, TAG, TERMINATOR};
use super::packets::{PacketDecoder, seal};
use super::*;
use crate::codec::{READ, encode_frame};

const MAGIC: Magic = Magic::REGTEST;

fn secrets(seed: u8, garbage: usize) -> Secrets {
    Secrets { key: [seed; 32], entropy: [seed ^ 0xff; 32], garbage: vec![seed.wrapping_mul(7); garbage] }
}

fn opened(
    progress: Result<(Vec<u8>, Option<Transport>), FrameError>,
    send: &mut Vec<u8>,
    transport: &mut Option<Transport>,
) {
    let (bytes, done) = progress.expect("the other side is honest");
    send.extend(bytes);
    if let Some(done) = done {
        *transport = Some(done);
    }
}

/// Two ends that have found each other, with everything between them cut into pieces of `piece` bytes.
fn pair(garbage: (usize, usize), piece: usize) -> (Transport, Transport) {
    let (mut initiator, greeting) = Opening::initiate(MAGIC, secrets(1, garbage.0)).unwrap();
    let mut responder = Opening::respond(MAGIC, secrets(2, garbage.1)).unwrap();
    let (mut to_responder, mut to_initiator) = (greeting, Vec::new());
    let (mut one, mut two) = (None, None);
    while one.is_none() || two.is_none() {
        assert!(!to_responder.is_empty() || !to_initiator.is_empty(), "both wait for each other");
        for part in std::mem::take(&mut to_responder).chunks(piece) {
            opened(responder.take(part), &mut to_initiator, &mut two);
        }
        for part in std::mem::take(&mut to_initiator).chunks(piece) {
            opened(initiator.take(part), &mut to_responder, &mut one);
        }
    }
    (one.unwrap(), two.unwrap())
}

fn messages() -> Vec<NetworkMessage> {
    let block = genesis_block(Network::Regtest);
    vec![
        NetworkMessage::Verack,
        NetworkMessage::Ping(7),
        NetworkMessage::SendHeaders,
        NetworkMessage::FeeFilter(1_000),
        NetworkMessage::Headers(vec![block.header; 3]),
        NetworkMessage::Inv(vec![Inventory::WTx(bitcoin::Wtxid::all_zeros())]),
        NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 2 }),
        NetworkMessage::Tx(block.txdata[0].clone()),
        NetworkMessage::Block(block),
    ]
}

fn sent(from: &mut Transport, message: &NetworkMessage) -> Vec<u8> {
    from.encoder.encode(&Envelope::new(message)).unwrap()
}

fn received(to: &mut Transport, bytes: &[u8]) -> Vec<NetworkMessage> {
    to.decoder.feed(bytes);
    std::iter::from_fn(|| to.decoder.next_message().expect("the stream is sound")).collect()
}

#[test]
fn both_ends_agree_however_the_stream_is_cut_and_over_many_keys() {
    for (garbage, piece) in [((0, 0), 1), ((4_095, 4_095), 1), ((17, 3_000), 2), ((64, 16), 63), ((1, 4_095), 1 << 20)]
    {
        let (mut one, mut two) = pair(garbage, piece);
        assert_eq!(one.kind, two.kind);
        assert!(matches!(one.kind, TransportKind::V2 { .. }));
        // Three times as many packets as a key serves, both ways.
        for number in 0..1_400 {
            let message = &messages()[number % messages().len()];
            let bytes = sent(&mut one, message);
            let got: Vec<_> = bytes.chunks(piece.max(20)).flat_map(|part| received(&mut two, part)).collect();
            assert_eq!(got, std::slice::from_ref(message));
            std::mem::swap(&mut one, &mut two);
        }
    }
}

#[test]
fn every_cut_of_a_whole_connection_gives_the_same() {
    let (mut initiator, greeting) = Opening::initiate(MAGIC, secrets(1, 5)).unwrap();
    let mut responder = Opening::respond(MAGIC, secrets(2, 9)).unwrap();
    let (answer, _) = responder.take(&greeting).unwrap();
    let (rest, Some(mut one)) = initiator.take(&answer).unwrap() else { panic!("the answer is whole") };
    // The initiator's stream: its greeting, what ends its garbage, its version packet, and messages.
    let mut stream = [greeting, rest].concat();
    for message in messages() {
        stream.extend(sent(&mut one, &message));
    }
    for cut in 1..stream.len() {
        let mut responder = Opening::respond(MAGIC, secrets(2, 9)).unwrap();
        let mut transport = None;
        let mut got = Vec::new();
        for part in [&stream[..cut], &stream[cut..]] {
            match &mut transport {
                None => opened(responder.take(part), &mut Vec::new(), &mut transport),
                Some(transport) => got.extend(received(transport, part)),
            }
            if let Some(transport) = &mut transport {
                got.extend(received(transport, &[]));
            }
        }
        assert_eq!(got, messages(), "cut at {cut}");
    }
}

#[test]
fn a_message_takes_one_byte_for_its_type_and_twenty_around_it() {
    let (mut one, mut two) = pair((0, 0), 1 << 20);
    let numbered = sent(&mut one, &NetworkMessage::Ping(7));
    assert_eq!(numbered.len(), 3 + 1 + 1 + 8 + 16);
    assert_eq!(received(&mut two, &numbered), [NetworkMessage::Ping(7)]);
    let named = sent(&mut one, &NetworkMessage::Verack);
    assert_eq!(named.len(), 3 + 1 + 13 + 16);
    assert_eq!(received(&mut two, &named), [NetworkMessage::Verack]);
    // Both ways to name a type are read (BIP 324, changelog 1.1).
    let command = CommandString::try_from_static("ping").unwrap();
    let spelled = [&[0][..], b"ping\0\0\0\0\0\0\0\0", &[9, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(contents::read(&spelled), Some(("ping", &spelled[13..])));
    assert_eq!(command.to_string(), "ping");
}

#[test]
fn what_is_no_message_of_ours_is_passed_over() {
    for contents in
        [&[][..], &[0], &[0; 12], &[29, 1, 2], &[255], b"\0ping\0x\0\0\0\0\0\0", b"\0unheard\0\0\0\0\0", &[15]]
    {
        assert_eq!(contents::read(contents), None, "{contents:?}");
    }
}

/// The keys of an initiator and of a responder, for streams that a test writes by itself.
fn keys() -> (SessionKeys, SessionKeys) {
    (SessionKeys::derive(&[5; 32], MAGIC, true), SessionKeys::derive(&[5; 32], MAGIC, false))
}

#[test]
fn decoys_are_dropped_wherever_they_come() {
    let (mut initiator, greeting) = Opening::initiate(MAGIC, secrets(1, 3)).unwrap();
    let own = SecretKey::from_slice(&[2; 32]).unwrap();
    let public = ElligatorSwift::from_pubkey(PublicKey::from_secret_key_global(&own));
    let theirs = ElligatorSwift::from_array(greeting[..64].try_into().unwrap());
    let secret = ElligatorSwift::shared_secret(theirs, public, own, ElligatorSwiftParty::B, None);
    let mut keys = SessionKeys::derive(secret.as_secret_bytes(), MAGIC, false);
    let garbage = b"a responder's garbage";
    let mut stream = public.to_array().to_vec();
    stream.extend(garbage);
    stream.extend(keys.send_terminator);
    // The first packet is bound to the garbage, a decoy too; and the version packet may say something.
    stream.extend(seal(&mut keys.send, true, garbage, &[b"nothing"]).unwrap());
    stream.extend(seal(&mut keys.send, true, &[], &[]).unwrap());
    stream.extend(seal(&mut keys.send, false, &[], &[b"some version to come"]).unwrap());
    stream.extend(seal(&mut keys.send, true, &[], &[&[19; 9]]).unwrap());
    stream.extend(seal(&mut keys.send, false, &[], &[&[18], &7u64.to_le_bytes()]).unwrap());
    let (_, transport) = initiator.take(&stream).unwrap();
    assert_eq!(received(&mut transport.unwrap(), &[]), [NetworkMessage::Ping(7)]);
}

#[test]
fn a_first_packet_that_is_not_bound_to_the_garbage_is_refused() {
    let (mut initiator, _) = Opening::initiate(MAGIC, secrets(1, 3)).unwrap();
    let mut responder = Opening::respond(MAGIC, secrets(2, 50)).unwrap();
    let (_, greeting) = Opening::initiate(MAGIC, secrets(1, 3)).unwrap();
    let (mut answer, _) = responder.take(&greeting).unwrap();
    answer[70] ^= 1;
    assert!(matches!(initiator.take(&answer), Err(FrameError::NotAuthentic)));
    // And there is no second try.
    assert!(initiator.take(&[0; 100]).is_err());
}

#[test]
fn an_altered_byte_anywhere_ends_the_connection() {
    let (mut ours, _) = keys();
    let packet = seal(&mut ours.send, false, &[], &[&[18], &7u64.to_le_bytes()]).unwrap();
    // Beyond the length: a longer one is waited for.
    for place in 3..packet.len() {
        let mut altered = packet.clone();
        altered[place] ^= 1;
        let mut decoder = PacketDecoder::new(keys().1.receive, Vec::new());
        decoder.feed(&altered);
        assert!(matches!(decoder.next_contents(), Err(FrameError::NotAuthentic)), "byte {place}");
    }
}

#[test]
fn more_than_a_message_may_have_is_refused_from_its_length_alone() {
    let long = vec![0; 13 + crate::codec::MAX_PAYLOAD + 1];
    for (length, is_refused) in [(long.len(), true), (long.len() - 1, false)] {
        let packet = seal(&mut keys().0.send, false, &[], &[&long[..length]]).unwrap();
        let mut decoder = PacketDecoder::new(keys().1.receive, Vec::new());
        decoder.feed(&packet[..3]);
        assert_eq!(matches!(decoder.next_contents(), Err(FrameError::Oversized { .. })), is_refused);
    }
    // 24 bits tell no more than this.
    assert!(seal(&mut keys().0.send, false, &[], &[&vec![0; 1 << 24]]).is_none());
}

#[test]
fn garbage_without_an_end_is_given_up_after_4095_bytes() {
    let greeting = |garbage: usize| {
        let (_, mut greeting) = Opening::initiate(MAGIC, secrets(1, 0)).unwrap();
        greeting.extend(vec![9; garbage]);
        greeting
    };
    let mut responder = Opening::respond(MAGIC, secrets(2, 0)).unwrap();
    assert!(responder.take(&greeting(MAX_GARBAGE + TERMINATOR - 1)).is_ok());
    assert!(matches!(responder.take(&[9]), Err(FrameError::NoGarbageTerminator)));
    let mut responder = Opening::respond(MAGIC, secrets(2, 0)).unwrap();
    assert!(matches!(responder.take(&greeting(100_000)), Err(FrameError::NoGarbageTerminator)));
}

#[test]
fn a_plain_connection_is_seen_at_its_sixteenth_byte_and_goes_on() {
    let version =
        NetworkMessage::Unknown { command: CommandString::try_from_static("version").unwrap(), payload: vec![] };
    let stream = [encode_frame(MAGIC, version), encode_frame(MAGIC, NetworkMessage::Ping(3))].concat();
    let mut responder = Opening::respond(MAGIC, secrets(2, 9)).unwrap();
    for byte in &stream[..15] {
        let (send, transport) = responder.take(&[*byte]).unwrap();
        assert!(send.is_empty() && transport.is_none());
    }
    let (send, transport) = responder.take(&stream[15..]).unwrap();
    assert!(send.is_empty());
    let mut transport = transport.unwrap();
    assert_eq!(transport.kind, TransportKind::V1);
    // The first is no real `version`, so that both can be told apart.
    assert!(matches!(transport.decoder.next_message(), Err(FrameError::Malformed { .. })));
    assert_eq!(sent(&mut transport, &NetworkMessage::Ping(4)), encode_frame(MAGIC, NetworkMessage::Ping(4)));
}

#[test]
fn another_network_is_not_answered() {
    let stream = encode_frame(Magic::BITCOIN, messages().swap_remove(0));
    let mut version = stream.clone();
    version[4..16].copy_from_slice(b"version\0\0\0\0\0");
    let mut responder = Opening::respond(MAGIC, secrets(2, 9)).unwrap();
    assert!(matches!(responder.take(&version), Err(FrameError::WrongMagic { .. })));
    // Byte by byte it is answered like anything, but not for long.
    let mut responder = Opening::respond(MAGIC, secrets(2, 9)).unwrap();
    let ended = version.iter().find_map(|byte| responder.take(&[*byte]).err());
    assert!(matches!(ended, Some(FrameError::WrongMagic { .. })));
    // A connection of v2 between two networks comes to nothing.
    let (mut initiator, greeting) = Opening::initiate(Magic::BITCOIN, secrets(1, 0)).unwrap();
    let (answer, _) = Opening::respond(MAGIC, secrets(2, 0)).unwrap().take(&greeting).unwrap();
    let ended = answer.iter().cycle().take(10_000).find_map(|byte| initiator.take(&[*byte]).err());
    assert!(matches!(ended, Some(FrameError::NoGarbageTerminator)));
}

#[test]
fn what_a_packet_holds_is_read_as_in_a_frame() {
    let commands: Vec<String> = messages().iter().map(|message| message.command().to_string()).collect();
    for (message, command) in messages().iter().zip(&commands) {
        let envelope = Envelope::new(message);
        assert_eq!(contents::decode(command, envelope.payload()).unwrap(), *message);
        let longer = [envelope.payload(), &[0]].concat();
        assert!(contents::decode(command, &longer).is_err(), "{command} with a byte too many");
    }
    // Nothing that is read here is unknown there.
    for command in READ {
        let unknown = matches!(contents::decode(command, &[]), Err(FrameError::Malformed { error, .. })
            if error.to_string().contains("not read here"));
        assert!(!unknown, "{command}");
    }
    assert!(contents::decode("feefilter", &(-1i64).to_le_bytes()).is_err());
    let with_transactions =
        [&[1][..], &bitcoin::consensus::serialize(&genesis_block(Network::Regtest).header), &[1]].concat();
    assert!(contents::decode("headers", &with_transactions).is_err());
}

#[test]
fn no_secret_is_shown() {
    let (initiator, _) = Opening::initiate(MAGIC, secrets(1, 3)).unwrap();
    let shown = format!("{initiator:?} {:?} {:?}", secrets(1, 3), keys().0.send);
    assert!(!shown.contains("1, 1") && !shown.contains("0101"), "{shown}");
    assert!(matches!(Opening::respond(MAGIC, Secrets { key: [0; 32], ..secrets(1, 0) }), Err(FrameError::NoKey)));
}

proptest! {
    #[test]
    fn no_bytes_make_an_opening_or_a_packet_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..6_000),
        piece in 1usize..700,
        is_initiator: bool,
    ) {
        let mut opening = if is_initiator {
            Opening::initiate(MAGIC, secrets(1, 10)).unwrap().0
        } else {
            Opening::respond(MAGIC, secrets(2, 10)).unwrap()
        };
        for part in bytes.chunks(piece) {
            if !matches!(opening.take(part), Ok((_, None))) {
                break;
            }
        }
        let mut decoder = PacketDecoder::new(keys().1.receive, Vec::new());
        for part in bytes.chunks(piece) {
            decoder.feed(part);
            while let Ok(Some(_)) = decoder.next_contents() {}
        }
    }

    #[test]
    fn any_contents_are_read_or_refused_without_a_panic(
        first in 0u8..32,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [&[first][..], &payload].concat();
        if let Some((command, payload)) = contents::read(&bytes)
            && let Ok(message) = contents::decode(command, payload)
        {
            let envelope = Envelope::new(&message);
            prop_assert_eq!(contents::decode(command, envelope.payload()).unwrap(), message);
        }
    }
}

fn table(name: &str) -> Option<Vec<Vec<String>>> {
    let folder = std::env::var_os("LEYDEN_VECTORS").unwrap_or_else(|| "../../../shared/vectors".into());
    let path = PathBuf::from(folder).join("bips").join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("CI").is_none(), "no test vectors at {}: set LEYDEN_VECTORS", path.display());
        println!("skipped: no test vectors at {} (set LEYDEN_VECTORS)", path.display());
        return None;
    };
    let rows = text.lines().skip(1).filter(|line| !line.is_empty());
    Some(rows.map(|line| line.split(',').map(str::to_owned).collect()).collect())
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn array<const N: usize>(text: &str) -> [u8; N] {
    hex(text).try_into().unwrap()
}

#[test]
fn packets_are_those_of_the_bip_s_vectors() {
    let Some(rows) = table("bip324_packet_encoding.csv") else { return };
    for row in &rows {
        let [index, secret, ours, theirs, initiating, contents, multiply, aad, ignore] = &row[..9] else { panic!() };
        let is_initiator = initiating == "1";
        let (own, other) = (ElligatorSwift::from_array(array(ours)), ElligatorSwift::from_array(array(theirs)));
        let (a, b, party) =
            if is_initiator { (own, other, ElligatorSwiftParty::A) } else { (other, own, ElligatorSwiftParty::B) };
        let secret = ElligatorSwift::shared_secret(a, b, SecretKey::from_slice(&hex(secret)).unwrap(), party, None);
        assert_eq!(secret.as_secret_bytes().to_vec(), hex(&row[12]));
        let mut keys = SessionKeys::derive(secret.as_secret_bytes(), Magic::BITCOIN, is_initiator);
        assert_eq!(keys.send_terminator.to_vec(), hex(&row[17]));
        assert_eq!(keys.receive_terminator.to_vec(), hex(&row[18]));
        assert_eq!(keys.session_id.to_vec(), hex(&row[19]));
        let (aad, ignore) = (hex(aad), ignore == "1");
        for _ in 0..index.parse::<u32>().unwrap() {
            seal(&mut keys.send, true, &[], &[]).unwrap();
        }
        let contents = hex(contents).repeat(multiply.parse().unwrap());
        let packet = seal(&mut keys.send, ignore, &aad, &[&contents]).unwrap();
        assert_eq!(packet.len(), 3 + 1 + contents.len() + TAG);
        let (whole, end) = (&row[20], hex(&row[21]));
        assert!(whole.is_empty() || packet == hex(whole), "packet {index}");
        assert!(packet.ends_with(&end), "packet {index}");
        // And the other side reads it.
        let theirs = SessionKeys::derive(secret.as_secret_bytes(), Magic::BITCOIN, !is_initiator);
        assert_eq!(theirs.session_id, keys.session_id);
    }
    println!("{} packets", rows.len());
    assert!(rows.len() >= 7);
}

#[test]
fn keys_are_read_from_random_bytes_as_the_bip_has_it() {
    let Some(rows) = table("bip324_ellswift_decode.csv") else { return };
    for row in &rows {
        let point = PublicKey::from_ellswift(ElligatorSwift::from_array(array(&row[0])));
        assert_eq!(point.serialize()[1..].to_vec(), hex(&row[1]), "{}", row[2]);
    }
    assert!(rows.len() >= 70);
}
