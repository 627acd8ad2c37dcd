//! Backups of real commitments: a blind tower can open them at the breach and at no other time, an own one takes them in their
//! order, and both hold the same bytes each time they are made.

use bitcoin::Amount;
use leyden_channels::{
    channel::{ChannelType, Htlc, RetiredHtlc, RevokedHtlc, RevokedPast, RevokedState, SideTerms, Sides, Terms},
    keys::{PerCommitmentSecrets, Signer as _},
    types::{ChannelId, CommitmentNumber, CommitmentType, HtlcDirection, Msat, NodeId, Side},
};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, FundingIndex},
    client::{
        Constants, Place, Session,
        build::{BuildError, Maker, MakerKeys, SignedState},
        record::TowerId,
    },
    kit::{self, DEFAULT_SWEEP_FEERATE},
    message::{Backup, BackupBody, MAX_BODY, Mode, StateHtlc},
    own::{Guard, OwnChannel, RevocationSecret},
};

use super::common::{CAPACITY, DELAY, Duo, KINDS, State, home};

fn duo(kind: CommitmentType) -> Duo {
    let state = |alice, offered: &[(u64, u64)], received: &[(u64, u64)]| State {
        alice,
        offered: offered.to_vec(),
        received: received.to_vec(),
    };
    let states = vec![
        state(500_000, &[], &[]),
        state(400_000, &[(0, 100_000)], &[]),
        state(400_000, &[(0, 100_000)], &[(0, 50_000)]),
        state(400_000, &[(0, 100_000)], &[(0, 50_000), (1, 60_000)]),
        state(450_000, &[(0, 100_000)], &[(1, 60_000)]),
    ];
    Duo::new(7, kind, states)
}

fn terms(duo: &Duo) -> Terms {
    let side = |basepoints: &leyden_channels::keys::Basepoints| SideTerms {
        dust_limit: Amount::from_sat(546),
        max_htlc_value_in_flight: Msat(CAPACITY.to_sat() * 1_000),
        channel_reserve: Amount::from_sat(10_000),
        htlc_minimum: Msat(1),
        to_self_delay: DELAY,
        max_accepted_htlcs: 483,
        basepoints: basepoints.clone(),
        upfront_shutdown_script: None,
    };
    Terms {
        channel_id: ChannelId([9; 32]),
        remote_node: NodeId([2; 33]),
        keys_id: [0; 32],
        opener: Side::Local,
        channel_type: ChannelType { commitment: duo.kind, scid_alias: false, zero_conf: false },
        announce: false,
        funding: duo.funding.outpoint,
        capacity: CAPACITY,
        push: Some(Msat(0)),
        minimum_depth: 3,
        sides: Sides { local: side(duo.alice.basepoints()), remote: side(duo.bob.basepoints()) },
        shutdown_script: home(1),
    }
}

fn revoked(duo: &Duo, number: u64) -> RevokedState {
    let state = duo.bobs_state(number);
    let before = number.checked_sub(1).map(|number| duo.bobs_state(number).htlcs).unwrap_or_default();
    let is_new = |htlc: &leyden_channels::tx::CommitmentHtlc| !before.contains(htlc);
    RevokedState {
        number: state.number,
        feerate: state.feerate,
        to_local: state.to_local,
        to_remote: state.to_remote,
        htlcs: state.htlcs.iter().map(|htlc| RevokedHtlc { htlc: *htlc, is_new: is_new(htlc) }).collect(),
    }
}

fn place(mode: Mode) -> Place {
    let name = ChannelName { tag: ChannelTag([5; 16]), funding: FundingIndex(0) };
    Place {
        tower: TowerId(0),
        channel: ChannelId([9; 32]),
        session: Session(1),
        mode,
        name,
        sweep_feerate: DEFAULT_SWEEP_FEERATE,
    }
}

