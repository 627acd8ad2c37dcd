//! Our invoices: held ones, over restarts and until it is too late, and payments that nobody asked for.

use super::incoming::*;
use crate::channel::{IncomingHtlc, Key, Outbox, Persist, Settlement, Write};
use crate::margins::CLAIM_MARGIN;
use crate::onion::{PaymentData, ReceivePayload, SharedSecret};
use crate::payment::record;
use crate::types::*;
use crate::wire::OnionRoutingPacket;

const NOW: UnixTime = UnixTime(1_000);
const TIP: Height = Height(500);
const EXPIRY: CltvExpiry = CltvExpiry(600);
const PREIMAGE: PaymentPreimage = PaymentPreimage([7; 32]);
const SECRET: PaymentSecret = PaymentSecret([1; 32]);

fn ctx(now: UnixTime, tip: Height) -> InvoiceCtx {
    InvoiceCtx { now, tip, trust: TipTrust::Current }
}

fn in_doubt(now: UnixTime, tip: Height) -> InvoiceCtx {
    InvoiceCtx { trust: TipTrust::InDoubt, ..ctx(now, tip) }
}

/// The stored invoices.
#[derive(Default)]
struct Disk {
    invoices: std::collections::BTreeMap<u64, Invoice>,
}

impl Persist for Disk {
    type Error = std::convert::Infallible;

    fn commit(&mut self, writes: Vec<Write>) -> Result<(), Self::Error> {
        for write in writes {
            match write {
                Write::Put { key: Key::Invoice(index), value } => {
                    self.invoices.insert(index, record::decode_invoice(&value).unwrap());
                }
                Write::Delete { key: Key::Invoice(index) } => {
                    self.invoices.remove(&index);
                }
                Write::Put { .. } | Write::Delete { .. } => {}
            }
        }
        Ok(())
    }
}

impl Disk {
    fn run(&mut self, outbox: Outbox<InvoiceEffect>) -> Vec<InvoiceEffect> {
        Outbox::commit_all(vec![outbox], self).unwrap().into_iter().flatten().collect()
    }

    fn only(&self) -> &Invoice {
        assert_eq!(self.invoices.len(), 1);
        self.invoices.values().next().unwrap()
    }

    /// A restart: what is stored, and the channels tell their HTLCs again.
    fn restart(&self) -> Invoices {
        Invoices::restore(self.invoices.values().cloned())
    }

    /// As the driver asks for it: only if it is not open.
    fn over(&self, invoices: &Invoices) -> Option<Invoice> {
        let invoice = self.invoices.values().next()?;
        invoices.open(&invoice.payment_hash).is_none().then(|| invoice.clone())
    }
}

fn invoice(preimage: Option<PaymentPreimage>) -> Invoice {
    Invoice {
        index: 1,
        payment_hash: PREIMAGE.hash(),
        preimage,
        payment_secret: SECRET,
        amount: Some(Msat(1_000)),
        memo: String::new(),
        bolt11: String::new(),
        created: NOW,
        expiry_seconds: 60,
        min_final_cltv_expiry_delta: 80,
        keysend: false,
        holder: Holder::Person,
        state: InvoiceState::Open,
    }
}

fn part(id: u64, amount: u64) -> Arrived {
    Arrived {
        htlc: IncomingHtlc {
            channel: ChannelId([3; 32]),
            id: HtlcId(id),
            amount: Msat(amount),
            payment_hash: PREIMAGE.hash(),
            cltv_expiry: EXPIRY,
            onion: OnionRoutingPacket(Box::new([0; OnionRoutingPacket::LEN])),
            path_key: None,
            must_fail: None,
        },
        payload: ReceivePayload {
            amt_to_forward: Msat(amount),
            outgoing_cltv_value: EXPIRY,
            payment_data: Some(PaymentData { payment_secret: SECRET, total_msat: Msat(1_000) }),
            payment_metadata: None,
            keysend_preimage: None,
            custom_records: Vec::new(),
        },
        shared_secret: SharedSecret([4; 32]),
    }
}

