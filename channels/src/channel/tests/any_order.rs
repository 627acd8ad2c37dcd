//! A peer that is not our core: it follows BOLT 2, in every order that it allows, and closes with us.
//!
//! ```text
//!   our core ◄──► wire ◄──► script: adds, fulfils, fails, moves the fee, signs, revokes late, says shutdown, negotiates
//! ```
//!
//! What it does next is drawn: it signs before or after it revokes, says `shutdown` before or after what we say, sends
//! removals and fees in between, loses the connection at any message, and may be one of two kinds. The strict kind
//! negotiates once every update is in both commitments (LDK, LND, Eclair). The hasty kind does once all that it has signed
//! is revoked, signs nothing more for a fee by then, and hangs up on a signature (Core Lightning). Our side is restarted at
//! random too. We may never hold it for wrong, and both must end with one closing transaction.

use bitcoin::{Amount, Transaction};

use super::harness::{Crash, Setup, TestChannel, Who, wallet_script};
use crate::channel::commitment::changes::Update;
use crate::channel::commitment::remote::RemoteStage;
use crate::channel::commitment::spec::HtlcKey;
use crate::channel::commitment::{Commitments, Factory, HtlcRemoval};
use crate::channel::state::Phase;
use crate::channel::*;
use crate::tx::{ClosingInput, FundingSignatures, build_closing};
use crate::types::*;
use crate::wire::{ChannelReestablish, ClosingSigned, FeeRange, Message, RevokeAndAck, Shutdown};
use crate::workers::OneThread;

/// SplitMix64: a script is its seed.
struct Random(u64);

/// A peer that bears whatever its HTLCs may cost.
fn tolerant() -> ChannelPolicy {
    ChannelPolicy { max_dust_exposure: Msat(5_000_000_000), ..ChannelPolicy::default() }
}

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Strict,
    Hasty,
}

/// The peer.
struct Script {
    kind: Kind,
    who: Who,
    terms: Terms,
    factory: Factory,
    commitments: Commitments,
    /// A revocation that it owes and has not sent.
    held: Option<RevokeAndAck>,
    reestablished: bool,
    wants_shutdown: bool,
    sent_shutdown: bool,
    got_shutdown: bool,
    /// It has begun to negotiate: from then on it knows nothing else.
    negotiating: bool,
    proposed: Option<Amount>,
    closing: Option<Transaction>,
    /// It hangs up.
    hangs_up: bool,
}

struct Play {
    random: Random,
    test: TestChannel,
    us: Who,
    peer: Script,
}

impl Script {
    fn opens(&self) -> bool {
        self.terms.opener == Side::Local
    }

    fn has_htlcs(&self) -> bool {
        !self.commitments.details.is_empty()
    }

    /// Nothing may be updated any more, or it is the hasty kind's word that nothing is.
    fn is_final(&self) -> bool {
        (self.sent_shutdown || self.got_shutdown) && !self.has_htlcs()
    }

    fn may_negotiate(&self) -> bool {
        let both = self.sent_shutdown && self.got_shutdown && self.held.is_none() && self.reestablished;
        both && match self.kind {
            Kind::Strict => self.commitments.is_drained(),
            Kind::Hasty => !self.has_htlcs() && self.commitments.remote.next().is_none(),
        }
    }

    fn may_sign(&self) -> bool {
        let hasty = self.kind == Kind::Hasty && self.sent_shutdown && !self.has_htlcs();
        self.reestablished && self.held.is_none() && self.commitments.can_sign() && !hasty && !self.negotiating
    }

    fn may_say_shutdown(&self) -> bool {
        let wants = self.wants_shutdown || self.got_shutdown;
        let clean = match self.kind {
            Kind::Strict => !self.commitments.has_something_to_sign(),
            Kind::Hasty => self.commitments.local_changes.proposed.is_empty(),
        };
        self.reestablished && wants && clean && !self.sent_shutdown
    }

