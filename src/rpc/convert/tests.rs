//! Every wrong field is refused by name, and nothing that is asked for in vain is done without it.

use bitcoin::{Network, constants::genesis_block};
use leyden_channels::types::{CltvExpiry, Msat, PaymentPreimage, PaymentSecret, ShortChannelId, UnixTime};
use leyden_proto::{
    leyden,
    lnrpc::{self, failure::FailureCode},
    routerrpc, walletrpc,
};

use super::*;
use crate::{
    api::{
        ApiError, Attempt, AttemptFailure, AttemptState, ChannelFunding, CloseKind, FeeChoice, NetworkInfo,
        PaymentState, PeerInfo, RouteHop, SendAmount, WalletTx,
    },
    rpc::fake::{self, ADDRESS, NODE},
};

pub(super) fn regtest() -> NetworkInfo {
    let genesis = genesis_block(Network::Regtest).block_hash();
    NetworkInfo { name: "regtest".to_owned(), addresses: Network::Regtest, genesis }
}

/// Refused as INVALID_ARGUMENT, with the field's name first.
fn names<T>(field: &str, checked: Result<T, ApiError>) {
    match checked {
        Err(ApiError::InvalidArgument(text)) => assert!(text.starts_with(&format!("{field}: ")), "{field}: {text}"),
        Err(other) => panic!("{field}: {other:?}"),
        Ok(_) => panic!("{field} was taken"),
    }
}

/// A copy of `good` with one change.
macro_rules! but {
    ($good:expr, $($field:ident = $value:expr),+) => {{
        let mut changed = $good.clone();
        $(changed.$field = $value;)+
        changed
    }};
}