#[test]
fn a_canceled_invoice_is_forgotten_and_its_number_is_not_given_again() {
    let (mut disk, mut invoices) = (Disk::default(), Invoices::default());
    disk.run(invoices.add(invoice(None)).unwrap());
    let open = disk.only().clone();
    disk.run(invoices.forget(&open));
    assert_eq!(disk.only(), &open, "what can be paid stays");
    disk.run(invoices.cancel(&PREIMAGE.hash(), TIP).unwrap());
    let canceled = disk.only().clone();
    disk.run(invoices.forget(&canceled));
    assert!(disk.invoices.is_empty());
    assert_eq!((invoices.next_index(), disk.restart().numbered_after(1).next_index()), (2, 2));
    // Another with its hash may be there by the time.
    disk.run(invoices.add(Invoice { index: 2, ..invoice(None) }).unwrap());
    disk.run(invoices.forget(&canceled));
    assert_eq!(disk.only().index, 2);
}

/// The HTLCs that are settled: those fulfilled, those failed.
fn settled(effects: &[InvoiceEffect]) -> (Vec<u64>, Vec<u64>) {
    let (mut fulfilled, mut failed) = (Vec::new(), Vec::new());
    for effect in effects {
        let InvoiceEffect::Settle { id, settlement, .. } = effect else { continue };
        match settlement {
            Settlement::Fulfill(preimage) => {
                assert_eq!(*preimage, PREIMAGE);
                fulfilled.push(id.0);
            }
            Settlement::Fail { .. } | Settlement::FailMalformed { .. } => failed.push(id.0),
        }
    }
    (fulfilled, failed)
}

/// An invoice that is held for two parts.
fn held() -> (Invoices, Disk) {
    let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
    disk.run(invoices.add(invoice(None)).unwrap());
    assert!(matches!(invoices.settle_held(PREIMAGE, &ctx(NOW, TIP)), Err(InvoiceError::NotAccepted)));
    for (id, amount) in [(1, 400), (2, 600)] {
        let effects = disk.run(invoices.arrived(part(id, amount), None, &ctx(NOW, TIP)));
        assert_eq!(settled(&effects), (vec![], vec![]));
    }
    let InvoiceState::Accepted(accepted) = &disk.only().state else { panic!("{:?}", disk.only()) };
    assert_eq!((accepted.amount, accepted.htlcs.len()), (Msat(1_000), 2));
    (invoices, disk)
}

#[test]
fn what_is_held_waits_for_its_preimage_whatever_the_clock_says() {
    let (mut invoices, mut disk) = held();
    let much_later = UnixTime(NOW.0 + 1_000_000);
    assert!(disk.run(invoices.tick(&ctx(much_later, TIP))).is_empty(), "neither the invoice nor its parts time out");
    let third = disk.run(invoices.arrived(part(3, 1_000), None, &ctx(NOW, TIP)));
    assert_eq!(settled(&third), (vec![], vec![3]), "it is paid already");
    let effects = disk.run(invoices.settle_held(PREIMAGE, &ctx(much_later, TIP)).unwrap());
    assert_eq!(settled(&effects), (vec![1, 2], vec![]));
    let invoice = disk.only();
    assert_eq!(invoice.preimage, Some(PREIMAGE));
    assert!(matches!(&invoice.state, InvoiceState::Settled(settled) if settled.htlcs.len() == 2));
    assert!(matches!(invoices.settle_held(PREIMAGE, &ctx(NOW, TIP)), Err(InvoiceError::NotOpen)));
}

#[test]
fn what_is_held_is_still_held_after_a_restart() {
    let (_, mut disk) = held();
    let mut invoices = disk.restart();
    // So late that a new HTLC would not be taken any more.
    let (late, tip) = (UnixTime(NOW.0 + 100), Height(EXPIRY.0 - CLAIM_MARGIN - 1));
    let effects = disk.run(invoices.arrived(part(1, 400), None, &ctx(late, tip)));
    assert!(effects.is_empty(), "{effects:?}");
    // The second part has not been told again when the preimage comes.
    let effects = disk.run(invoices.settle_held(PREIMAGE, &ctx(late, tip)).unwrap());
    assert_eq!(settled(&effects), (vec![1], vec![]));
    let over = disk.over(&invoices);
    let effects = disk.run(invoices.arrived(part(2, 600), over, &ctx(late, tip)));
    assert_eq!(settled(&effects), (vec![2], vec![]));

    // And after another one each gets the same answer.
    let mut invoices = disk.restart();
    for id in [1, 2] {
        let over = disk.over(&invoices);
        let effects = disk.run(invoices.arrived(part(id, 500), over, &ctx(late, Height(EXPIRY.0))));
        assert_eq!(settled(&effects), (vec![id], vec![]));
    }
}