/// Hands a maker of this mode to `with`.
fn make<T>(duo: &Duo, mode: Mode, with: impl Fn(&Maker<'_>) -> T) -> T {
    let revocation = RevocationSecret(duo.alice.release_revocation_secret());
    let keys = match mode {
        Mode::Blind => MakerKeys::Blind { secret: &[3; 32], signer: &duo.alice },
        Mode::Own => MakerKeys::Own { revocation: &revocation },
    };
    let (terms, destination) = (terms(duo), home(3));
    let place = place(mode);
    with(&Maker { place, terms: &terms, destination: &destination, sweep_feerate: DEFAULT_SWEEP_FEERATE, keys })
}

#[test]
fn a_blind_backup_opens_at_its_breach_and_claims_every_output_of_the_cheater() {
    for kind in KINDS {
        let duo = duo(kind);
        for number in 0..duo.states.len() as u64 {
            let made = || {
                make(&duo, Mode::Blind, |maker| {
                    let constants = maker.constants().unwrap();
                    let backup = maker.state(&revoked(&duo, number), duo.secret(number), CommitmentNumber(0)).unwrap();
                    (constants, backup)
                })
            };
            let (Constants::Blind(constants), backup) = made() else { panic!() };
            assert_eq!(made().1, backup, "the same each time");
            let BackupBody::Blind { sealed, .. } = &backup.body else { panic!() };
            let breach = duo.bobs_commitment(number);
            let claims = kit::open(&(&breach.tx).into(), &backup.channel, &constants, sealed).unwrap();
            assert_eq!(claims.claims.len(), 1 + breach.htlc_count(), "state {number}");
            let other = duo.bobs_commitment((number + 1) % duo.states.len() as u64);
            assert!(kit::open(&(&other.tx).into(), &backup.channel, &constants, sealed).is_err());
        }
    }
}

#[test]
fn two_towers_share_the_signatures_and_each_gets_the_backup_that_it_would_get_alone() {
    for kind in KINDS {
        let duo = duo(kind);
        let (one, two) = (place(Mode::Blind), ChannelName { tag: ChannelTag([6; 16]), funding: FundingIndex(0) });
        let sealed = |maker: &Maker<'_>, number: u64, signed: &SignedState| {
            let alone = maker.state(&revoked(&duo, number), duo.secret(number), CommitmentNumber(0)).unwrap();
            assert_eq!(maker.seal(signed).unwrap(), alone);
            alone.body
        };
        for number in 0..duo.states.len() as u64 {
            make(&duo, Mode::Blind, |first| {
                let second = Maker {
                    place: Place { tower: TowerId(1), name: two, ..one },
                    keys: MakerKeys::Blind { secret: &[4; 32], signer: &duo.alice },
                    ..*first
                };
                let signed = first.sign(&revoked(&duo, number), duo.secret(number)).unwrap();
                assert_ne!(
                    sealed(first, number, &signed),
                    sealed(&second, number, &signed),
                    "each for its tower alone"
                );
            });
        }
    }
}

fn own_backups(duo: &Duo, numbers: std::ops::Range<u64>) -> Vec<Backup> {
    let first = CommitmentNumber(numbers.start);
    make(duo, Mode::Own, |maker| {
        let one = |number| maker.state(&revoked(duo, number), duo.secret(number), first).unwrap();
        numbers.clone().map(one).collect()
    })
}

fn guard(duo: &Duo) -> Guard {
    let Constants::Own(constants) = make(duo, Mode::Own, |maker| maker.constants().unwrap()) else { panic!() };
    Guard::new(OwnChannel::decode(&constants).unwrap())
}

fn take(guard: &mut Guard, backup: &Backup) {
    match &backup.body {
        BackupBody::Own { secret, htlcs } => drop(guard.back_up(backup.number, *secret, htlcs).unwrap()),
        BackupBody::OwnPast { secrets, htlcs, more } => {
            drop(guard.back_up_past(backup.number, secrets, htlcs, *more).unwrap());
        }
        BackupBody::Blind { .. } => panic!("a blind backup for an own tower"),
    }
}

#[test]
fn an_own_tower_is_told_each_htlc_once() {
    let duo = duo(CommitmentType::Anchors);
    let backups = own_backups(&duo, 0..5);
    let mut guard = guard(&duo);
    let mut new = 0;
    for backup in &backups {
        take(&mut guard, backup);
        let BackupBody::Own { htlcs, .. } = &backup.body else { panic!() };
        new += htlcs.iter().filter(|htlc| matches!(htlc, StateHtlc::New(_))).count();
    }
    assert_eq!(new, 3);
    assert_eq!(guard.secret(CommitmentNumber(4)), Some(duo.secret(4)));
}

