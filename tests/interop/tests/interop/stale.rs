//! A Leyden between two LDK that is cut from its chain for a hundred blocks, HTLCs of all sizes pending both ways, and gets
//! its chain back. The others go on with theirs.
//!
//! ```text
//!   alice (LDK) ── bob (Leyden) ── carol (LDK)       all in public, of one kind
//!       │              ╳               │
//!       └──── miner (Leyden) ──────────┘
//! ```
//!
//! Three times: nobody closes; Carol goes away with what she holds, and Bob has to close as soon as he is back; both close on
//! the chain, and take there what they know the preimages of, while Bob sees none of it.
//!
//! Why Bob can lose nothing: he hands an HTLC on only if the one that pays him for it expires his `cltv_expiry_delta` of 80
//! blocks later. What Carol may take until she is paid for it, at the latest when it has expired and Bob takes it back, is
//! thus his to claim for 80 blocks more. LDK's invoices ask for 45 blocks of their own, and LDK adds 40 or 80: an HTLC that
//! was handed on 36 blocks before the cut expires at least 130 blocks after it in front of him, so that after a hundred
//! there are more left than `CLAIM_MARGIN`. Before each cut that is checked for every HTLC. What a cut of a hundred blocks
//! could cost him is one that expires behind him within 100 + `CLAIM_MARGIN` - 80 = 36 blocks after its beginning: he has
//! taken that on before it, at a height that he knew, and nothing saves a node that is blind for longer than its delta. While
//! he is blind he takes on none at all.

use std::collections::BTreeSet;

use ldk_node::{
    lightning_types::payment::{PaymentHash, PaymentPreimage},
    payment::PaymentStatus,
};
use leyden_channels::margins::CLAIM_MARGIN;
use leyden_client::{
    cluster::{ClusterError, DaemonProcess, wait_until},
    demo::ledger::Ledger,
};
use leyden_proto::{
    invoicesrpc::{AddHoldInvoiceRequest, SettleInvoiceMsg},
    leyden::{GetTipRequest, GetTransactionRequest},
    lnrpc::{GetInfoRequest, Invoice, PendingChannelsResponse, invoice::InvoiceState},
};
use tonic::Code;

use crate::{
    cases::{Report, World},
    support::{
        Kind, Ldk, chain,
        ldk::{End, id_of, reach},
        line::Line,
        ours::{self, Opening},
    },
};

const CAPACITY: i64 = 4_000_000;
const PUSH: i64 = 2_000_000;
/// What Bob keeps of a payment.
const FEE: i64 = 1;
/// Blocks that Bob does not see.
const CUT: u32 = 100;
/// Blocks after the cut at which what is taken while nobody closes is taken: before LDK, 39 blocks before an HTLC expires,
/// gives up what it holds.
const TAKEN_AFTER: u32 = 40;
/// The shortest route that LDK finds over Bob's delta with what its invoices ask for: it keeps two hops of 40 blocks free for
/// those that it pretends behind the recipient, one or two.
const SHORT_WAY: u32 = 80 + 45 + 2 * 40 + 3;
/// Blocks that all see after that, so that every HTLC behind Bob expires within the cut; few enough for LDK to hold it.
const AGED: u32 = 36;
/// In satoshi. The first is too small for an output of its own, and gone to the miners once a channel closes.
const SIZES: [i64; 4] = [DUST, 4_000, 30_000, 120_000];
const DUST: i64 = 300;
/// Of each size one is taken and one is not, in either direction.
const HTLCS_OF_A_SIZE: usize = 2;
/// Sizes with outputs of their own.
const WITH_OUTPUT: usize = SIZES.len() - 1;
/// What Bob's transactions may cost, with what lies in anchors and went with dust: less than the larger HTLCs, so that one
/// that was lost would be seen. LDK raises its claims by its own clock while it reads the blocks that it missed: on a busy
/// machine two of them have cost it 66,100 sat.
const MOST_COSTS: i64 = 25_000;
/// Both wait as long for their own as LDK asks for.
const DELAY: &str = "144";