#[test]
fn what_is_held_goes_back_before_a_channel_would_have_to_be_closed() {
    let (mut invoices, mut disk) = held();
    let last = Height(EXPIRY.0 - CLAIM_MARGIN - 1);
    assert!(disk.run(invoices.tick(&ctx(NOW, last))).is_empty());
    let effects = disk.run(invoices.tick(&ctx(NOW, Height(last.0 + 1))));
    assert_eq!(settled(&effects), (vec![], vec![1, 2]));
    assert_eq!(disk.only().state, InvoiceState::Canceled);
    assert!(matches!(invoices.settle_held(PREIMAGE, &ctx(NOW, TIP)), Err(InvoiceError::NotOpen)));

    // Also if the channels tell of the HTLCs only afterwards.
    let (_, mut disk) = held();
    let mut invoices = disk.restart();
    disk.run(invoices.tick(&ctx(NOW, Height(last.0 + 1))));
    assert_eq!(disk.only().state, InvoiceState::Canceled);
    let over = disk.over(&invoices);
    let effects = disk.run(invoices.arrived(part(1, 400), over, &ctx(NOW, Height(last.0 + 1))));
    assert_eq!(settled(&effects), (vec![], vec![1]));
}

#[test]
fn what_is_held_goes_back_when_it_is_refused() {
    let (mut invoices, mut disk) = held();
    let effects = disk.run(invoices.cancel(&PREIMAGE.hash(), TIP).unwrap());
    assert_eq!(settled(&effects), (vec![], vec![1, 2]));
    assert_eq!(disk.only().state, InvoiceState::Canceled);
    assert!(matches!(invoices.cancel(&PREIMAGE.hash(), TIP), Err(InvoiceError::NotOpen)));
}

#[test]
fn an_htlc_that_could_not_be_held_for_long_is_not_taken() {
    let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
    disk.run(invoices.add(Invoice { min_final_cltv_expiry_delta: 10, ..invoice(None) }).unwrap());
    let tip = Height(EXPIRY.0 - CLAIM_MARGIN);
    let effects = disk.run(invoices.arrived(part(1, 1_000), None, &ctx(NOW, tip)));
    assert_eq!(settled(&effects), (vec![], vec![1]));
}

fn spontaneous(id: u64, preimage: PaymentPreimage) -> Arrived {
    let mut arrived = part(id, 1_000);
    arrived.payload.payment_data = None;
    arrived.payload.keysend_preimage = Some(preimage);
    arrived
}

#[test]
fn a_payment_that_brings_its_preimage_is_taken_where_that_is_wanted() {
    let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
    let effects = disk.run(invoices.arrived(spontaneous(1, PREIMAGE), None, &ctx(NOW, TIP)));
    assert_eq!(settled(&effects), (vec![], vec![1]), "not asked for");

    let mut invoices = Invoices::default().taking_keysend(true);
    let wrong = disk.run(invoices.arrived(spontaneous(1, PaymentPreimage([8; 32])), None, &ctx(NOW, TIP)));
    assert_eq!(settled(&wrong), (vec![], vec![1]));
    let mut in_parts = spontaneous(1, PREIMAGE);
    in_parts.payload.payment_data = Some(PaymentData { payment_secret: SECRET, total_msat: Msat(2_000) });
    assert_eq!(settled(&disk.run(invoices.arrived(in_parts, None, &ctx(NOW, TIP)))), (vec![], vec![1]));
    let effects = disk.run(invoices.arrived(spontaneous(1, PREIMAGE), None, &ctx(NOW, TIP)));
    assert_eq!(settled(&effects), (vec![1], vec![]));
    let invoice = disk.only();
    assert!(invoice.keysend && matches!(invoice.state, InvoiceState::Settled(_)));
    assert_eq!((invoice.index, invoice.amount), (1, Some(Msat(1_000))));

    // After a restart the same HTLC gets the same answer; another one with its hash is not taken a second time.
    let mut invoices = disk.restart().taking_keysend(true);
    for (id, expected) in [(1, (vec![1], vec![])), (2, (vec![], vec![2]))] {
        let over = disk.over(&invoices);
        assert_eq!(settled(&disk.run(invoices.arrived(spontaneous(id, PREIMAGE), over, &ctx(NOW, TIP)))), expected);
    }
    assert_eq!(invoices.next_index(), 2);
}

