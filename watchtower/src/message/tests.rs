//! Messages as bytes, and backups in several frames.

use leyden_channels::{
    keys::secp,
    types::{CltvExpiry, Msat, PaymentHash},
};
use proptest::prelude::*;
use secp256k1::SecretKey;

use super::*;
use crate::{appointment::FundingIndex, codec::decode, receipt::Digest};

const CHANNEL: ChannelName = ChannelName { tag: ChannelTag([7; 16]), funding: FundingIndex(1) };
const NUMBER: CommitmentNumber = CommitmentNumber(77);
const MARK: Mark = Mark([6; 16]);

fn htlc(id: u64) -> CommitmentHtlc {
    CommitmentHtlc {
        direction: HtlcDirection::Offered,
        id: HtlcId(id),
        amount: Msat(5_000_000),
        payment_hash: PaymentHash([9; 32]),
        cltv_expiry: CltvExpiry(800_000),
    }
}

fn own_body(htlcs: u64) -> BackupBody {
    let known = StateHtlc::Known { direction: HtlcDirection::Received, id: HtlcId(3) };
    let htlcs = std::iter::once(known).chain((0..htlcs).map(|id| StateHtlc::New(htlc(id)))).collect();
    BackupBody::Own { secret: PerCommitmentSecret([8; 32]), htlcs }
}

fn samples() -> Vec<TowerMessage> {
    let key = SecretKey::from_slice(&[5; 32]).unwrap().public_key(secp());
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    let held = Held { first: CommitmentNumber(0), up_to: NUMBER, digest: Digest([4; 32]) };
    let backup = Backup { channel: CHANNEL, number: NUMBER, body: own_body(2) };
    let features = TowerFeatures::BLIND.with(TowerFeatures::OWN);
    let (mode, sweep_feerate) = (Mode::Own, FeeratePerKw(2_500));
    let mut all = backup.to_messages(MARK);
    let receipt = SignedHeld { held, until: Height(9), signature };
    let closed = Closed { txid: bitcoin::hashes::Hash::all_zeros(), height: Height(8) };
    let htlcs = [None, Some(NUMBER)].map(|last| PastHtlc { htlc: htlc(4), first: CommitmentNumber(3), last });
    let body = BackupBody::OwnPast { secrets: PerCommitmentSecrets::default(), htlcs: htlcs.to_vec(), more: true };
    assert_eq!(decode(&encode(&body)), Ok(body));
    all.extend([
        Hello { version: PROTOCOL_VERSION, chain: ChainHash::REGTEST, features }.into(),
        Register { mode, sweep_feerate, term: 52_560 }.into(),
        Registered { mode, sweep_feerate, states: 9, bytes: 10, until: Height(11), receipt_key: key }.into(),
        OpenChannel { channel: CHANNEL, constants: vec![1, 2, 3] }.into(),
        ChannelOpened { channel: CHANNEL }.into(),
        BackupRest { bytes: vec![4; 9] }.into(),
        Acknowledged { channel: CHANNEL, receipt }.into(),
        CloseChannel { tag: CHANNEL.tag }.into(),
        ChannelClosed { tag: CHANNEL.tag }.into(),
        Ask::All.into(),
        Ask::Channel(CHANNEL).into(),
        Ask::Audit { channel: CHANNEL, up_to: NUMBER, nonce: [3; 32] }.into(),
        Ask::Possession { channel: CHANNEL, number: NUMBER, nonce: [3; 32] }.into(),
        Ask::Chain.into(),
        ChainSeen { height: Height(7), is_sure: true }.into(),
        State { remaining: 0, channel: None, has: Has::Nothing }.into(),
        State { remaining: 2, channel: Some(CHANNEL), has: Has::Backups { receipt, mark: MARK } }.into(),
        State { remaining: 1, channel: Some(CHANNEL), has: Has::Closed(SignedClosed { closed, signature }) }.into(),
        Audited { channel: CHANNEL, nonce: [3; 32], at: Height(3), says: Says::Holds(held), signature }.into(),
        Audited { channel: CHANNEL, nonce: [3; 32], at: Height(3), says: Says::Closed(closed), signature }.into(),
        Audited { channel: CHANNEL, nonce: [3; 32], at: Height(3), says: Says::Nothing, signature }.into(),
        Possession { channel: CHANNEL, number: NUMBER, proof: Some([6; 32]) }.into(),
        Refused {
            what: 11,
            code: RefusalCode::Other(900),
            channel: Some(CHANNEL),
            number: None,
            text: "the disk is full".into(),
        }
        .into(),
    ]);
    all
}

