//! Justice kits: built by a client, opened by a tower, executed by an interpreter that took no part in building them.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod common;

use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use common::{DELAY, Duo, KINDS, State, home};
use leyden_channels::{
    keys::Signer as _,
    types::{CommitmentNumber, CommitmentType, FeeratePerKw, HtlcDirection},
};
use leyden_consensus::script::{ScriptFlags, SpendingTx};
use leyden_watchtower::{
    appointment::{ChannelName, ChannelTag, FundingIndex},
    hint::Hint,
    kit::{
        self, BreachOutputs, Claims, Constants, ConstantsKey, DEFAULT_SWEEP_FEERATE, JusticeKit, KitRole, OpenError,
        SweepTerms,
    },
    message::{Backup, BackupBody, MAX_BODY},
    seal::SealError,
};
use proptest::prelude::*;

const CHANNEL: ChannelName = ChannelName { tag: ChannelTag([7; 16]), funding: FundingIndex(0) };

struct Client {
    duo: Duo,
    constants: Constants,
    key: ConstantsKey,
}

impl Client {
    fn new(duo: Duo, feerate: FeeratePerKw) -> Self {
        let terms = SweepTerms { remote_delay: DELAY, feerate, script: home(1) };
        let constants = Constants::new(duo.kind, duo.alice.basepoints(), duo.bob.basepoints(), terms);
        let key = ConstantsKey::derive(&[3; 32], &CHANNEL);
        Self { duo, constants, key }
    }

    fn kit(&self, number: u64, with_to_remote: bool) -> JusticeKit {
        let request = kit::KitRequest {
            constants: &self.constants,
            key: self.key,
            commitment: &self.duo.bobs_commitment(number),
            secret: self.duo.secret(number),
            signer: &self.duo.alice,
            with_to_remote,
        };
        kit::build(&request).unwrap()
    }

    fn sealed(&self, number: u64) -> Vec<u8> {
        let breach = self.duo.breach(number).compute_txid();
        let backup = self.kit(number, true).to_backup(CHANNEL, CommitmentNumber(number), &breach).unwrap();
        let BackupBody::Blind { sealed, .. } = backup.body else { panic!("a blind backup") };
        sealed
    }

    fn sealed_constants(&self) -> Vec<u8> {
        self.constants.seal(&self.key, &CHANNEL).unwrap()
    }

    fn open(&self, number: u64) -> Claims {
        kit::open(&(&self.duo.breach(number)).into(), &CHANNEL, &self.sealed_constants(), &self.sealed(number)).unwrap()
    }
}

fn state(htlcs: u64) -> State {
    State {
        alice: 200_000,
        offered: (1..=htlcs).map(|id| (id, 3_000)).collect(),
        received: (1_001..=1_000 + htlcs).map(|id| (id, 2_500)).collect(),
    }
}

/// Executes every input.
fn run(tx: &Transaction, parents: &[&Transaction]) {
    let spent = |outpoint: &OutPoint| {
        let parent = parents.iter().find(|parent| parent.compute_txid() == outpoint.txid).unwrap();
        parent.output[outpoint.vout as usize].clone()
    };
    let spent: Vec<TxOut> = tx.input.iter().map(|input| spent(&input.previous_output)).collect();
    let spending = SpendingTx::new(tx, spent).unwrap();
    for index in 0..tx.input.len() {
        spending.verify_input(index, ScriptFlags::STANDARD).unwrap();
    }
}

#[test]
fn a_state_without_htlcs_takes_232_bytes_with_its_names() {
    for kind in KINDS {
        let client = Client::new(Duo::new(1, kind, vec![state(0)]), DEFAULT_SWEEP_FEERATE);
        let sealed = client.sealed(0).len();
        // hint, then the slot and the number in the row's key, and all three once more in the index.
        let stored = 1 + 4 + 6 + 8 + sealed + 1 + 8 + 4 + 6;
        println!("{kind:?}: sealed {sealed}, stored {stored}");
        assert_eq!((sealed, stored), (194, 232));
        let slim = client.kit(0, false).encode().len() + 16;
        assert_eq!(slim, 130, "without to_remote");
    }
}