#[test]
fn parts_wait_a_minute_for_the_rest_also_over_a_restart() {
    let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
    let lasting = Invoice { expiry_seconds: 3_600, ..invoice(Some(PREIMAGE)) };
    disk.run(invoices.add(lasting).unwrap());
    let at = |seconds| UnixTime(NOW.0 + seconds);
    let one_waits = |invoices: &mut Invoices, disk: &mut Disk, begin: u64| {
        let effects = disk.run(invoices.arrived(part(1, 400), None, &ctx(at(begin), TIP)));
        assert!(effects.is_empty(), "{effects:?}");
        assert!(disk.run(invoices.tick(&ctx(at(begin + PART_TIMEOUT_SECONDS - 1), TIP))).is_empty());
    };
    one_waits(&mut invoices, &mut disk, 0);
    let effects = disk.run(invoices.tick(&ctx(at(PART_TIMEOUT_SECONDS), TIP)));
    assert_eq!(settled(&effects), (vec![], vec![1]), "BOLT 4: mpp_timeout");
    assert!(matches!(disk.only().state, InvoiceState::Open), "it can be paid again");

    // The channel tells a part again after a restart, and it waits anew, but not for ever.
    one_waits(&mut invoices, &mut disk, 100);
    let mut invoices = disk.restart();
    one_waits(&mut invoices, &mut disk, 200);
    let effects = disk.run(invoices.tick(&ctx(at(200 + PART_TIMEOUT_SECONDS), TIP)));
    assert_eq!(settled(&effects), (vec![], vec![1]));

    // The rest comes in time, after another one.
    one_waits(&mut invoices, &mut disk, 300);
    let mut invoices = disk.restart();
    one_waits(&mut invoices, &mut disk, 350);
    let effects = disk.run(invoices.arrived(part(2, 600), None, &ctx(at(400), TIP)));
    assert_eq!(settled(&effects), (vec![1, 2], vec![]));
}

fn decided(effects: &[InvoiceEffect]) -> Vec<Arrived> {
    let decide = |effect: &InvoiceEffect| match effect {
        InvoiceEffect::Decide(arrived) => Some((**arrived).clone()),
        InvoiceEffect::Settle { .. } | InvoiceEffect::Updated(_) => None,
    };
    effects.iter().filter_map(decide).collect()
}

#[test]
fn no_preimage_is_given_while_it_is_not_known_how_far_the_chain_is() {
    for (blocks, expected) in [(0, (vec![1], vec![])), (110, (vec![], vec![1]))] {
        let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
        disk.run(invoices.add(invoice(Some(PREIMAGE))).unwrap());
        for _ in 0..2 {
            assert!(disk.run(invoices.arrived(part(1, 1_000), None, &in_doubt(NOW, TIP))).is_empty());
        }
        assert!(disk.run(invoices.tick(&in_doubt(NOW, TIP))).is_empty());
        assert_eq!(disk.only().state, InvoiceState::Open);
        // The world was so many blocks further.
        let known = ctx(NOW, Height(TIP.0 + blocks));
        let again = decided(&disk.run(invoices.tick(&known)));
        assert_eq!(again.len(), 1);
        let over = disk.over(&invoices);
        let effects = disk.run(invoices.arrived(again[0].clone(), over, &known));
        assert_eq!(settled(&effects), expected);
        assert!(disk.run(invoices.tick(&known)).is_empty(), "once");
    }
}

#[test]
fn what_waits_for_the_tip_is_failed_while_the_payer_has_time_to_try_again() {
    let (mut invoices, mut disk) = (Invoices::default().taking_keysend(true), Disk::default());
    disk.run(invoices.arrived(spontaneous(1, PREIMAGE), None, &in_doubt(NOW, TIP)));
    let late = UnixTime(NOW.0 + 20);
    let effects = disk.run(invoices.tick(&in_doubt(late, TIP)));
    assert_eq!(settled(&effects), (vec![], vec![1]));
    assert!(disk.invoices.is_empty());
}