#[test]
#[allow(deprecated)]
fn wrong_fields_of_send_coins_are_named() {
    let good = lnrpc::SendCoinsRequest { addr: ADDRESS.to_owned(), amount: 1000, ..Default::default() };
    let check = |request| wallet::send_coins(request, &regtest());
    assert_eq!(check(good.clone()).unwrap().amount, SendAmount::Exactly(bitcoin::Amount::from_sat(1000)));
    assert_eq!(check(but!(good, send_all = true, amount = 0)).unwrap().amount, SendAmount::All);
    assert!(
        matches!(check(but!(good, sat_per_byte = 3)).unwrap().fee, FeeChoice::Rate(rate) if rate.to_sat_per_vb_ceil() == 3)
    );
    assert_eq!(check(good.clone()).unwrap().coins.min_confirmations, 1);
    assert_eq!(check(but!(good, spend_unconfirmed = true)).unwrap().coins.min_confirmations, 0);

    names("amount", check(but!(good, amount = 0)));
    names("amount", check(but!(good, amount = -5)));
    names("amount", check(but!(good, amount = i64::MAX)));
    names("amount", check(but!(good, send_all = true)));
    names("addr", check(but!(good, addr = String::new())));
    names("addr", check(but!(good, addr = "nonsense".to_owned())));
    names("addr", check(but!(good, addr = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".to_owned())));
    names("sat_per_vbyte", check(but!(good, sat_per_vbyte = 1, target_conf = 6)));
    names("sat_per_vbyte", check(but!(good, sat_per_vbyte = 10_000_000)));
    names("sat_per_byte", check(but!(good, sat_per_byte = -1)));
    names("target_conf", check(but!(good, target_conf = -6)));
    names("min_confs", check(but!(good, min_confs = -1)));
    names("min_confs", check(but!(good, min_confs = 3, spend_unconfirmed = true)));
    names("label", check(but!(good, label = "x".repeat(501))));
    names("coin_selection_strategy", check(but!(good, coin_selection_strategy = 1)));
    names("coin_selection_strategy", check(but!(good, coin_selection_strategy = 77)));
    let coin = lnrpc::OutPoint { txid_str: "ab".repeat(32), ..Default::default() };
    assert_eq!(check(but!(good, outpoints = vec![coin.clone()])).unwrap().coins.only.len(), 1);
    names("outpoints", check(but!(good, outpoints = vec![coin.clone(), coin])));
    names("outpoints", check(but!(good, outpoints = vec![lnrpc::OutPoint::default()])));
}

#[test]
#[allow(deprecated)]
fn a_fee_is_bumped_by_one_of_the_ways_to_say_it() {
    let outpoint = lnrpc::OutPoint { txid_str: "ab".repeat(32), ..Default::default() };
    let good = walletrpc::BumpFeeRequest { outpoint: Some(outpoint), ..Default::default() };
    let check = |request: walletrpc::BumpFeeRequest| wallet::bump_fee(&request).map(|bump| bump.fee);
    assert_eq!(check(good.clone()).unwrap(), FeeChoice::Default);
    assert_eq!(check(but!(good, target_conf = 6)).unwrap(), FeeChoice::ConfirmWithin(6));
    assert_eq!(check(but!(good, deadline_delta = 6)).unwrap(), FeeChoice::ConfirmWithin(6));
    let rate = FeeChoice::Rate(bitcoin::FeeRate::from_sat_per_vb(3).unwrap());
    assert_eq!(check(but!(good, sat_per_vbyte = 3)).unwrap(), rate);
    assert_eq!(check(but!(good, sat_per_byte = 3)).unwrap(), rate);
    names("sat_per_vbyte", check(but!(good, sat_per_vbyte = 3, sat_per_byte = 50)));
    names("sat_per_vbyte", check(but!(good, sat_per_vbyte = 3, target_conf = 6)));
    names("sat_per_vbyte", check(but!(good, sat_per_byte = 3, target_conf = 6)));
    names("deadline_delta", check(but!(good, deadline_delta = 6, sat_per_vbyte = 3)));
    names("deadline_delta", check(but!(good, deadline_delta = 6, sat_per_byte = 3)));
    names("deadline_delta", check(but!(good, deadline_delta = 6, target_conf = 6)));
}

#[test]
#[allow(deprecated)]
fn wrong_fields_of_open_channel_are_named() {
    let good = lnrpc::OpenChannelRequest {
        node_pubkey: hex::decode(NODE).unwrap(),
        local_funding_amount: 100_000,
        ..Default::default()
    };
    let check = |request| channels::open_channel(request, &regtest());
    let open = check(good.clone()).unwrap();
    assert_eq!((open.commitment_type, open.announce, open.htlc_minimum), (None, true, None));
    assert_eq!((open.base_fee, open.fee_ppm), (None, None));
    let open = check(but!(good, fund_max = true, local_funding_amount = 0)).unwrap();
    assert_eq!(open.funding, ChannelFunding::Everything);
    let open = check(but!(good, use_base_fee = true, use_fee_rate = true, fee_rate = 5)).unwrap();
    assert_eq!((open.base_fee, open.fee_ppm), (Some(Msat(0)), Some(5)), "a fee of zero is a choice too");

    names("node_pubkey", check(but!(good, node_pubkey = Vec::new())));
    names("node_pubkey", check(but!(good, node_pubkey = vec![2; 32])));
    names("node_pubkey_string", check(but!(good, node_pubkey = vec![], node_pubkey_string = "02zz".to_owned())));
    names("local_funding_amount", check(but!(good, local_funding_amount = 0)));
    names("local_funding_amount", check(but!(good, local_funding_amount = -1)));
    names("local_funding_amount", check(but!(good, fund_max = true)));
    names("push_sat", check(but!(good, push_sat = -1)));
    names("push_sat", check(but!(good, push_sat = 100_000)));
    names("funding_shim", check(but!(good, funding_shim = Some(lnrpc::FundingShim { shim: None }))));
    names("scid_alias", check(but!(good, scid_alias = true)));
    names("commitment_type", check(but!(good, commitment_type = 1)));
    names("commitment_type", check(but!(good, commitment_type = 5)));
    names("remote_csv_delay", check(but!(good, remote_csv_delay = 70_000)));
    names("max_local_csv", check(but!(good, max_local_csv = 70_000)));
    names("remote_max_htlcs", check(but!(good, remote_max_htlcs = 484)));
    names("min_htlc_msat", check(but!(good, min_htlc_msat = -1)));
    names("remote_max_value_in_flight_msat", check(but!(good, remote_max_value_in_flight_msat = u64::MAX)));
    names("remote_chan_reserve_sat", check(but!(good, remote_chan_reserve_sat = u64::MAX)));
    names("base_fee", check(but!(good, use_base_fee = true, base_fee = u64::MAX)));
    names("fee_rate", check(but!(good, use_fee_rate = true, fee_rate = u64::MAX)));
    names("close_address", check(but!(good, close_address = "x".to_owned())));
}

#[test]
fn a_force_close_takes_no_wishes() {
    use lnrpc::channel_point::FundingTxid;
    let point = |txid| Some(lnrpc::ChannelPoint { funding_txid: txid, output_index: 0 });
    let text = FundingTxid::FundingTxidStr("ab".repeat(32));
    let good = lnrpc::CloseChannelRequest { channel_point: point(Some(text)), force: true, ..Default::default() };
    let check = |request| channels::close_channel(request, &regtest());
    assert_eq!(check(good.clone()).unwrap().kind, CloseKind::Force);
    let cooperative = check(but!(good, force = false, sat_per_vbyte = 2, no_wait = true)).unwrap().kind;
    assert!(matches!(cooperative, CloseKind::Cooperative { wait_for_htlcs: true, to: None, .. }), "{cooperative:?}");

    names("sat_per_vbyte", check(but!(good, sat_per_vbyte = 2)));
    names("target_conf", check(but!(good, target_conf = 2)));
    names("delivery_address", check(but!(good, delivery_address = ADDRESS.to_owned())));
    names("max_fee_per_vbyte", check(but!(good, max_fee_per_vbyte = 2)));
    names("channel_point", check(but!(good, channel_point = None)));
    names("channel_point", check(but!(good, channel_point = point(None))));
    names("channel_point", check(but!(good, channel_point = point(Some(FundingTxid::FundingTxidBytes(vec![1; 31]))))));
    names("channel_point", check(but!(good, channel_point = point(Some(FundingTxid::FundingTxidStr("zz".into()))))));
}

#[test]
fn wrong_fields_of_add_invoice_are_named() {
    let good = lnrpc::Invoice { memo: "coffee".to_owned(), value: 5, ..Default::default() };
    let check = |request| invoices::add_invoice(request, &regtest());
    assert_eq!(check(good.clone()).unwrap().amount, Some(Msat(5_000)));
    assert_eq!(check(but!(good, value = 0)).unwrap().amount, None, "the payer chooses");
    assert_eq!(check(but!(good, value = 0, value_msat = 7)).unwrap().amount, Some(Msat(7)));

    names("value", check(but!(good, value = -1)));
    names("value", check(but!(good, value_msat = 7)));
    names("value_msat", check(but!(good, value = 0, value_msat = -7)));
    names("r_preimage", check(but!(good, r_preimage = vec![1; 31])));
    names("r_hash", check(but!(good, r_preimage = vec![1; 32], r_hash = vec![2; 32])));
    names("r_hash", check(but!(good, r_hash = vec![2; 32])));
    names("memo", check(but!(good, memo = "x".repeat(640))));
    names("description_hash", check(but!(good, memo = String::new(), description_hash = vec![1; 31])));
    names("expiry", check(but!(good, expiry = -1)));
    names("expiry", check(but!(good, expiry = i64::MAX)));
    names("cltv_expiry", check(but!(good, cltv_expiry = 70_000)));
    names("fallback_addr", check(but!(good, fallback_addr = "x".to_owned())));
    names("is_amp", check(but!(good, is_amp = true)));
    names("is_blinded", check(but!(good, is_blinded = true)));
    let hint = lnrpc::HopHint { node_id: "02".to_owned(), ..Default::default() };
    names("route_hints.node_id", check(but!(good, route_hints = vec![lnrpc::RouteHint { hop_hints: vec![hint] }])));
}

#[test]
fn wrong_fields_of_send_payment_are_named() {
    let good = routerrpc::SendPaymentRequest { payment_request: "lnbcrt1".to_owned(), ..Default::default() };
    let check = payments::send_payment;
    assert_eq!(check(good.clone()).unwrap().max_fee, Msat::ZERO);
    let details = routerrpc::SendPaymentRequest {
        dest: hex::decode(NODE).unwrap(),
        payment_hash: vec![1; 32],
        amt: 5,
        ..Default::default()
    };
    assert!(check(details.clone()).is_ok());

    names("payment_request", check(routerrpc::SendPaymentRequest::default()));
    names("payment_request", check(but!(good, payment_request = "x".repeat(8000))));
    names("payment_request", check(but!(good, payment_request = "  ".to_owned())));
    names("dest", check(but!(good, dest = vec![2; 33])));
    names("payment_hash", check(but!(good, payment_hash = vec![2; 32])));
    names("amt", check(but!(good, amt = 1, amt_msat = 1)));
    names("amt", check(but!(good, amt = -1)));
    names("fee_limit", check(but!(good, fee_limit_sat = 1, fee_limit_msat = 1)));
    names("fee_limit_msat", check(but!(good, fee_limit_msat = -1)));
    names("timeout_seconds", check(but!(good, timeout_seconds = -1)));
    names("cltv_limit", check(but!(good, cltv_limit = -1)));
    names("last_hop_pubkey", check(but!(good, last_hop_pubkey = vec![1])));
    names("amp", check(but!(good, amp = true)));
    names("time_pref", check(but!(good, time_pref = f64::NAN)));
    names("dest_custom_records", check(but!(good, dest_custom_records = HashMap::from([(7, vec![1])]))));
    names("amt", check(but!(details, amt = 0)));
    names("payment_hash", check(but!(details, payment_hash = vec![1; 20])));
    names("payment_addr", check(but!(details, payment_addr = vec![1; 20])));
    names("final_cltv_delta", check(but!(details, final_cltv_delta = -1)));
}

#[test]
#[allow(deprecated)]
fn wrong_fields_of_small_requests_are_named() {
    let address = |r#type| lnrpc::NewAddressRequest { r#type, account: String::new() };
    names("type", wallet::address_kind(&address(1)));
    names("type", wallet::address_kind(&address(99)));
    let account = lnrpc::NewAddressRequest { r#type: 0, account: "savings".to_owned() };
    names("account", wallet::address_kind(&account));
    let confirmations = |min_confs| lnrpc::WalletBalanceRequest { min_confs, ..Default::default() };
    names("min_confs", wallet::balance_confirmations(&confirmations(-1)));
    let coins = |min_confs, max_confs| lnrpc::ListUnspentRequest { min_confs, max_confs, ..Default::default() };
    names("max_confs", wallet::confirmation_range(&coins(3, 2)));
    names("min_confs", wallet::confirmation_range(&coins(-3, 2)));
    names("r_hash", invoices::lookup_hash(&lnrpc::PaymentHash::default()));
    let text = |r_hash_str: &str| lnrpc::PaymentHash { r_hash_str: r_hash_str.to_owned(), ..Default::default() };
    names("r_hash_str", invoices::lookup_hash(&text("zz")));
    names("r_hash_str", invoices::lookup_hash(&text("abcd")));
    assert!(invoices::lookup_hash(&text(&"ab".repeat(32))).is_ok());
    names("addr", wallet::peer_address(&lnrpc::ConnectPeerRequest::default()));
    let peer = |pubkey: &str, host: &str| {
        let addr = lnrpc::LightningAddress { pubkey: pubkey.to_owned(), host: host.to_owned() };
        wallet::peer_address(&lnrpc::ConnectPeerRequest { addr: Some(addr), ..Default::default() })
    };
    names("addr.pubkey", peer("02", "localhost"));
    for host in ["", "local host", "localhost:0", "localhost:99999", "localhost:x"] {
        names("addr.host", peer(NODE, host));
    }
    names("block", chain::block_selector(&leyden::GetBlockRequest::default()));
    let by_hash = Some(leyden::get_block_request::Block::BlockHash("00".to_owned()));
    names("block_hash", chain::block_selector(&leyden::GetBlockRequest { block: by_hash, include_raw: false }));
    names("raw_tx", edge::transaction("raw_tx", &[1, 2, 3]));
    let filter = lnrpc::ListChannelsRequest { active_only: true, inactive_only: true, ..Default::default() };
    names("active_only", channels::ChannelFilter::new(&filter));
}

#[test]
fn a_route_tells_amounts_fees_and_the_payment_secret() {
    let hop = |id: u64, amount: u64, fee: u64, expiry: u32| RouteHop {
        short_channel_id: ShortChannelId(id),
        capacity: bitcoin::Amount::from_sat(1_000_000),
        node_id: fake::node_id(),
        amount: Msat(amount),
        fee: Msat(fee),
        expiry: CltvExpiry(expiry),
    };
    let failure = AttemptFailure { code: Some(0x400f), source: Some(2), amount: Some(Msat(1_500)), height: Some(101) };
    let mut paid = fake::payment(PaymentState::InFlight);
    paid.attempts = vec![Attempt {
        id: 3,
        started: paid.created,
        state: AttemptState::Failed { at: paid.created, failure },
        route: vec![hop(1, 1_500, 11, 150), hop(2, 1_500, 0, 150)],
        expiry: CltvExpiry(190),
        secret: Some(PaymentSecret([5; 32])),
        total: Msat(1_500),
    }];
    let message = payments::payment(&paid);
    let attempt = &message.htlcs[0];
    let route = attempt.route.as_ref().unwrap();
    assert_eq!((route.total_fees_msat, route.total_amt_msat, route.total_time_lock), (11, 1_511, 190));
    assert_eq!(route.hops[0].mpp_record, None);
    assert_eq!(route.hops[1].mpp_record.as_ref().unwrap().payment_addr, [5; 32]);
    let failure = attempt.failure.as_ref().unwrap();
    assert_eq!(failure.code(), FailureCode::IncorrectOrUnknownPaymentDetails);
    assert_eq!((failure.failure_source_index, failure.height, failure.htlc_msat), (2, 101, 1_500));
}

#[test]
fn an_attempt_that_succeeded_carries_its_preimage() {
    let mut paid = fake::payment(PaymentState::Succeeded { preimage: PaymentPreimage([9; 32]) });
    paid.attempts = vec![Attempt {
        id: 1,
        started: paid.created,
        state: AttemptState::Succeeded { at: paid.created, preimage: PaymentPreimage([9; 32]) },
        route: Vec::new(),
        expiry: CltvExpiry(190),
        secret: None,
        total: Msat(1_500),
    }];
    let message = payments::payment(&paid);
    assert_eq!(message.htlcs[0].preimage, [9; 32]);
    assert_eq!(message.htlcs[0].resolve_time_ns, message.creation_time_ns);
}

#[test]
fn transactions_are_paged_and_cut_by_height() {
    use crate::api::Confirmation;
    use bitcoin::{BlockHash, SignedAmount, hashes::Hash as _};
    let tx = |height: Option<u32>| {
        let transaction = genesis_block(Network::Regtest).txdata[0].clone();
        let found = |height| Confirmation {
            block: BlockHash::all_zeros(),
            height: leyden_channels::types::Height(height),
            confirmations: 1,
        };
        WalletTx {
            txid: transaction.compute_txid(),
            transaction: transaction.into(),
            net: SignedAmount::from_sat(-5),
            fee: None,
            confirmation: height.map(found),
            time: UnixTime(1),
            label: String::new(),
            local_outputs: vec![0],
            local_inputs: Vec::new(),
        }
    };
    let all = || vec![tx(None), tx(Some(30)), tx(Some(20)), tx(Some(10))];
    let ask = |start_height, end_height, index_offset, max_transactions| {
        let request = lnrpc::GetTransactionsRequest {
            start_height,
            end_height,
            index_offset,
            max_transactions,
            ..Default::default()
        };
        let page = wallet::transaction_page(&request).unwrap();
        let taken = all().into_iter().filter(|tx| page.takes(tx.confirmation.map(|found| found.height)));
        let taken: Vec<_> = taken.skip(page.skip).take(page.limit.unwrap_or(usize::MAX)).collect();
        let details = wallet::transactions(page.skip, &taken, &regtest());
        let heights: Vec<_> = details.transactions.iter().map(|tx| tx.block_height).collect();
        (heights, details.first_index, details.last_index)
    };
    assert_eq!(ask(0, -1, 0, 0), (vec![0, 30, 20, 10], 0, 3));
    assert_eq!(ask(20, 0, 0, 0), (vec![0, 30, 20], 0, 2));
    assert_eq!(ask(25, 10, 0, 0), (vec![20, 10], 0, 1));
    assert_eq!(ask(0, -1, 1, 2), (vec![30, 20], 1, 2));
    assert_eq!(ask(0, -1, 9, 0), (vec![], 0, 0));
    assert_eq!(ask(-34_448, -1, 0, 0), ask(0, -1, 0, 0), "before the first block");
    let request = lnrpc::GetTransactionsRequest { end_height: -2, ..Default::default() };
    names("end_height", wallet::transaction_page(&request));
    let details = wallet::transactions(0, &all(), &regtest());
    assert!(details.transactions[0].output_details[0].is_our_address);
    assert_eq!(details.transactions[0].amount, -5);
}

#[test]
fn a_peer_is_shown_as_one_that_we_ask_for_gossip_or_not() {
    use lnrpc::peer::SyncType;
    let shown = |tells_gossip| {
        let peer = PeerInfo {
            node_id: NODE.parse().unwrap(),
            address: "127.0.0.1:9735".to_owned(),
            inbound: true,
            bytes_sent: 1,
            bytes_received: 2,
            amount_sent: Msat(3_000),
            amount_received: Msat(4_000),
            ping: None,
            features: Features::init(),
            tells_gossip,
            errors: Vec::new(),
        };
        wallet::peer(&peer, false).sync_type()
    };
    assert_eq!((shown(true), shown(false)), (SyncType::ActiveSync, SyncType::PassiveSync));
}

#[test]
fn bolt_4_failures_have_the_numbers_of_lnd() {
    let code = |code, source| {
        let failure = AttemptFailure { code, source, amount: None, height: None };
        let mut paid = fake::payment(PaymentState::InFlight);
        paid.attempts = vec![Attempt {
            id: 1,
            started: paid.created,
            state: AttemptState::Failed { at: paid.created, failure },
            route: Vec::new(),
            expiry: CltvExpiry(190),
            secret: None,
            total: Msat(1),
        }];
        payments::payment(&paid).htlcs[0].failure.as_ref().unwrap().code()
    };
    assert_eq!(code(Some(0x1007), Some(1)), FailureCode::TemporaryChannelFailure);
    assert_eq!(code(Some(0x0015), Some(1)), FailureCode::ExpiryTooFar);
    assert_eq!(code(Some(0xc006), Some(1)), FailureCode::InvalidOnionKey);
    assert_eq!(code(Some(0x7777), Some(1)), FailureCode::UnknownFailure);
    assert_eq!(code(None, Some(0)), FailureCode::InternalFailure);
    assert_eq!(code(None, None), FailureCode::UnreadableFailure);
}
