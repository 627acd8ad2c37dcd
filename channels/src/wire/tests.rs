//! What holds for every message, and BOLT's vectors for the wire.

use proptest::prelude::*;
use secp256k1::PublicKey;

use super::codec::{DecodeError, Reader, write_truncated};
use super::message::sample_messages;
use super::sample::Source;
use super::tlv::{Records, unknown};
use super::{Message, bigsize, tlv};
use crate::types::ShortChannelId;
use crate::vectors;

/// These carry everything after their last known field along unread, because signatures cover it.
fn keeps_its_tail(message: &Message) -> bool {
    matches!(message, Message::ChannelAnnouncement(_) | Message::NodeAnnouncement(_) | Message::ChannelUpdate(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_message_survives_a_round_trip(seed: u64) {
        for message in sample_messages(&mut Source::new(seed)) {
            let bytes = message.encode().unwrap();
            prop_assert_eq!(&Message::decode(&bytes), &Ok(message.clone()));
            prop_assert_eq!(u16::from_be_bytes([bytes[0], bytes[1]]), message.message_type());
        }
    }

    #[test]
    fn a_truncated_message_is_an_error_or_a_message_without_its_last_records(seed: u64) {
        for message in sample_messages(&mut Source::new(seed)) {
            let bytes = message.encode().unwrap();
            let step = 1 + bytes.len() / 200;
            for len in (0..bytes.len()).step_by(step) {
                if let Ok(shorter) = Message::decode(&bytes[..len]) {
                    prop_assert_eq!(shorter.encode().unwrap(), &bytes[..len]);
                }
            }
        }
    }

    #[test]
    fn an_unknown_record_at_the_end_is_dropped_if_odd_and_refused_if_even(seed: u64, value: Vec<u8>) {
        for message in sample_messages(&mut Source::new(seed)).iter().filter(|message| !keeps_its_tail(message)) {
            let mut odd = message.encode().unwrap();
            let mut even = odd.clone();
            tlv::write(65_537, &value, &mut odd);
            tlv::write(65_536, &value, &mut even);
            prop_assert_eq!(&Message::decode(&odd), &Ok(message.clone()));
            prop_assert_eq!(Message::decode(&even), Err(DecodeError::UnknownEvenRecord(65_536)));
        }
    }

    #[test]
    fn random_bytes_never_panic(kind in 0u16..300, payload: Vec<u8>) {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend(payload);
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_message_with_flipped_bytes_never_panics(seed: u64, flips: Vec<(usize, u8)>) {
        for message in sample_messages(&mut Source::new(seed)) {
            let mut bytes = message.encode().unwrap();
            for (at, mask) in &flips {
                let len = bytes.len();
                bytes[at % len] ^= mask;
            }
            let _ = Message::decode(&bytes);
        }
    }
}

#[test]
fn an_unknown_message_keeps_its_payload() {
    let bytes = [0x80, 0x01, 1, 2, 3];
    let message = Message::decode(&bytes).unwrap();
    assert_eq!(message, Message::Unknown { message_type: 0x8001, payload: vec![1, 2, 3] });
    assert!(!message.must_be_understood());
    assert_eq!(message.encode().unwrap(), bytes);
    assert_eq!(Message::decode(&[0]), Err(DecodeError::Truncated { missing: 1 }));
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let error = Message::from(super::ErrorMessage::new(crate::types::ChannelId::ALL, "x".repeat(70_000)));
    let mut out = vec![1];
    assert_eq!(error.encode_into(&mut out), Err(super::EncodeError::TooLong(70_036)));
    assert_eq!(out, [1]);
}

#[test]
fn bigsize_vectors() {
    let Some(vectors) = vectors::json("lightning/bolt01/bigsize.json") else { return };
    let mut count = 0;
    for case in vectors["decoding"].as_array().unwrap() {
        let bytes = hex::decode(case["bytes"].as_str().unwrap()).unwrap();
        let mut reader = Reader::new(&bytes);
        let read = bigsize::read(&mut reader).and_then(|value| reader.finish().map(|()| value));
        match case["exp_error"].as_str() {
            None => assert_eq!(read, Ok(case["value"].as_u64().unwrap()), "{case}"),
            Some(reason) if reason.contains("canonical") => assert_eq!(read, Err(DecodeError::NotMinimal), "{case}"),
            Some(_) => assert!(matches!(read, Err(DecodeError::Truncated { .. })), "{case}"),
        }
        count += 1;
    }
    for case in vectors["encoding"].as_array().unwrap() {
        let value = case["value"].as_u64().unwrap();
        let mut out = Vec::new();
        bigsize::write(value, &mut out);
        assert_eq!(hex::encode(&out), case["bytes"].as_str().unwrap(), "{case}");
        assert_eq!(out.len(), bigsize::len(value));
        count += 1;
    }
    vectors::ran("bolt01/bigsize.json", count, 26);
}

/// Both namespaces of BOLT 1's Appendix B, each value in words.
fn read_namespace(name: &str, stream: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut records = Records::new(Reader::new(stream));
    let mut seen = Vec::new();
    while let Some((kind, mut value)) = records.next_record()? {
        match (name, kind) {
            ("n1", 1) | ("n2", 0) => seen.push(format!("tlv1 amount_msat={}", value.truncated(8)?)),
            ("n1", 2) => seen.push(format!("tlv2 scid={}", value.field::<crate::types::ShortChannelId>()?)),
            ("n1", 3) => seen.push(format!(
                "tlv3 node_id={} amount_msat_1={} amount_msat_2={}",
                value.field::<PublicKey>()?,
                value.field::<u64>()?,
                value.field::<u64>()?
            )),
            ("n1", 254) => seen.push(format!("tlv4 cltv_delta={}", value.field::<u16>()?)),
            ("n2", 11) => seen.push(format!("tlv2 cltv_expiry={}", value.truncated(4)?)),
            _ => {
                unknown(kind)?;
                continue;
            }
        }
        value.finish()?;
    }
    Ok(seen)
}

#[test]
fn tlv_stream_vectors() {
    let Some(vectors) = vectors::json("lightning/bolt01/tlv_streams.json") else { return };
    let mut count = 0;
    for case in vectors["vectors"].as_array().unwrap() {
        let stream = hex::decode(case["stream"].as_str().unwrap()).unwrap();
        for namespace in case["namespaces"].as_array().unwrap() {
            let read = read_namespace(namespace.as_str().unwrap(), &stream);
            assert_eq!(read.is_ok(), case["valid"].as_bool().unwrap(), "{case}: {read:?}");
            if let Some(values) = case["values"].as_str() {
                assert_eq!(read.unwrap(), [values.replace('`', "")], "{case}");
            }
        }
        count += 1;
    }
    vectors::ran("bolt01/tlv_streams.json", count, 57);
}

#[test]
fn init_extension_vectors() {
    let Some(vectors) = vectors::json("lightning/bolt01/init_extension.json") else { return };
    let mut count = 0;
    for case in vectors["vectors"].as_array().unwrap() {
        let bytes = hex::decode(case["message"].as_str().unwrap()).unwrap();
        let read = Message::decode(&bytes);
        assert_eq!(read.is_ok(), case["valid"].as_bool().unwrap(), "{case}: {read:?}");
        count += 1;
    }
    vectors::ran("bolt01/init_extension.json", count, 5);
}

#[test]
fn signed_integer_vectors() {
    let Some(vectors) = vectors::json("lightning/bolt01/signed_integers.json") else { return };
    let mut count = 0;
    for case in vectors["vectors"].as_array().unwrap() {
        let bytes = hex::decode(case["bytes"].as_str().unwrap()).unwrap();
        let mut reader = Reader::new(&bytes);
        let value = match bytes.len() {
            1 => i64::from(reader.field::<i8>().unwrap()),
            2 => i64::from(reader.field::<i16>().unwrap()),
            4 => i64::from(reader.field::<i32>().unwrap()),
            _ => reader.field::<i64>().unwrap(),
        };
        assert_eq!(Some(value), case["value"].as_i64(), "{case}");
        reader.finish().unwrap();
        count += 1;
    }
    vectors::ran("bolt01/signed_integers.json", count, 23);
}

#[test]
fn extended_query_vectors() {
    let Some(vectors) = vectors::json("lightning/bolt07/extended-queries.json") else { return };
    let mut count = 0;
    for case in vectors.as_array().unwrap() {
        let bytes = hex::decode(case["hex"].as_str().unwrap()).unwrap();
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.encode().unwrap(), bytes);
        let expected = &case["msg"];
        let told = |ids: &[ShortChannelId]| -> serde_json::Value { ids.iter().map(ToString::to_string).collect() };
        let ids = |ids: &super::ShortIds| match ids {
            super::ShortIds::Plain(list) => {
                assert_eq!(expected["shortChannelIds"]["encoding"], "UNCOMPRESSED");
                assert_eq!(told(list), expected["shortChannelIds"]["array"]);
            }
            super::ShortIds::Zlib(_) => {
                assert_eq!(expected["shortChannelIds"]["encoding"], "COMPRESSED_ZLIB");
                assert_eq!(told(&ids.read().unwrap()), expected["shortChannelIds"]["array"]);
            }
            super::ShortIds::Unsupported { encoding, .. } => panic!("encoding {encoding}"),
        };
        match &message {
            Message::QueryChannelRange(query) => {
                assert_eq!(expected["type"], "QueryChannelRange");
                assert_eq!(expected["firstBlockNum"], query.first_blocknum);
                assert_eq!(expected["numberOfBlocks"], query.number_of_blocks);
                let both = expected["tlvStream"]["records"][0] == "WANT_TIMESTAMPS | WANT_CHECKSUMS";
                assert_eq!(query.query_option.is_some_and(|o| o.wants_timestamps() && o.wants_checksums()), both);
            }
            Message::ReplyChannelRange(reply) => {
                assert_eq!(expected["type"], "ReplyChannelRange");
                assert_eq!(expected["firstBlockNum"], reply.first_blocknum);
                assert_eq!(expected["complete"], reply.sync_complete);
                ids(&reply.encoded_short_ids);
                if let Some(super::queries::Timestamps::Plain(timestamps)) = &reply.timestamps {
                    for (got, wanted) in timestamps.iter().zip(expected["timestamps"]["timestamps"].as_array().unwrap())
                    {
                        assert_eq!(wanted["timestamp1"], got.timestamp_node_id_1);
                        assert_eq!(wanted["timestamp2"], got.timestamp_node_id_2);
                    }
                }
                if let Some(super::queries::Checksums(checksums)) = &reply.checksums {
                    for (got, wanted) in checksums.iter().zip(expected["checksums"]["checksums"].as_array().unwrap()) {
                        assert_eq!(wanted["checksum1"], got.checksum_node_id_1);
                        assert_eq!(wanted["checksum2"], got.checksum_node_id_2);
                    }
                }
            }
            Message::QueryShortChannelIds(query) => {
                assert_eq!(expected["type"], "QueryShortChannelIds");
                ids(&query.encoded_short_ids);
                if let Some(super::queries::QueryFlags::Plain(flags)) = &query.query_flags {
                    assert_eq!(expected["tlvStream"]["records"][0]["array"], serde_json::json!(flags));
                }
            }
            other => panic!("unexpected {other:?}"),
        }
        count += 1;
    }
    vectors::ran("bolt07/extended-queries.json", count, 10);
}

#[test]
fn truncated_integers_are_written_without_zeros() {
    let mut out = Vec::new();
    write_truncated(0x0100, &mut out);
    assert_eq!(out, [1, 0]);
}