struct Three {
    miner: DaemonProcess,
    line: Line,
    bob: DaemonProcess,
    alice: Ldk,
    carol: Ldk,
    kind: Kind,
}

/// Over Bob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    AliceToCarol,
    CarolToAlice,
}

const BOTH_DIRECTIONS: [Direction; 2] = [Direction::AliceToCarol, Direction::CarolToAlice];

/// A payment that its recipient holds.
#[derive(Debug)]
struct Held {
    direction: Direction,
    sat: i64,
    preimage: PaymentPreimage,
    hash: PaymentHash,
    /// The recipient will take it.
    taken: bool,
}

pub async fn live(report: &'static Report, kind: Kind) -> World {
    let folder = report.folder();
    let miner = chain::start(folder.path(), "miner", &[]).await;
    let line = Line::to(miner.chain_address().unwrap()).await.unwrap();
    let flags = ["--chain-connect", &line.address(), "--to-self-delay", DELAY];
    let terms = ["--base-fee-msat", "1000", "--fee-rate-ppm", "0"];
    let mut bob = DaemonProcess::new(folder.path(), "bob", &[&flags[..], &terms].concat()).unwrap();
    bob.start().await.unwrap();
    let alice = Ldk::start(folder.path(), "alice", kind, chain::rpc(&miner));
    let carol = Ldk::start(folder.path(), "carol", kind, chain::rpc(&miner));
    let mut three = Three { miner, line, bob, alice, carol, kind };
    chain::fund(&three.miner, &[&three.bob], &[&three.alice, &three.carol]).await;
    let (coins, height) = (three.coins().await, chain::height(&three.miner).await);

    report.case(&format!("open on both sides of Leyden, {kind}"), "both", three.open()).await?;
    let case = |what: &str| format!("no chain for {CUT} blocks, {what}, {kind}");
    let mut earned = report.case(&case("nobody closes"), "Leyden is blind", three.nobody_closes()).await?;
    earned += report.case(&case("LDK is away"), "Leyden is blind", three.carol_is_away()).await?;
    report.case(&format!("open again, {kind}"), "Leyden funds", three.open_to_carol()).await?;
    earned += report.case(&case("both close"), "Leyden is blind", three.both_close()).await?;
    let case = format!("a blind Leyden has lost nothing, {kind}");
    report.case(&case, "Leyden is blind", three.add_up(coins, earned, height)).await
}

fn sat(amount: i64) -> u64 {
    u64::try_from(amount).unwrap()
}

impl Three {
    fn payer(&self, direction: Direction) -> &Ldk {
        match direction {
            Direction::AliceToCarol => &self.alice,
            Direction::CarolToAlice => &self.carol,
        }
    }

    fn payee(&self, direction: Direction) -> &Ldk {
        match direction {
            Direction::AliceToCarol => &self.carol,
            Direction::CarolToAlice => &self.alice,
        }
    }

    /// What each has on the chain: Bob, Alice, Carol.
    async fn coins(&self) -> [i64; 3] {
        let of = |peer: &Ldk| i64::try_from(peer.wallet()).unwrap();
        [self.bob.wallet_balance().await.unwrap(), of(&self.alice), of(&self.carol)]
    }

    async fn mine(&self, blocks: u32) {
        chain::mine(&self.miner, &[&self.bob], &[&self.alice, &self.carol], blocks).await;
    }