#[test]
fn a_kit_of_966_htlcs_fits_and_claims_them_all() {
    for kind in KINDS {
        let old = State {
            alice: 70_000,
            offered: (1..=483).map(|id| (id, 900)).collect(),
            received: (1_001..=1_483).map(|id| (id, 1_000)).collect(),
        };
        let mut duo = Duo::new(1, kind, vec![old]);
        duo.feerate = FeeratePerKw(253);
        let client = Client::new(duo, DEFAULT_SWEEP_FEERATE);
        let started = std::time::Instant::now();
        let sealed = client.sealed(0);
        let built = started.elapsed();
        let claims = client.open(0);
        println!("{kind:?}: {} bytes, {} claims, built in {} ms", sealed.len(), claims.claims.len(), built.as_millis());
        let htlcs = client.duo.bobs_commitment(0).htlc_count();
        assert!(htlcs == 966 && sealed.len() < MAX_BODY);
        assert_eq!(claims.claims.len(), htlcs + 2);
    }
    // The bound holds for the longest kit that there can be.
    const { assert!(966 * 154 + 200 < MAX_BODY) };
}

#[test]
fn every_claim_of_a_kit_is_valid_alone_and_all_together() {
    for kind in KINDS {
        let client = Client::new(Duo::new(1, kind, vec![state(3)]), DEFAULT_SWEEP_FEERATE);
        let breach = client.duo.breach(0);
        let claims = client.open(0);
        let roles = |wanted: fn(&KitRole) -> bool| claims.claims.iter().filter(|claim| wanted(&claim.role)).count();
        assert_eq!(roles(|role| *role == KitRole::ToLocal), 1);
        assert_eq!(roles(|role| *role == KitRole::ToRemote), 1);
        assert_eq!(roles(|role| matches!(role, KitRole::Htlc { .. })), 6);
        for claim in &claims.claims {
            let tx = kit::joined([(&claim.sweep, claim.witness.clone())], &[]);
            run(&tx, &[&breach]);
            // It pays its own way at the agreed rate, or what the lowest rate leaves.
            let rate = claim.sweep.slack().to_sat() * 1_000 / tx.weight().to_wu();
            assert!((253..2_600).contains(&rate), "{rate}");
            assert!(tx.output[0].value >= home(1).minimal_non_dust());
        }
        let pairs = claims.claims.iter().map(|claim| (&claim.sweep, claim.witness.clone()));
        run(&kit::joined(pairs, &[TxOut { value: Amount::from_sat(400), script_pubkey: home(9) }]), &[&breach]);
    }
}

/// The txid of a second stage is known in advance with `static_remotekey` alone.
#[test]
fn second_stages_are_covered_without_anchors() {
    for (kind, covered) in [(CommitmentType::StaticRemoteKey, true), (CommitmentType::Anchors, false)] {
        let client = Client::new(Duo::new(1, kind, vec![state(3)]), DEFAULT_SWEEP_FEERATE);
        let claims = client.open(0);
        for direction in [HtlcDirection::Offered, HtlcDirection::Received] {
            let stages = client.duo.second_stages(0, direction);
            assert_eq!(stages.len(), 3);
            for stage in stages {
                let claim =
                    claims.second_stage(&stage.input[0].previous_output, stage.compute_txid(), &stage.output[0]);
                assert_eq!(claim.is_some(), covered, "{kind:?} {direction:?}");
                if let Some(claim) = claim {
                    run(&kit::joined([(&claim.sweep, claim.witness.clone())], &[]), &[&stage]);
                }
            }
        }
    }
}

#[test]
fn a_kit_opens_for_its_own_breach_channel_and_constants_alone() {
    let client = Client::new(Duo::new(1, CommitmentType::Anchors, vec![state(1), state(2)]), DEFAULT_SWEEP_FEERATE);
    let (sealed, constants) = (client.sealed(0), client.sealed_constants());
    let not_authentic = Err(OpenError::Seal(SealError::NotAuthentic));
    assert_eq!(kit::open(&(&client.duo.breach(1)).into(), &CHANNEL, &constants, &sealed), not_authentic);
    let other = ChannelName { tag: ChannelTag([8; 16]), ..CHANNEL };
    assert_eq!(kit::open(&(&client.duo.breach(0)).into(), &other, &constants, &sealed), not_authentic);
    let foreign = client.constants.seal(&ConstantsKey([9; 16]), &CHANNEL).unwrap();
    assert!(matches!(
        kit::open(&(&client.duo.breach(0)).into(), &CHANNEL, &foreign, &sealed),
        Err(OpenError::Constants(_))
    ));
}