#[test]
fn every_message_is_decoded_to_itself_and_refused_when_it_is_cut_short() {
    for message in samples() {
        let bytes = message.encode();
        assert_eq!(TowerMessage::decode(&bytes), Ok(message.clone()));
        for len in 2..bytes.len() {
            assert!(TowerMessage::decode(&bytes[..len]).is_err(), "{} at {len}", message.name());
        }
    }
}

#[test]
fn unknown_odd_types_and_records_are_passed_over_and_even_ones_are_not() {
    let unknown = TowerMessage::decode(&[0, 99, 1, 2]).unwrap();
    assert!(!unknown.must_be_understood());
    assert!(TowerMessage::decode(&[0, 98]).unwrap().must_be_understood());
    let mut bytes = TowerMessage::from(ChannelOpened { channel: CHANNEL }).encode();
    bytes.extend([1, 1, 7]);
    assert!(TowerMessage::decode(&bytes).is_ok());
    bytes.extend([2, 1, 7]);
    assert!(TowerMessage::decode(&bytes).is_err());
}

#[test]
fn a_backup_longer_than_a_frame_is_put_together_again() {
    let body = BackupBody::Blind { hint: Hint([3; 8]), sealed: (0..140_000).map(|at| at as u8).collect() };
    let backup = Backup { channel: CHANNEL, number: NUMBER, body };
    let mut assembler = Assembler::default();
    let mut whole = None;
    for message in backup.to_messages(MARK) {
        assert!(whole.is_none() && message.encode().len() <= MAX_MESSAGE_LEN);
        whole = match message {
            TowerMessage::Backup(part) => assembler.begin(part),
            TowerMessage::BackupRest(rest) => {
                assert!(!assembler.is_idle());
                assembler.rest(&rest)
            }
            other => panic!("{}", other.name()),
        }
        .unwrap();
    }
    let whole = whole.unwrap();
    assert_eq!((whole.body, whole.mark), (Ok(backup.body), MARK));
    assert!(assembler.is_idle());
}

#[test]
fn parts_that_do_not_make_a_backup_are_refused_before_they_take_room() {
    let part =
        |total, bytes: usize| BackupPart { channel: CHANNEL, number: NUMBER, mark: MARK, total, bytes: vec![1; bytes] };
    let mut assembler = Assembler::default();
    assert_eq!(assembler.rest(&BackupRest { bytes: vec![1] }), Err(AssemblyError::NotBegun));
    assert_eq!(assembler.begin(part(u32::MAX, 1)), Err(AssemblyError::TooLong { got: u32::MAX }));
    assert_eq!(assembler.begin(part(3, 5)), Err(AssemblyError::TooMuch { extra: 2 }));
    assert_eq!(assembler.begin(part(6, 5)), Ok(None));
    assert_eq!(assembler.begin(part(6, 5)), Err(AssemblyError::Unfinished));
}

#[test]
fn the_own_backup_of_966_new_htlcs_is_one_frame() {
    let backup = Backup { channel: CHANNEL, number: NUMBER, body: own_body(966) };
    assert_eq!(backup.to_messages(MARK).len(), 1);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(kind in 0_u8..30, bytes: Vec<u8>) {
        let message = [vec![0, kind], bytes.clone()].concat();
        if let Ok(message) = TowerMessage::decode(&message) {
            prop_assert_eq!(TowerMessage::decode(&message.encode()), Ok(message));
        }
        let _ = decode::<BackupBody>(&bytes);
    }
}