    async fn mine_until<F, Fut>(&self, what: &str, holds: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<bool, ClusterError>>,
    {
        chain::mine_until(&self.miner, &[&self.bob], &[&self.alice, &self.carol], what, holds).await;
    }

    async fn open(&self) {
        self.alice.open(reach(&self.bob).await, sat(CAPACITY), sat(PUSH), true);
        chain::wait_for_mempool(&self.miner, 1).await;
        self.mine(chain::DEEP).await;
        self.open_to_carol().await;
    }

    async fn open_to_carol(&self) {
        ours::reconnect(&self.bob, &self.carol).await;
        let opening = Opening { kind: self.kind, capacity: CAPACITY, push: PUSH, private: false, zero_conf: false };
        ours::open(&self.bob, &self.carol, &opening).await;
        chain::wait_for_mempool(&self.miner, 1).await;
        self.mine(chain::DEEP).await;
        self.bob.wait_for_active_channels(2).await.unwrap();
        self.alice.wait_for_usable_channels(1).await;
        self.carol.wait_for_usable_channels(1).await;
        let [to_alice] = &ours::channels_with(&self.bob, &self.alice).await[..] else { panic!("one channel") };
        let [to_carol] = &ours::channels_with(&self.bob, &self.carol).await[..] else { panic!("one channel") };
        let bob = id_of(&self.bob).await;
        self.alice.wait_for_terms(to_carol.chan_id, bob).await;
        self.carol.wait_for_terms(to_alice.chan_id, bob).await;
    }

    /// What Bob has in his channels with Alice and Carol, once nothing is under way.
    async fn balances(&self) -> [i64; 2] {
        [ours::agree(&self.bob, &self.alice).await, ours::agree(&self.bob, &self.carol).await]
    }

    /// Payments of all sizes go both ways, and are held.
    async fn hold(&self, round: u8, longest: Option<u32>) -> Vec<Held> {
        let mut all = Vec::new();
        for direction in BOTH_DIRECTIONS {
            for size in SIZES {
                for taken in [true, false] {
                    let mut bytes = [round; 32];
                    bytes[0] = u8::try_from(all.len()).unwrap();
                    let preimage = PaymentPreimage(bytes);
                    let hash = PaymentHash::from(preimage);
                    let invoice = self.payee(direction).hold_invoice(sat(size), hash).to_string();
                    match longest {
                        Some(blocks) => self.payer(direction).pay_within(&invoice, blocks),
                        None => self.payer(direction).pay(&invoice),
                    };
                    assert_eq!(self.payee(direction).claimable(hash).await, sat(size) * 1_000);
                    all.push(Held { direction, sat: size, preimage, hash, taken });
                }
            }
        }
        assert_eq!(all.len(), BOTH_DIRECTIONS.len() * SIZES.len() * HTLCS_OF_A_SIZE);
        all
    }

    fn take(&self, held: &Held) {
        self.payee(held.direction).claim(held.preimage, sat(held.sat));
    }

    /// Each HTLC in front of Bob leaves him time after the cut.
    async fn deadlines_allow_the_cut(&self) {
        let height = chain::height(&self.miner).await;
        for channel in self.bob.channels().await.unwrap() {
            for htlc in channel.pending_htlcs.iter().filter(|htlc| htlc.incoming) {
                assert!(htlc.expiration_height > height + CUT + CLAIM_MARGIN, "at {height}: {htlc:?}");
            }
        }
    }

    /// Cuts Bob from his chain; he knows that he does not know, and says why.
    async fn cut(&self) {
        self.line.cut();
        wait_until("Bob to have doubts", || async { Ok(!self.is_synced().await) }).await.unwrap();
        let tip = self.bob.client().unwrap().chain().get_tip(GetTipRequest {}).await.unwrap().into_inner();
        assert!(tip.doubt.contains("the last chain peer was lost"), "{tip:?}");
    }

    async fn is_synced(&self) -> bool {
        let info = self.bob.client().unwrap().lightning().get_info(GetInfoRequest {}).await.unwrap();
        info.into_inner().synced_to_chain
    }

    async fn mend(&self) {
        assert!(!self.is_synced().await);
        self.line.mend();
        self.bob.wait_for_height(chain::height(&self.miner).await).await.unwrap();
    }

    /// Whether Bob has an HTLC of a payment that comes in, or goes out.
    async fn has_htlc(&self, hash: PaymentHash, incoming: bool) -> bool {
        let channels = self.bob.channels().await.unwrap();
        let mut htlcs = channels.iter().flat_map(|channel| &channel.pending_htlcs);
        htlcs.any(|htlc| htlc.incoming == incoming && htlc.hash_lock == hash.0)
    }

    /// Gives what Bob has earned in it.
    async fn nobody_closes(&self) -> i64 {
        let had = self.balances().await;
        let held = self.hold(1, None).await;
        let (preimage, own) = self.alice_pays_for_what_bob_holds().await;
        self.deadlines_allow_the_cut().await;
        self.cut().await;

        // Of his own, Bob promises nothing.
        let refused = |status: tonic::Status| {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            assert!(status.message().to_lowercase().contains("the last chain peer was lost"), "{status:?}");
        };
        let client = self.bob.client().unwrap();
        let settled = client.invoices().settle_invoice(SettleInvoiceMsg { preimage: preimage.0.to_vec() }).await;
        refused(settled.unwrap_err());
        let invoice = ours::for_invoice(self.carol.invoice(10_000));
        refused(client.router().send_payment_v2(invoice).await.unwrap_err());

        // Nor for others: what they offer him now stays with him.
        let sent = BOTH_DIRECTIONS.map(|direction| {
            (direction, self.payer(direction).pay(&self.payee(direction).invoice(10_000).to_string()))
        });
        let request = Invoice { value: 10_000, cltv_expiry: u64::from(2 * CUT), ..Invoice::default() };
        let added = client.lightning().add_invoice(request).await.unwrap().into_inner();
        let here = self.alice.pay(&added.payment_request);
        for hash in sent.iter().map(|(_, hash)| *hash).chain([here]) {
            wait_until("an offer to a blind Bob", || async { Ok(self.has_htlc(hash, true).await) }).await.unwrap();
        }
        let mut mined = 0;
        for blocks in [TAKEN_AFTER, CUT - TAKEN_AFTER] {
            chain::mine(&self.miner, &[], &[&self.alice, &self.carol], blocks).await;
            mined += blocks;
            for (_, hash) in sent {
                assert!(!self.has_htlc(hash, false).await, "forwarded after {mined} blocks");
            }
            assert_eq!(ours::look_up(&self.bob, &added.r_hash).await.state(), InvoiceState::Open);
            // What they take or give back behind him passes at once: it binds nobody any more.
            for one in held.iter().filter(|one| mined == TAKEN_AFTER && one.taken) {
                self.take(one);
                let end = self.payer(one.direction).end(one.hash).await;
                assert!(matches!(end, End::Paid { fee_msat: 1_000, .. }), "{one:?}: {end:?}");
            }
        }
        self.mend().await;

        for one in held.iter().filter(|one| !one.taken) {
            // LDK has given most of them back by itself.
            self.payee(one.direction).node().bolt11_payment().fail_for_hash(one.hash).unwrap();
            let end = self.payer(one.direction).end(one.hash).await;
            assert!(matches!(end, End::Failed(_)), "{one:?}: {end:?}");
        }
        ours::settle(&self.bob, &preimage.0).await;
        assert!(matches!(self.alice.end(own).await, End::Paid { .. }));
        let mut paid: Vec<(Direction, i64)> =
            held.iter().filter(|one| one.taken).map(|one| (one.direction, one.sat)).collect();
        for (direction, hash) in sent {
            // He decides by the height that he knows now, unless it has waited too long.
            if let End::Paid { .. } = self.payer(direction).end(hash).await {
                assert_eq!(self.payee(direction).received(hash).await, 10_000_000);
                paid.push((direction, 10_000));
            }
        }
        let mut expected = [had[0] + 10_000, had[1]];
        let is_paid = matches!(self.alice.end(here).await, End::Paid { .. });
        assert_eq!(ours::look_up(&self.bob, &added.r_hash).await.state() == InvoiceState::Settled, is_paid);
        expected[0] += if is_paid { 10_000 } else { 0 };
        for (direction, sat) in paid {
            let (from, to) = match direction {
                Direction::AliceToCarol => (0, 1),
                Direction::CarolToAlice => (1, 0),
            };
            expected[from] += sat + FEE;
            expected[to] -= sat;
        }
        assert_eq!(self.balances().await, expected, "to the satoshi");
        // And all goes on.
        for direction in BOTH_DIRECTIONS {
            let end = self.payer(direction).pay_to_end(&self.payee(direction).invoice(10_000).to_string()).await;
            assert!(matches!(end, End::Paid { .. }), "{end:?}");
        }
        self.balances().await.iter().sum::<i64>() - had.iter().sum::<i64>()
    }

    /// For longer than the cut.
    async fn alice_pays_for_what_bob_holds(&self) -> (PaymentPreimage, PaymentHash) {
        let preimage = PaymentPreimage([77; 32]);
        let hash = PaymentHash::from(preimage);
        let request = AddHoldInvoiceRequest {
            hash: hash.0.to_vec(),
            value: 10_000,
            cltv_expiry: u64::from(2 * CUT),
            ..AddHoldInvoiceRequest::default()
        };
        let added = self.bob.client().unwrap().invoices().add_hold_invoice(request).await.unwrap().into_inner();
        self.alice.pay(&added.payment_request);
        ours::wait_until_held(&self.bob, &hash.0).await;
        (preimage, hash)
    }

    /// Gives what Bob has earned in it.
    async fn carol_is_away(&mut self) -> i64 {
        let [to_carol] = &ours::channels_with(&self.bob, &self.carol).await[..] else { panic!("one channel") };
        let height = chain::height(&self.miner).await;
        let held = self.hold(2, Some(SHORT_WAY)).await;
        self.mine(AGED).await;
        self.deadlines_allow_the_cut().await;
        self.carol.stop();
        self.cut().await;
        // Bob gets to know preimages and has nobody to tell them.
        for one in held.iter().filter(|one| one.direction == Direction::CarolToAlice && one.taken) {
            self.take(one);
            wait_until("Bob to be told", || async { Ok(!self.has_htlc(one.hash, false).await) }).await.unwrap();
        }
        chain::mine(&self.miner, &[], &[&self.alice], CUT).await;
        assert_eq!(self.bob.channels().await.unwrap().len(), 2, "he does not know that it is time");

        // As soon as he does, he closes, takes back what expired, and takes what he can pay for with a preimage.
        self.mend().await;
        chain::wait_for_mempool(&self.miner, 1).await;
        let due = (HTLCS_OF_A_SIZE + 1) * WITH_OUTPUT;
        loop {
            let ledger = Ledger::since(&self.miner, height).await.unwrap();
            if let Some(commitment) = ledger.spender(&to_carol.channel_point)
                && htlc_outputs(&ledger, commitment).iter().filter(|output| ledger.spender(output).is_some()).count()
                    >= due
            {
                break;
            }
            chain::wait_for_mempool(&self.miner, 1).await;
            chain::mine(&self.miner, &[&self.bob], &[&self.alice], 1).await;
        }
        let (miner, bob, alice) = (&self.miner, &self.bob, &self.alice);
        let back = |one: &&Held| one.direction == Direction::AliceToCarol;
        chain::mine_until(miner, &[bob], &[alice], "Alice to have her own back", || async {
            Ok(held.iter().filter(back).all(|one| alice.payment_status(one.hash) != PaymentStatus::Pending))
        })
        .await;
        for one in held.iter().filter(back) {
            assert_eq!(alice.payment_status(one.hash), PaymentStatus::Failed, "{one:?}");
        }
        self.carol.start_again();
        self.mine_until("nothing to be left of the channel", || async {
            Ok(self.bob.pending_channels().await? == PendingChannelsResponse::default()
                && self.carol.has_claimed_everything()
                && held.iter().all(|one| self.payer(one.direction).payment_status(one.hash) != PaymentStatus::Pending))
        })
        .await;
        ours::agree(&self.bob, &self.alice).await;
        let mut earned = 0;
        for one in held.iter().filter(|one| one.direction == Direction::CarolToAlice) {
            // Of dust the chain knows no preimage: Bob has paid for it, and Carol's went to the miners.
            let paid = one.taken && one.sat != DUST;
            assert_eq!(self.carol.payment_status(one.hash) == PaymentStatus::Succeeded, paid, "{one:?}");
            earned += if paid { FEE } else { 0 };
        }
        earned
    }

    /// Gives what Bob has earned in it.
    async fn both_close(&self) -> i64 {
        let [to_alice] = &ours::channels_with(&self.bob, &self.alice).await[..] else { panic!("one channel") };
        let [to_carol] = &ours::channels_with(&self.bob, &self.carol).await[..] else { panic!("one channel") };
        let points = [&to_alice.channel_point, &to_carol.channel_point];
        let height = chain::height(&self.miner).await;
        let held = self.hold(3, Some(SHORT_WAY)).await;
        self.mine(AGED).await;
        self.deadlines_allow_the_cut().await;
        self.cut().await;
        let (bob, _) = reach(&self.bob).await;
        for (closer, point, direction) in [
            (&self.carol, &to_carol.channel_point, Direction::AliceToCarol),
            (&self.alice, &to_alice.channel_point, Direction::CarolToAlice),
        ] {
            let known = closer.channel(point);
            // It has no chance to tell Bob.
            closer.node().disconnect(bob).unwrap();
            held.iter().filter(|one| one.direction == direction && one.taken).for_each(|one| self.take(one));
            closer.node().force_close_channel(&known.user_channel_id, bob, None).unwrap();
        }
        // What they know the preimages of they take while Bob is blind.
        let mut left = CUT;
        loop {
            let ledger = Ledger::since(&self.miner, height).await.unwrap();
            let closed = points.iter().all(|point| ledger.spender(point).is_some());
            let taken = || self.alice.has_taken_its_htlcs() && self.carol.has_taken_its_htlcs();
            if closed && taken() {
                break;
            }
            wait_until("the next that they take", || async {
                Ok((closed && taken()) || !self.miner.waiting_txids().await?.is_empty())
            })
            .await
            .unwrap();
            chain::mine(&self.miner, &[], &[&self.alice, &self.carol], 1).await;
            left = left.checked_sub(1).expect("they take everything within the cut");
        }
        chain::mine(&self.miner, &[], &[&self.alice, &self.carol], left).await;
        let is_spent = |ledger: &Ledger, output: &str| ledger.spender(output).is_some();
        let ledger = Ledger::since(&self.miner, height).await.unwrap();
        let commitments = points.map(|point| ledger.spender(point).unwrap().to_owned());
        let outputs = commitments.each_ref().map(|txid| htlc_outputs(&ledger, txid));
        for outputs in &outputs {
            assert_eq!(outputs.len(), BOTH_DIRECTIONS.len() * HTLCS_OF_A_SIZE * WITH_OUTPUT);
            assert_eq!(
                outputs.iter().filter(|output| is_spent(&ledger, output)).count(),
                WITH_OUTPUT,
                "one way, taken"
            );
        }

        // At once, without another block: he takes with the preimages that the blocks show, and takes back what expired.
        self.mend().await;
        wait_until("Bob to claim everything that is his", || async {
            let waiting = self.spent_by_waiting().await?;
            let claimed = |outputs: &Vec<String>| outputs.iter().filter(|output| waiting.contains(*output)).count();
            Ok(outputs.iter().all(|outputs| claimed(outputs) >= 2 * WITH_OUTPUT))
        })
        .await
        .unwrap();
        self.mine(1).await;
        let ledger = Ledger::since(&self.miner, height).await.unwrap();
        for outputs in &outputs {
            let spent = outputs.iter().filter(|output| is_spent(&ledger, output)).count();
            assert_eq!(spent, 3 * WITH_OUTPUT, "all but what they take back later");
        }
        self.mine_until("everything to be claimed", || async {
            Ok(self.bob.pending_channels().await? == PendingChannelsResponse::default()
                && [&self.alice, &self.carol].iter().all(|peer| peer.has_claimed_everything())
                && held.iter().all(|one| self.payer(one.direction).payment_status(one.hash) != PaymentStatus::Pending))
        })
        .await;
        let mut earned = 0;
        for one in &held {
            // Nobody gets dust: it went with the closes.
            let paid = one.taken && one.sat != DUST;
            let status = self.payer(one.direction).payment_status(one.hash);
            assert_eq!(status == PaymentStatus::Succeeded, paid, "{one:?} {status:?}");
            earned += if paid { FEE } else { 0 };
        }
        earned
    }

    /// What transactions that wait for a block spend.
    async fn spent_by_waiting(&self) -> Result<Vec<String>, ClusterError> {
        let mut spent = Vec::new();
        for txid in self.miner.waiting_txids().await? {
            let found = self.miner.client()?.chain().get_transaction(GetTransactionRequest { txid }).await;
            let found = found.map_err(|status| self.miner.call_error(status))?.into_inner();
            spent.extend(found.inputs.into_iter().map(|input| input.outpoint));
        }
        Ok(spent)
    }

    /// No satoshi is gone but to miners and in anchors, and Bob has lost none to the others.
    async fn add_up(&self, had: [i64; 3], earned: i64, since: u32) {
        let has = self.coins().await;
        let ledger = Ledger::since(&self.miner, since).await.unwrap();
        let costs = ledger.all_fees() + ledger.anchors_left();
        assert_eq!(has.iter().sum::<i64>() + costs, had.iter().sum::<i64>(), "costs of {costs}");
        // Alice gave him a part of her channel, and he Carol one of each of his.
        let due = had[0] + PUSH - 2 * PUSH + earned;
        let costs_of_bob = self.costs_of_bob(&ledger).await;
        assert_eq!(due - has[0], costs_of_bob, "what Bob lacks of {due}");
        assert!(costs_of_bob < MOST_COSTS, "{costs_of_bob} of {costs}");
    }

    /// What Bob pays and nobody gets but miners.
    async fn costs_of_bob(&self, ledger: &Ledger) -> i64 {
        let own = self.bob.wallet_txids().await.unwrap();
        let all: BTreeSet<String> = ledger.txids().collect();
        let carol = self.carol.id().to_string();
        let mut costs = ledger.fees(&own).0;
        for closed in self.bob.closed_channels().await.unwrap() {
            let commitment = &closed.closing_tx_hash;
            // What he got back with an anchor paid a part of a fee.
            costs -= ledger.anchors_swept(commitment, &own);
            if closed.remote_pubkey == carol {
                // He opened it: the fee and the anchors are his, whoever sweeps them. What Carol offered as dust was hers.
                costs += ledger.commitment_cost(commitment, CAPACITY) + ledger.anchors_swept(commitment, &all);
                costs -= HTLCS_OF_A_SIZE as i64 * (DUST + FEE);
            } else {
                // What he offered Alice as dust is missing in a commitment of hers.
                costs += HTLCS_OF_A_SIZE as i64 * DUST;
            }
            // HTLC transactions without a coin of his wallet, which he swept afterwards.
            let spenders = ledger.spenders(commitment);
            let second =
                spenders.into_iter().filter(|txid| !own.contains(txid) && !ledger.spenders(txid).is_disjoint(&own));
            costs += ledger.fees(&second.collect()).0;
        }
        // Alice took this with a preimage, and in the commitment with Carol it was dust.
        costs + DUST
    }
}

/// The outputs of a commitment that hold HTLCs, by their amounts: in front of Bob with his fee.
fn htlc_outputs(ledger: &Ledger, commitment: &str) -> Vec<String> {
    let outputs = ledger.outputs(commitment).into_iter().enumerate();
    let is_htlc = |amount: i64| SIZES.iter().any(|size| *size != DUST && (amount == *size || amount == *size + FEE));
    outputs.filter(|(_, amount)| is_htlc(*amount)).map(|(index, _)| format!("{commitment}:{index}")).collect()
}
