//! Programs that decide about channels of others and about forwards.

use leyden_channels::{
    switch::{Interception, InterceptionFailure},
    types::ShortChannelId,
};
use tokio_stream::iter;

use super::*;
use crate::{
    api::ChannelVerdict,
    rpc::convert::deciding::{answer, interception},
};

fn network() -> crate::api::NetworkInfo {
    crate::api::Daemon::network(&Fake::new(WalletState::ServerActive))
}

fn accepting() -> lnrpc::ChannelAcceptResponse {
    lnrpc::ChannelAcceptResponse { accept: true, pending_chan_id: vec![7; 32], ..Default::default() }
}

#[tokio::test]
async fn a_program_is_told_all_of_a_channel_that_another_node_wants_to_open() {
    let server = Server::start(WalletState::ServerActive).await;
    let asked = server.lightning().channel_acceptor(iter([accepting()])).await.unwrap();
    let question = asked.into_inner().message().await.unwrap().unwrap();
    assert_eq!(question.node_pubkey.len(), 33);
    assert_eq!((question.pending_chan_id, question.funding_amt, question.push_amt), (vec![7; 32], 1_000_000, 5));
    assert_eq!((question.channel_reserve, question.csv_delay, question.max_accepted_htlcs), (10_000, 144, 483));
    assert_eq!((question.wants_scid_alias, question.wants_zero_conf), (true, false));
    assert_eq!(question.commitment_type, i32::from(lnrpc::CommitmentType::Anchors));
}

#[test]
fn an_answer_that_makes_no_sense_refuses_the_channel_and_names_nothing_of_ours() {
    let wrong = [
        lnrpc::ChannelAcceptResponse { error: "no".to_owned(), ..accepting() },
        lnrpc::ChannelAcceptResponse { max_htlc_count: 484, ..accepting() },
        lnrpc::ChannelAcceptResponse { csv_delay: 70_000, ..accepting() },
        lnrpc::ChannelAcceptResponse { zero_conf: true, min_accept_depth: 1, ..accepting() },
        lnrpc::ChannelAcceptResponse { upfront_shutdown: "nowhere".to_owned(), ..accepting() },
        lnrpc::ChannelAcceptResponse { accept: false, error: "x".repeat(501), ..accepting() },
        lnrpc::ChannelAcceptResponse { accept: false, ..accepting() },
    ];
    for wrong in wrong {
        let verdict = answer(wrong.clone(), &network()).unwrap().verdict;
        assert_eq!(verdict, ChannelVerdict::Refuse("channel rejected".to_owned()), "{wrong:?}");
    }
    let own = lnrpc::ChannelAcceptResponse { accept: false, error: "x".repeat(500), ..accepting() };
    assert_eq!(answer(own, &network()).unwrap().verdict, ChannelVerdict::Refuse("x".repeat(500)));
    let unnamed = lnrpc::ChannelAcceptResponse { pending_chan_id: vec![7; 31], ..accepting() };
    assert_eq!(answer(unnamed, &network()), None);
    let all = lnrpc::ChannelAcceptResponse {
        upfront_shutdown: ADDRESS.to_owned(),
        csv_delay: 99,
        reserve_sat: 20_000,
        in_flight_max_msat: 5_000_000,
        max_htlc_count: 30,
        min_htlc_in: 2_000,
        min_accept_depth: 6,
        ..accepting()
    };
    let ChannelVerdict::Accept(terms) = answer(all, &network()).unwrap().verdict else { panic!() };
    assert!(terms.shutdown_script.is_some() && !terms.zero_conf);
    let fixed = &terms.overrides;
    assert_eq!((fixed.to_self_delay, fixed.minimum_depth, fixed.max_accepted_htlcs), (Some(99), Some(6), Some(30)));
    assert_eq!((fixed.max_in_flight, fixed.htlc_minimum), (Some(Msat(5_000_000)), Some(Msat(2_000))));
    assert_eq!(fixed.reserve.map(bitcoin::Amount::to_sat), Some(20_000));
}

fn decision(action: routerrpc::ResolveHoldForwardAction) -> routerrpc::ForwardHtlcInterceptResponse {
    routerrpc::ForwardHtlcInterceptResponse {
        incoming_circuit_key: Some(routerrpc::CircuitKey { chan_id: 77, htlc_id: 3 }),
        action: action.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_program_is_told_all_of_a_forward() {
    let server = Server::start(WalletState::ServerActive).await;
    let answers = iter([decision(routerrpc::ResolveHoldForwardAction::Resume)]);
    let asked = server.router().htlc_interceptor(answers).await.unwrap();
    let htlc = asked.into_inner().message().await.unwrap().unwrap();
    assert_eq!(htlc.incoming_circuit_key, Some(routerrpc::CircuitKey { chan_id: 77, htlc_id: 3 }));
    assert_eq!((htlc.incoming_amount_msat, htlc.incoming_expiry), (1_100, 500));
    assert_eq!((htlc.outgoing_amount_msat, htlc.outgoing_expiry, htlc.outgoing_requested_chan_id), (1_000, 460, 88));
    assert_eq!((htlc.auto_fail_height, htlc.onion_blob.len(), htlc.payment_hash.len()), (481, 1366, 32));
    assert_eq!(htlc.custom_records.get(&65_537), Some(&vec![7]));
}

#[test]
fn decisions_about_forwards_are_checked_before_anything_happens() {
    use routerrpc::ResolveHoldForwardAction as Action;
    let with = |change: fn(&mut routerrpc::ForwardHtlcInterceptResponse), action| {
        let mut decision = decision(action);
        change(&mut decision);
        interception(decision)
    };
    let refused = |answer: Result<_, crate::api::ApiError>, words: &str| {
        let error = answer.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(with(|answer| answer.incoming_circuit_key = None, Action::Resume), "CircuitKey missing");
    refused(with(|answer| answer.action = 9, Action::Resume), "unrecognized resolve action 9");
    refused(with(|_| {}, Action::ResumeModified), "RESUME_MODIFIED is not served");
    refused(with(|_| {}, Action::Settle), "missing preimage");
    refused(with(|answer| answer.preimage = vec![9; 31], Action::Settle), "31 bytes where 32 are needed");
    refused(with(|answer| answer.preimage = vec![9; 32], Action::Resume), "only SETTLE");
    refused(with(|answer| answer.failure_message = vec![1], Action::Fail), "failure message length invalid");
    refused(with(|answer| answer.failure_code = 5, Action::Fail), "unsupported failure code: 5");
    refused(with(|answer| answer.failure_code = 15, Action::Resume), "only FAIL");
    let both = with(
        |answer| {
            answer.failure_message = vec![1; 292];
            answer.failure_code = 15;
        },
        Action::Fail,
    );
    refused(both, "mutually exclusive");
    let plain = with(|_| {}, Action::Fail).unwrap();
    assert_eq!(plain.channel, ShortChannelId(77));
    assert_eq!(plain.answer, Interception::Fail(InterceptionFailure::TemporaryChannelFailure));
    let words = with(|answer| answer.failure_message = vec![1; 292], Action::Fail).unwrap().answer;
    assert_eq!(words, Interception::FailEncrypted(vec![1; 292]));
    let settled = with(|answer| answer.preimage = vec![9; 32], Action::Settle).unwrap().answer;
    assert_eq!(settled, Interception::Settle(PaymentPreimage([9; 32])));
}