#[test]
fn a_kit_of_a_newer_version_is_refused_by_name() {
    let client = Client::new(Duo::new(1, CommitmentType::Anchors, vec![state(1)]), DEFAULT_SWEEP_FEERATE);
    let mut bytes = client.kit(0, true).encode();
    bytes[0] = 3;
    let error = JusticeKit::decode(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "a justice kit of format 3 was written by a newer version: this one reads up to 2");
    bytes[0] = 0;
    assert!(JusticeKit::decode(&bytes).is_err());
}

#[test]
fn what_does_not_fit_the_breach_is_left_out_and_a_wrong_signature_refused() {
    let client = Client::new(Duo::new(1, CommitmentType::Anchors, vec![state(2)]), DEFAULT_SWEEP_FEERATE);
    let breach = client.duo.breach(0);
    let good = client.kit(0, true);
    let open = |kit: &JusticeKit| {
        let backup = kit.to_backup(CHANNEL, CommitmentNumber(0), &breach.compute_txid()).unwrap();
        let Backup { body: BackupBody::Blind { hint, sealed }, .. } = backup else { panic!("blind") };
        assert_eq!(hint, Hint::from(&breach.compute_txid()));
        kit::open(&(&breach).into(), &CHANNEL, &client.sealed_constants(), &sealed).map(|claims| claims.claims.len())
    };
    assert_eq!(open(&good), Ok(6));
    let mut other = good.clone();
    other.htlcs[1].payment_hash160 = [1; 20];
    other.htlcs.last_mut().unwrap().vout = 900;
    assert_eq!(open(&other), Ok(4));
    let mut swapped = good.clone();
    std::mem::swap(&mut swapped.to_local, &mut swapped.to_remote);
    assert_eq!(open(&swapped), Err(OpenError::Signature));
    let point = client.duo.alice.basepoints().funding;
    assert_eq!(open(&JusticeKit { per_commitment_point: point, ..good.clone() }), Ok(1), "to_remote needs none");
    // One output, a thousand signatures for it: each would be a check.
    let mut repeated = good;
    repeated.htlcs = vec![repeated.htlcs[0]; 966];
    assert!(matches!(open(&repeated), Err(OpenError::Read(_))));
}

/// Who pays once for a large transaction must not have it kept by every kit for it.
#[test]
fn of_a_breach_the_claimed_outputs_are_kept_and_open_the_kit_as_well() {
    for kind in KINDS {
        let client = Client::new(Duo::new(1, kind, vec![state(2)]), DEFAULT_SWEEP_FEERATE);
        let whole = BreachOutputs::from(&client.duo.breach(0));
        let (constants, sealed) = (client.sealed_constants(), client.sealed(0));
        let claims = kit::open(&whole, &CHANNEL, &constants, &sealed).unwrap();
        let kept = whole.claimed_by(&claims);
        assert_eq!(kept.outputs.len(), claims.claims.len());
        assert_eq!(kit::open(&kept, &CHANNEL, &constants, &sealed), Ok(claims));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any subset of any state's claims is a valid transaction.
    #[test]
    fn any_subset_of_claims_is_valid(
        anchors: bool,
        alice in 0_u64..400_000,
        offered in prop::collection::vec(600_u64..30_000, 0..6),
        received in prop::collection::vec(600_u64..30_000, 0..6),
        rate in 253_u32..20_000,
        chosen in prop::collection::vec(any::<bool>(), 16),
    ) {
        let kind = if anchors { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
        let state = State {
            alice,
            offered: (1..).zip(offered).collect(),
            received: (101..).zip(received).collect(),
        };
        let client = Client::new(Duo::new(1, kind, vec![state]), FeeratePerKw(rate));
        let kit = client.kit(0, true);
        prop_assert_eq!(JusticeKit::decode(&kit.encode()), Ok(kit));
        let claims = client.open(0);
        let subset: Vec<_> = claims.claims.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(claim, _)| claim).collect();
        prop_assume!(!subset.is_empty());
        let tx = kit::joined(subset.iter().map(|claim| (&claim.sweep, claim.witness.clone())), &[]);
        run(&tx, &[&client.duo.breach(0)]);
    }

    #[test]
    fn arbitrary_kits_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500), layout in 0_u8..4) {
        let bytes = [vec![layout], bytes].concat();
        if let Ok(kit) = JusticeKit::decode(&bytes) {
            prop_assert_eq!(kit.encode(), bytes);
        }
    }
}