fn past(duo: &Duo, number: u64, live: u64) -> RevokedPast {
    let mut secrets = PerCommitmentSecrets::default();
    (0..=number).for_each(|number| secrets.insert(CommitmentNumber(number), duo.secret(number)).unwrap());
    // State 2 is the first with the peer's HTLC 0, state 1 with ours.
    let first = |htlc: &leyden_channels::tx::CommitmentHtlc| match htlc.direction {
        HtlcDirection::Received => CommitmentNumber(1),
        HtlcDirection::Offered => CommitmentNumber(2 + htlc.id.0),
    };
    let htlcs = duo.bobs_state(live).htlcs.iter().map(|htlc| (*htlc, first(htlc))).collect();
    RevokedPast { number: CommitmentNumber(number), secrets, htlcs }
}

#[test]
fn an_own_tower_that_is_younger_than_the_channel_goes_on_after_its_past() {
    let duo = duo(CommitmentType::Anchors);
    let past = past(&duo, 2, 3);
    let backups = make(&duo, Mode::Own, |maker| maker.past(&past, []).unwrap());
    assert_eq!(backups.len(), 1);
    let BackupBody::OwnPast { htlcs, more: false, .. } = &backups[0].body else { panic!("{:?}", backups[0]) };
    assert_eq!(htlcs.len(), 2, "the third one came with state 3");
    let mut guard = guard(&duo);
    take(&mut guard, &backups[0]);
    let rest = make(&duo, Mode::Own, |maker| {
        let one = |number| maker.state(&revoked(&duo, number), duo.secret(number), CommitmentNumber(2)).unwrap();
        [one(3), one(4)]
    });
    rest.iter().for_each(|backup| take(&mut guard, backup));
    assert!((0..5).all(|number| guard.secret(CommitmentNumber(number)).is_some()));
}

#[test]
fn a_long_past_comes_in_parts_that_fit() {
    let duo = duo(CommitmentType::StaticRemoteKey);
    let past = past(&duo, 2, 2);
    let retired = (10..5_000).map(|id| {
        let htlc = Htlc {
            offered_by: Side::Local,
            id: leyden_channels::types::HtlcId(id),
            amount: Msat(1_000),
            payment_hash: leyden_channels::types::PaymentHash([1; 32]),
            cltv_expiry: leyden_channels::types::CltvExpiry(500),
        };
        RetiredHtlc { htlc, first_remote: CommitmentNumber(id % 4), last_remote: CommitmentNumber(3) }
    });
    let backups = make(&duo, Mode::Own, |maker| maker.past(&past, retired.clone()).unwrap());
    let mut guard = guard(&duo);
    let mut count = 0;
    for (at, backup) in backups.iter().enumerate() {
        assert!(leyden_watchtower::codec::encode(&backup.body).len() <= MAX_BODY);
        let BackupBody::OwnPast { htlcs, more, .. } = &backup.body else { panic!() };
        assert_eq!(*more, at + 1 < backups.len());
        count += htlcs.len();
        assert!(htlcs.iter().all(|one| one.first <= CommitmentNumber(2) && one.last <= Some(CommitmentNumber(2))));
        take(&mut guard, backup);
    }
    assert!(backups.len() > 2);
    assert_eq!(count, 2 + (10..5_000).filter(|id| id % 4 < 3).count());
}

#[test]
fn keys_of_one_mode_make_nothing_for_the_other() {
    let duo = duo(CommitmentType::Anchors);
    make(&duo, Mode::Blind, |maker| {
        let wrong = Maker { place: place(Mode::Own), ..*maker };
        assert_eq!(wrong.constants(), Err(BuildError::Mode(Mode::Own)));
        let state = wrong.state(&revoked(&duo, 1), duo.secret(1), CommitmentNumber(0));
        assert_eq!(state, Err(BuildError::Mode(Mode::Own)));
        assert_eq!(maker.past(&past(&duo, 2, 2), []), Err(BuildError::Mode(Mode::Blind)));
    });
}