    fn closing_signed(&self, fee: Amount) -> (ClosingSigned, Transaction) {
        let balance = &self.commitments.local.spec.balance;
        let funding = &self.factory.funding;
        let closing = build_closing(&ClosingInput {
            funding,
            to_local: balance.local,
            to_remote: balance.remote,
            opener: self.terms.opener,
            fee,
            local_script: &wallet_script(self.who),
            remote_script: &wallet_script(self.who.other()),
            dust_limit: self.terms.sides.local.dust_limit,
        })
        .unwrap();
        let signature = self.factory.signer.sign_funding_input(&closing.sighash(funding));
        let fee_range =
            Some(FeeRange { min_fee_satoshis: Amount::from_sat(200), max_fee_satoshis: Amount::from_sat(9000) });
        let channel_id = self.terms.channel_id;
        let message = ClosingSigned { channel_id, fee_satoshis: fee, signature, fee_range };
        (message, closing.tx)
    }
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let kind = if random.chance(50) { CommitmentType::Anchors } else { CommitmentType::StaticRemoteKey };
        let mut setup = Setup::new(2_000_000, kind).push(800_000);
        setup.seed = seed;
        let test = setup.ready();
        let us = if random.chance(50) { Who::Alice } else { Who::Bob };
        let theirs = test[us.other()].established();
        let peer = Script {
            kind: if random.chance(50) { Kind::Strict } else { Kind::Hasty },
            who: us.other(),
            terms: theirs.terms.clone(),
            factory: Factory::new(&theirs.terms, test[us.other()].signer.clone()),
            commitments: theirs.commitments.clone(),
            held: None,
            reestablished: true,
            wants_shutdown: false,
            sent_shutdown: false,
            got_shutdown: false,
            negotiating: false,
            proposed: None,
            closing: None,
            hangs_up: false,
        };
        Self { random, test, us, peer }
    }

    fn run(&mut self) {
        let steps = 30 + self.random.below(90);
        let close_at = self.random.below(steps);
        for step in 0..steps {
            if step == close_at {
                self.wish_to_close();
            }
            self.step();
        }
        self.wish_to_close();
        for round in 0.. {
            assert!(round < 400, "not closed: {}", self.describe());
            if !self.test.connected {
                self.connect();
            }
            let moved = self.everything_that_moves();
            if self.agreed().is_some() && self.peer.closing.is_some() {
                break;
            }
            if !moved && !self.end_a_rest() {
                // A line that is lost makes a peer tell again what it waits for.
                panic!("stuck: {}", self.describe());
            }
        }
        let (ours, theirs) = (self.agreed().unwrap(), self.peer.closing.clone().unwrap());
        assert_eq!(ours.compute_txid(), theirs.compute_txid());
        assert!(self.test[self.us].local_close.is_none());
    }

    fn agreed(&self) -> Option<Transaction> {
        match &self.test[self.us].established().phase {
            Phase::Negotiating(negotiating) => negotiating.agreed.as_ref().map(|agreed| agreed.transaction.clone()),
            _ => None,
        }
    }

    fn wish_to_close(&mut self) {
        if self.random.chance(50) {
            self.peer.wants_shutdown = true;
        } else {
            let request = CloseRequest {
                script: wallet_script(self.us),
                feerate: FeeratePerKw(1000),
                feerate_min: FeeratePerKw(253),
                feerate_max: FeeratePerKw(10_000),
            };
            self.test.event(self.us, Event::Close(request));
        }
    }

    fn step(&mut self) {
        if !self.test.connected {
            if self.random.chance(40) {
                self.connect();
            }
            return;
        }
        match self.random.below(16) {
            0 | 1 => self.our_add(),
            2 => self.our_settlement(),
            3 => self.test.event(self.us, Event::UpdateFee(FeeratePerKw(500 + self.random.below(2000) as u32))),
            4 => {
                if self.test[self.us].channel.closing_delay().is_none() {
                    self.test.event(self.us, Event::Flush);
                }
            }
            5 => self.their_add(),
            6 | 7 => self.their_settlement(),
            8 => self.their_fee(),
            9 => self.their_signature(),
            10 => self.their_revocation(),
            11 => self.their_shutdown(),
            12 => self.their_negotiation(),
            13 if self.random.chance(25) => self.lose_line(),
            14 => {
                self.deliver_to_us();
            }
            _ => {
                self.deliver_to_them();
            }
        }
    }

    fn everything_that_moves(&mut self) -> bool {
        let before = self.describe();
        while self.deliver_to_them() {}
        while self.deliver_to_us() {}
        while !self.test[self.us].incoming.is_empty() {
            self.our_settlement();
        }
        self.their_settlement();
        let ours = &self.test[self.us].channel;
        if ours.wants_flush() && ours.closing_delay().is_none() {
            self.test.event(self.us, Event::Flush);
        }
        if self.random.chance(50) {
            self.their_revocation();
            self.their_signature();
        } else {
            self.their_signature();
            self.their_revocation();
        }
        self.their_shutdown();
        self.their_negotiation();
        before != self.describe()
    }

    fn end_a_rest(&mut self) -> bool {
        let rests = self.test[self.us].channel.closing_delay().is_some();
        if rests {
            self.test.event(self.us, Event::Flush);
        }
        rests
    }

    // Our side.

    fn our_add(&mut self) {
        let amount = Msat(1_000_000 + self.random.below(30_000_000));
        self.test.add(self.us, amount);
    }

    fn our_settlement(&mut self) {
        let Some(&id) = self.test[self.us].incoming.keys().next() else { return };
        if self.test[self.us].incoming[&id].must_fail.is_some() || self.random.chance(50) {
            self.test.fail(self.us, id);
        } else {
            self.test.fulfill(self.us, id);
        }
    }

    fn deliver_to_us(&mut self) -> bool {
        self.test.deliver(self.us)
    }

    // The line.

    fn say(&mut self, message: impl Into<Message>) {
        if self.test.connected {
            let bytes = message.into().encode().unwrap();
            self.test[self.us].inbox.push_back(bytes);
        }
    }

    fn lose_line(&mut self) {
        match self.random.below(3) {
            0 => self.test.restart(self.us),
            1 if self.test[self.us].channel.closing_delay().is_none() => {
                self.test.events(self.us, vec![Event::Flush], Crash::AfterCommit);
            }
            _ => self.test.cut(),
        }
        self.line_lost();
    }

    fn line_lost(&mut self) {
        self.peer.commitments.forget_uncommitted();
        self.peer.held = None;
        self.peer.reestablished = false;
        self.peer.negotiating = false;
        self.peer.proposed = None;
        self.peer.got_shutdown = false;
    }

    fn connect(&mut self) {
        self.line_lost();
        self.test.connected = true;
        let commitments = &mut self.peer.commitments;
        let next_revocation_number = commitments.remote.current.number;
        let last = next_revocation_number.0.checked_sub(1).map(CommitmentNumber);
        let message = ChannelReestablish {
            channel_id: self.peer.terms.channel_id,
            next_commitment_number: commitments.local.number.next(),
            next_revocation_number,
            your_last_per_commitment_secret: last
                .and_then(|number| commitments.secrets.get(number))
                .map_or([0; 32], |secret| secret.0),
            my_current_per_commitment_point: commitments
                .points
                .point(commitments.local.number, self.peer.factory.signer.as_ref())
                .unwrap(),
        };
        self.test.event(self.us, Event::Connected);
        self.say(message);
    }

    // Their side.

    fn their_add(&mut self) {
        let peer = &self.peer;
        if !peer.reestablished || peer.wants_shutdown || peer.sent_shutdown || peer.got_shutdown {
            return;
        }
        let amount = Msat(1_000_000 + self.random.below(30_000_000));
        let (_, add) = self.test.htlc(amount);
        let admission = self.peer.commitments.admission(&self.peer.terms, &Feerates::default(), &tolerant());
        if let Ok(message) = self.peer.commitments.offer_add(&add, &self.peer.terms, admission).unwrap() {
            self.say(message);
        }
    }

    fn their_settlement(&mut self) {
        if !self.peer.reestablished || self.peer.negotiating {
            return;
        }
        let removable = |key: &&HtlcKey| key.offered_by == Side::Remote && self.peer.commitments.is_removable(**key);
        let Some(key) = self.peer.commitments.details.keys().find(removable).copied() else { return };
        let hash = self.peer.commitments.details[&key].htlc.payment_hash;
        let settle = match self.random.chance(50) {
            true => HtlcRemoval::Fulfill(self.test.preimages[&hash]),
            false => HtlcRemoval::Fail { reason: vec![1; 292] },
        };
        if let Some(message) = self.peer.commitments.settle(key.id, settle, self.peer.terms.channel_id) {
            self.say(message);
        }
    }

    fn their_fee(&mut self) {
        let peer = &self.peer;
        if !peer.opens() || !peer.reestablished || peer.negotiating || peer.is_final() {
            return;
        }
        let feerate = FeeratePerKw(500 + self.random.below(2000) as u32);
        let Script { commitments, terms, .. } = &mut self.peer;
        if let Ok(Some(message)) = commitments.offer_fee(feerate, terms, &Feerates::default(), &tolerant()) {
            self.say(message);
        }
    }

    fn their_signature(&mut self) {
        if self.peer.may_sign() {
            let signed = self.peer.commitments.sign(&self.peer.terms, &self.peer.factory, &OneThread).unwrap();
            self.say(signed.message);
            // The hasty kind says shutdown with it, if it wants to.
            if self.peer.kind == Kind::Hasty {
                self.their_shutdown();
            }
        }
    }

    fn their_revocation(&mut self) {
        if let Some(message) = self.peer.held.take() {
            self.say(message);
        }
    }

    fn their_shutdown(&mut self) {
        if self.peer.may_say_shutdown() {
            self.peer.sent_shutdown = true;
            self.say(Shutdown { channel_id: self.peer.terms.channel_id, scriptpubkey: wallet_script(self.peer.who) });
        }
    }

    fn their_negotiation(&mut self) {
        if !self.peer.negotiating && self.peer.may_negotiate() {
            self.peer.negotiating = true;
            if self.peer.opens() {
                let fee = Amount::from_sat(700 + self.random.below(2000));
                self.peer.proposed = Some(fee);
                let (message, _) = self.peer.closing_signed(fee);
                self.say(message);
            }
        }
    }

    fn deliver_to_them(&mut self) -> bool {
        // The hasty kind stops listening to anything else once it negotiates.
        self.their_haste();
        let Some(Event::Message(message)) = self.test.next_message(self.peer.who) else { return false };
        if !self.peer.reestablished && !matches!(message, Message::ChannelReestablish(_)) {
            panic!("{} before channel_reestablish: {}", message.name(), self.describe());
        }
        self.hear(message);
        if self.peer.hangs_up {
            self.peer.hangs_up = false;
            self.test.cut();
            self.line_lost();
        }
        true
    }

    fn their_haste(&mut self) {
        if self.peer.kind == Kind::Hasty {
            self.their_negotiation();
        }
    }

    fn hear(&mut self, message: Message) {
        let peer = &mut self.peer;
        let (terms, factory) = (&peer.terms, &peer.factory);
        match message {
            Message::ChannelReestablish(message) => self.resume(&message),
            Message::ChannelReady(_) => {}
            Message::Shutdown(_) => peer.got_shutdown = true,
            Message::ClosingSigned(signed) => self.their_answer(&signed),
            Message::CommitmentSigned(_) | Message::UpdateFee(_) if peer.negotiating => {
                assert_eq!(peer.kind, Kind::Hasty);
                peer.hangs_up = true;
            }
            Message::UpdateAddHtlc(add) => peer.commitments.receive_add(add, terms).unwrap(),
            Message::UpdateFulfillHtlc(fulfill) => {
                peer.commitments.receive_removal(fulfill.id, HtlcRemoval::Fulfill(fulfill.payment_preimage)).unwrap();
            }
            Message::UpdateFailHtlc(fail) => {
                peer.commitments.receive_removal(fail.id, HtlcRemoval::Fail { reason: fail.reason }).unwrap();
            }
            Message::UpdateFee(fee) => {
                peer.commitments.receive_fee(fee.feerate_per_kw, terms, &Feerates::default(), &tolerant()).unwrap();
            }
            Message::CommitmentSigned(signed) => {
                if peer.held.is_some() {
                    panic!("a signature before the last one was revoked");
                }
                peer.held = Some(peer.commitments.receive_signed(signed, terms, factory, &OneThread).unwrap().message);
                if peer.kind == Kind::Hasty || self.random.chance(50) {
                    self.their_revocation();
                }
            }
            Message::RevokeAndAck(revoke) => {
                peer.commitments.receive_revocation(&revoke).unwrap();
            }
            other => panic!("{other:?}: {}", self.describe()),
        }
    }

    fn resume(&mut self, message: &ChannelReestablish) {
        assert!(!self.peer.reestablished);
        self.peer.reestablished = true;
        let commitments = &self.peer.commitments;
        let awaiting = commitments.remote.next().is_some();
        let lost_commitment = awaiting && message.next_commitment_number == commitments.remote.latest().number;
        let lost_revocation = message.next_revocation_number.next() == commitments.local.number;
        let revoked_first = match &commitments.remote.stage {
            RemoteStage::AwaitingRevocation { signed_at, .. } => *signed_at == commitments.local.number,
            RemoteStage::Unready | RemoteStage::Settled { .. } => true,
        };
        if lost_revocation && revoked_first {
            self.revoke_again();
        }
        if lost_commitment {
            let commitments = &self.peer.commitments;
            let updates = commitments.local_changes.signed.iter();
            let updates = updates.map(|update| commitments.message_of(update, self.peer.terms.channel_id).unwrap());
            let updates: Vec<Message> = updates.collect();
            let signed = commitments.sign_again(&self.peer.terms, &self.peer.factory, &OneThread).unwrap();
            for update in updates {
                self.say(update);
            }
            self.say(signed);
        }
        if lost_revocation && !revoked_first {
            self.revoke_again();
        }
        let proposed = self.peer.commitments.local_changes.proposed.iter();
        let proposed = proposed.filter(|update| !matches!(update, Update::Fee(_) | Update::Add(_)));
        let proposed: Vec<Message> = proposed
            .map(|update| self.peer.commitments.message_of(update, self.peer.terms.channel_id).unwrap())
            .collect();
        for message in proposed {
            self.say(message);
        }
        if self.peer.sent_shutdown {
            self.say(Shutdown { channel_id: self.peer.terms.channel_id, scriptpubkey: wallet_script(self.peer.who) });
        }
    }

    fn revoke_again(&mut self) {
        let message = self.peer.commitments.revoke_again(&self.peer.terms, &self.peer.factory).unwrap();
        self.say(message);
    }

    fn their_answer(&mut self, signed: &ClosingSigned) {
        self.their_negotiation();
        assert!(self.peer.negotiating, "closing_signed comes too early: {}", self.describe());
        let fee = signed.fee_satoshis;
        let (answer, mut closing) = self.peer.closing_signed(fee);
        let signatures = FundingSignatures { local: answer.signature, remote: signed.signature };
        closing.input[0].witness = self.peer.factory.funding.witness(&signatures);
        super::checks::execute(&closing, vec![self.test.funding_output().1]);
        self.peer.closing = Some(closing);
        if self.peer.proposed != Some(fee) {
            assert!(!self.peer.opens(), "we answer with the fee of the one who pays it");
            self.peer.proposed = Some(fee);
            self.say(answer);
        }
    }

    fn describe(&self) -> String {
        let peer = &self.peer;
        let ours = &self.test[self.us];
        format!(
            "{:?} {} ours {:?} {} (rest {:?}) theirs {} held {} shutdown {}/{}/{} negotiating {} closing {} \
             reestablished {} inboxes {} {}",
            peer.kind,
            if peer.opens() { "opener" } else { "other side" },
            ours.channel.state_name(),
            super::checks::pending(ours.commitments()),
            ours.channel.closing_delay(),
            super::checks::pending(&peer.commitments),
            peer.held.is_some(),
            peer.wants_shutdown,
            peer.sent_shutdown,
            peer.got_shutdown,
            peer.negotiating,
            peer.closing.is_some(),
            peer.reestablished,
            ours.inbox.len(),
            self.test[peer.who].inbox.len(),
        )
    }
}

/// `LEYDEN_SCHEDULES` says how many to run. `LEYDEN_SCHEDULE_SEED` is the first seed: alone, it runs that one again.
#[test]
fn any_peer_that_follows_bolt_2_in_any_order_closes_with_us() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let first = variable("LEYDEN_SCHEDULE_SEED");
    let count = variable("LEYDEN_SCHEDULES").unwrap_or(if first.is_some() { 1 } else { 500 });
    let first = first.unwrap_or(0);
    for seed in first..first + count {
        let played = std::panic::catch_unwind(|| Play::new(seed).run());
        if let Err(panic) = played {
            eprintln!("script {seed} failed; run it alone with LEYDEN_SCHEDULE_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