#[test]
fn parts_whose_expiry_has_come_close_are_not_taken_with_the_last_one() {
    let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
    disk.run(invoices.add(invoice(Some(PREIMAGE))).unwrap());
    assert!(disk.run(invoices.arrived(part(1, 400), None, &ctx(NOW, TIP))).is_empty());
    // Sixty blocks come at once, before the next tick.
    let mut last = part(2, 600);
    last.htlc.cltv_expiry = CltvExpiry(EXPIRY.0 + 200);
    let effects = disk.run(invoices.arrived(last, None, &ctx(NOW, Height(EXPIRY.0 - 5))));
    assert_eq!(settled(&effects), (vec![], vec![1, 2]));
    assert_eq!(disk.only().state, InvoiceState::Open);
}

#[test]
fn what_is_held_is_not_taken_while_it_may_have_expired() {
    let (mut invoices, mut disk) = held();
    let refused = invoices.settle_held(PREIMAGE, &in_doubt(NOW, TIP));
    assert!(matches!(refused, Err(InvoiceError::TipInDoubt)));
    let close = Height(EXPIRY.0 - CLAIM_MARGIN);
    assert!(matches!(invoices.settle_held(PREIMAGE, &ctx(NOW, close)), Err(InvoiceError::TooLate)));
    let effects = disk.run(invoices.settle_held(PREIMAGE, &ctx(NOW, Height(close.0 - 1))).unwrap());
    assert_eq!(settled(&effects), (vec![1, 2], vec![]));
}

/// The invoice says paid, and a crash came before the channel was told.
#[test]
fn what_was_settled_before_a_crash_is_never_failed_and_claimed_in_time() {
    let settled_before = || {
        let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
        disk.run(invoices.add(invoice(Some(PREIMAGE))).unwrap());
        disk.run(invoices.arrived(part(1, 1_000), None, &ctx(NOW, TIP)));
        let mut invoices = disk.restart();
        let over = disk.over(&invoices);
        assert!(disk.run(invoices.arrived(part(1, 1_000), over, &in_doubt(NOW, TIP))).is_empty());
        let much_later = UnixTime(NOW.0 + 100_000);
        assert!(disk.run(invoices.tick(&in_doubt(much_later, TIP))).is_empty());
        (invoices, disk)
    };
    let answer = |invoices: &mut Invoices, disk: &mut Disk, effects: &[InvoiceEffect], at: InvoiceCtx| {
        let over = disk.over(invoices);
        let arrived = decided(effects).pop().expect("it is to be decided");
        settled(&disk.run(invoices.arrived(arrived, over, &at)))
    };
    let known = ctx(NOW, Height(TIP.0 + 5));
    let deadline = in_doubt(NOW, Height(EXPIRY.0 - CLAIM_MARGIN));
    for at in [known, deadline] {
        let (mut invoices, mut disk) = settled_before();
        let effects = disk.run(invoices.tick(&at));
        assert_eq!(answer(&mut invoices, &mut disk, &effects, at), (vec![1], vec![]));
    }
    let (mut invoices, mut disk) = settled_before();
    let effects = disk.run(invoices.channel_closed(&ChannelId([3; 32])));
    assert_eq!(answer(&mut invoices, &mut disk, &effects, in_doubt(NOW, TIP)), (vec![1], vec![]));
}

/// The preimage was given, and then its channel was closed and the peer took one part back on the chain.
#[test]
fn an_invoice_of_which_a_part_was_taken_back_on_the_chain_is_not_whole() {
    let mut disk = Disk::default();
    let mut invoices = Invoices::default();
    let channel = ChannelId([3; 32]);
    disk.run(invoices.add(invoice(Some(PREIMAGE))).unwrap());
    disk.run(invoices.arrived(part(1, 400), None, &ctx(NOW, TIP)));
    let effects = disk.run(invoices.arrived(part(2, 600), None, &ctx(NOW, TIP)));
    assert_eq!(settled(&effects), (vec![1, 2], vec![]));
    let settlement = |disk: &Disk| match &disk.only().state {
        InvoiceState::Settled(settled) => settled.clone(),
        other => panic!("{other:?}"),
    };
    assert!(settlement(&disk).is_whole());

    let told =
        |effects: &[InvoiceEffect]| effects.iter().filter(|effect| matches!(effect, InvoiceEffect::Updated(_))).count();
    let effects = disk.run(invoices.taken_back(disk.only().clone(), channel, HtlcId(2)));
    assert_eq!(told(&effects), 1, "who listens hears of it");
    assert!(!settlement(&disk).is_whole());
    assert_eq!(settlement(&disk).kept(), Msat(400));
    // Told again after a restart, and of an HTLC that has nothing to do with it.
    for id in [2, 9] {
        let effects = disk.run(disk.restart().taken_back(disk.only().clone(), channel, HtlcId(id)));
        assert_eq!(told(&effects), 0);
    }
    assert_eq!(settlement(&disk).kept(), Msat(400));
}

