//! Programs that decide in the node's stead: which channels of others are opened, and what becomes of forwards.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{
    Folder, Pair, assert_calm,
    network::{Opening, network_with},
    open_request, refused,
};
use leyden_client::{
    cluster::{DaemonProcess, wait_until},
    demo::calls::succeeded,
};
use leyden_proto::{
    lnrpc::{
        ChannelAcceptRequest, ChannelAcceptResponse, Invoice, Payment, PaymentFailureReason, PaymentHash, failure,
        payment::PaymentStatus,
    },
    routerrpc::{ForwardHtlcInterceptRequest, ForwardHtlcInterceptResponse, ResolveHoldForwardAction as Action},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming};

const CAPACITY: i64 = 1_000_000;

struct Acceptor {
    answers: mpsc::UnboundedSender<ChannelAcceptResponse>,
    questions: Streaming<ChannelAcceptRequest>,
}

impl Acceptor {
    async fn of(node: &DaemonProcess) -> Self {
        let (answers, receiver) = mpsc::unbounded_channel();
        let call = node.client().unwrap().lightning().channel_acceptor(UnboundedReceiverStream::new(receiver)).await;
        Self { answers, questions: call.unwrap().into_inner() }
    }

    async fn answer(&mut self, answer: ChannelAcceptResponse) -> ChannelAcceptRequest {
        let question = self.questions.message().await.unwrap().unwrap();
        self.answers
            .send(ChannelAcceptResponse { pending_chan_id: question.pending_chan_id.clone(), ..answer })
            .unwrap();
        question
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_accepts_and_refuses_channels_of_others_until_it_hangs_up() {
    let pair = Pair::funded().await;
    pair.alice.connect(&pair.bob).await.unwrap();
    let (mut first, mut second) = (Acceptor::of(&pair.bob).await, Acceptor::of(&pair.bob).await);
    let open = async || {
        let request = open_request(&pair.bob, CAPACITY, 1_000).await;
        pair.alice.client().unwrap().lightning().open_channel_sync(request).await
    };
    // Both are asked, and one is enough to refuse.
    let (refusal, question, _) = tokio::join!(
        open(),
        first.answer(ChannelAcceptResponse { accept: true, ..Default::default() }),
        second.answer(ChannelAcceptResponse { error: "no room on Sundays".to_owned(), ..Default::default() }),
    );
    refused(refusal, Code::FailedPrecondition, "no room on Sundays");
    assert_eq!((question.funding_amt, question.push_amt), (CAPACITY as u64, 1_000_000));
    assert_eq!(hex::encode(&question.node_pubkey), pair.alice.node_id().await.unwrap());
    drop(second);
    // With one that has gone half-way, the channel is refused; after that it is not asked.
    loop {
        let asked = ChannelAcceptResponse { accept: true, csv_delay: 777, min_accept_depth: 2, ..Default::default() };
        let (opened, _) = tokio::join!(open(), first.answer(asked));
        if opened.is_ok() {
            break;
        }
    }
    pair.mine(2).await;
    pair.wait_for_channels(1).await;
    let channel = pair.alice.only_channel().await.unwrap();
    assert_eq!(channel.local_constraints.unwrap().csv_delay, 777, "what the program wants");

    drop(first);
    wait_until("the daemon to decide again", || async { Ok(open().await.is_ok()) }).await.unwrap();
    assert_calm("bob", &pair.bob.log());
}

struct Interceptor {
    answers: mpsc::UnboundedSender<ForwardHtlcInterceptResponse>,
    questions: Streaming<ForwardHtlcInterceptRequest>,
}

impl Interceptor {
    async fn of(node: &DaemonProcess) -> Result<Self, Status> {
        let (answers, receiver) = mpsc::unbounded_channel();
        let call = node.client().unwrap().router().htlc_interceptor(UnboundedReceiverStream::new(receiver)).await;
        Ok(Self { answers, questions: call?.into_inner() })
    }

    async fn asked(&mut self) -> ForwardHtlcInterceptRequest {
        self.questions.message().await.unwrap().unwrap()
    }

    fn answer(&self, htlc: &ForwardHtlcInterceptRequest, action: Action, preimage: Vec<u8>) {
        let answer = ForwardHtlcInterceptResponse {
            incoming_circuit_key: htlc.incoming_circuit_key,
            action: action.into(),
            preimage,
            ..Default::default()
        };
        self.answers.send(answer).unwrap();
    }
}

/// Alice – Bob – Carol.
async fn line(folder: &Folder, flags: &[&str]) -> Vec<DaemonProcess> {
    let openings = [Opening { from: 0, to: 1, push: 300_000 }, Opening { from: 1, to: 2, push: 300_000 }];
    network_with(folder, &["alice", "bob", "carol"], flags, CAPACITY, &openings).await
}

/// Begins a payment from Alice to Carol; with its preimage.
async fn begin(nodes: &[DaemonProcess]) -> (JoinHandle<Payment>, Vec<u8>) {
    let [alice, _, carol] = nodes else { panic!() };
    let request = carol.invoice(10_000, "tea").await.unwrap();
    let mut lightning = carol.client().unwrap().lightning();
    let invoices =
        lightning.list_invoices(leyden_proto::lnrpc::ListInvoiceRequest::default()).await.unwrap().into_inner();
    let made = invoices.invoices.into_iter().find(|invoice| invoice.payment_request == request).unwrap();
    let lookup = PaymentHash { r_hash: made.r_hash, ..Default::default() };
    let invoice: Invoice = lightning.lookup_invoice(lookup).await.unwrap().into_inner();
    let mut router = alice.client().unwrap().router();
    let paying = tokio::spawn(async move {
        let request = leyden_proto::routerrpc::SendPaymentRequest {
            payment_request: request,
            fee_limit_sat: 1_000,
            timeout_seconds: 300,
            max_parts: 1,
            no_inflight_updates: true,
            ..Default::default()
        };
        let mut updates = router.send_payment_v2(request).await.unwrap().into_inner();
        updates.message().await.unwrap().unwrap()
    });
    (paying, invoice.r_preimage)
}

async fn owned(node: &DaemonProcess) -> i64 {
    node.channels().await.unwrap().iter().map(|channel| channel.local_balance).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_resumes_fails_and_settles_forwards_and_what_it_holds_goes_on_when_it_hangs_up() {
    let folder = Folder::new();
    let nodes = line(&folder, &[]).await;
    let [_, bob, carol] = &nodes[..] else { panic!() };
    let mut program = Interceptor::of(bob).await.unwrap();
    refused(Interceptor::of(bob).await.map(drop), Code::AlreadyExists, "interceptor already exists");

    let (paying, _) = begin(&nodes).await;
    let htlc = program.asked().await;
    assert_eq!(htlc.outgoing_amount_msat, 10_000_000);
    assert!(htlc.incoming_amount_msat > 10_000_000 && htlc.incoming_expiry > htlc.outgoing_expiry);
    program.answer(&htlc, Action::Resume, Vec::new());
    program.answer(&htlc, Action::Fail, Vec::new());
    assert!(succeeded(&paying.await.unwrap()), "the second answer changes nothing");

    let (paying, _) = begin(&nodes).await;
    let mut htlc = program.asked().await;
    loop {
        program.answer(&htlc, Action::Fail, Vec::new());
        match tokio::time::timeout(std::time::Duration::from_secs(2), program.asked()).await {
            // Alice may try once more.
            Ok(again) => htlc = again,
            Err(_) => break,
        }
    }
    let failed = paying.await.unwrap();
    assert_eq!(failed.status(), PaymentStatus::Failed);
    assert_eq!(failed.failure_reason(), PaymentFailureReason::FailureReasonNoRoute);
    let why = failed.htlcs[0].failure.as_ref().unwrap();
    assert_eq!(why.code(), failure::FailureCode::TemporaryChannelFailure);

    // Bob takes it himself: Carol gets nothing.
    let before = (owned(bob).await, owned(carol).await);
    let (paying, preimage) = begin(&nodes).await;
    let htlc = program.asked().await;
    program.answer(&htlc, Action::Settle, preimage);
    let paid = paying.await.unwrap();
    assert!(succeeded(&paid), "{paid:?}");
    wait_until("Bob to have it", || async { Ok(owned(bob).await > before.0 + 9_999) }).await.unwrap();
    assert_eq!(owned(carol).await, before.1);

    let (paying, _) = begin(&nodes).await;
    program.asked().await;
    drop(program);
    assert!(succeeded(&paying.await.unwrap()), "what was held goes on");

    // A preimage of something else takes nothing, and ends the stream; what was held goes on.
    let mut program = async {
        loop {
            match Interceptor::of(bob).await {
                Ok(program) => return program,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
    .await;
    let (paying, _) = begin(&nodes).await;
    let htlc = program.asked().await;
    program.answer(&htlc, Action::Settle, vec![9; 32]);
    refused(program.questions.message().await, Code::InvalidArgument, "preimage does not match hash");
    assert!(succeeded(&paying.await.unwrap()));
    for node in &nodes {
        assert_calm(node.name(), &node.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_program_is_asked_again_after_a_restart_about_what_is_held() {
    let folder = Folder::new();
    let mut nodes = line(&folder, &["--require-interceptor"]).await;
    let mut program = Interceptor::of(&nodes[1]).await.unwrap();
    let (paying, preimage) = begin(&nodes).await;
    let htlc = program.asked().await;
    drop(program);
    nodes[1].kill();
    nodes[1].start().await.unwrap();
    nodes[0].connect(&nodes[1]).await.unwrap();
    let mut program = Interceptor::of(&nodes[1]).await.unwrap();
    let again = program.asked().await;
    assert_eq!(again.incoming_circuit_key, htlc.incoming_circuit_key);
    assert_eq!((again.payment_hash.clone(), again.onion_blob.clone()), (htlc.payment_hash, htlc.onion_blob));
    program.answer(&again, Action::Settle, preimage);
    let paid = paying.await.unwrap();
    assert!(succeeded(&paid), "{paid:?}");
}