/// Its preimage would be told, and the channel closed for it in the same block.
#[test]
fn nothing_is_taken_so_late_that_its_channel_would_be_closed_for_it() {
    let closes = crate::margins::RECEIVED_MARGIN;
    for left in [closes - 2, closes, CLAIM_MARGIN, CLAIM_MARGIN + 1] {
        let tip = Height(EXPIRY.0 - left);
        let expected = if left > CLAIM_MARGIN { (vec![1], vec![]) } else { (vec![], vec![1]) };
        let (mut invoices, mut disk) = (Invoices::default().taking_keysend(true), Disk::default());
        let effects = disk.run(invoices.arrived(spontaneous(1, PREIMAGE), None, &ctx(NOW, tip)));
        assert_eq!(settled(&effects), expected, "spontaneous, {left} blocks before its expiry");
        let (mut invoices, mut disk) = (Invoices::default(), Disk::default());
        disk.run(invoices.add(Invoice { min_final_cltv_expiry_delta: 1, ..invoice(Some(PREIMAGE)) }).unwrap());
        let effects = disk.run(invoices.arrived(part(1, 1_000), None, &ctx(NOW, tip)));
        assert_eq!(settled(&effects), expected, "for an invoice, {left} blocks before its expiry");
    }
    assert!(CLAIM_MARGIN > closes);
}

#[test]
fn what_a_tick_does_to_many_invoices_has_one_order() {
    let mut invoices = Invoices::default();
    for index in 1..=12 {
        let payment_hash = PaymentPreimage([index as u8; 32]).hash();
        let _ = invoices.add(Invoice { index, payment_hash, ..invoice(None) }).unwrap();
    }
    let mut disk = Disk::default();
    let effects = disk.run(invoices.tick(&ctx(UnixTime(NOW.0 + 61), TIP)));
    let hashes: Vec<PaymentHash> = effects
        .iter()
        .map(|effect| match effect {
            InvoiceEffect::Updated(invoice) => invoice.payment_hash,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(hashes.len() == 12 && hashes.is_sorted(), "{hashes:?}");
}

/// The whole amount, for an invoice that is held until its HTLCs expire.
fn held_until_expiry(disk: &mut Disk) -> Invoices {
    let mut invoices = Invoices::default();
    disk.run(invoices.add(Invoice { holder: Holder::SwapOut, ..invoice(None) }).unwrap());
    disk.run(invoices.arrived(part(0, 1_000), None, &ctx(NOW, TIP)));
    assert!(matches!(disk.only().state, InvoiceState::Accepted(_)));
    invoices
}

#[test]
fn what_something_else_depends_on_is_held_up_to_its_expiry_and_taken_even_then() {
    let last = Height(EXPIRY.0 - 1);
    let mut disk = Disk::default();
    let mut invoices = held_until_expiry(&mut disk);
    let later = UnixTime(NOW.0 + 1_000_000);
    assert!(settled(&disk.run(invoices.tick(&ctx(later, last)))) == (vec![], vec![]));
    // After a restart as well, and while the tip is in doubt.
    let mut restarted = disk.restart();
    disk.run(restarted.arrived(part(0, 1_000), None, &ctx(later, last)));
    let taken = disk.run(restarted.settle_held(PREIMAGE, &in_doubt(later, last)).unwrap());
    assert_eq!(settled(&taken), (vec![0], vec![]));

    let mut disk = Disk::default();
    let mut invoices = held_until_expiry(&mut disk);
    let expired = Height(EXPIRY.0);
    assert_eq!(settled(&disk.run(invoices.tick(&ctx(later, expired)))), (vec![], vec![0]));
    assert_eq!(disk.only().state, InvoiceState::Canceled);
}
