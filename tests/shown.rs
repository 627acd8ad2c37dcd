//! A command that returns has done what it says: whoever asks next sees it, without waiting.

#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, reason = "tests may panic and share helpers")]

mod harness;

use harness::{DEEP, MATURE, Pair, leyden, open_request};
use leyden_client::cluster::DaemonProcess;
use leyden_proto::{
    leyden::GenerateRequest,
    lnrpc::{
        FeeReportRequest, GetInfoRequest, GetTransactionsRequest, Invoice, ListInvoiceRequest, ListPeersRequest,
        ListUnspentRequest, NewAddressRequest, PendingChannelsRequest, PolicyUpdateRequest, SendCoinsRequest,
        WalletBalanceRequest, policy_update_request::Scope,
    },
};

const REWARD: i64 = 5_000_000_000;

/// Mines for the wallet, as `leyden chain generate` does.
async fn generate(node: &DaemonProcess, blocks: u32) {
    let request = GenerateRequest { blocks, address: String::new() };
    let mut found = node.client().unwrap().chain().generate(request).await.unwrap().into_inner();
    while found.message().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_were_mined_here_are_in_the_wallet() {
    let folder = harness::Folder::new();
    let mut alice = DaemonProcess::new(folder.path(), "alice", &[]).unwrap();
    alice.start().await.unwrap();
    let client = alice.client().unwrap();
    let balance = || async {
        client.lightning().wallet_balance(WalletBalanceRequest::default()).await.unwrap().into_inner().confirmed_balance
    };
    generate(&alice, MATURE + 1).await;
    assert_eq!(balance().await, REWARD * 2);
    for more in 1..=30 {
        generate(&alice, 1).await;
        let info = client.lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner();
        // Half as much from block 150 on.
        let ripe = i64::from(info.block_height) - i64::from(MATURE) + 1;
        assert_eq!((balance().await, info.synced_to_chain), (REWARD * ripe, true), "after {more} blocks more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_has_done_is_seen_by_the_next_one() {
    let _ = env!("CARGO_BIN_EXE_leydend");
    let pair = Pair::funded().await;
    let (alice, bob) = (pair.alice.client().unwrap(), &pair.bob);
    let lightning = || alice.lightning();

    let address = lightning().new_address(NewAddressRequest::default()).await.unwrap().into_inner().address;
    let request = SendCoinsRequest { addr: address, amount: 1_000_000, sat_per_vbyte: 2, ..Default::default() };
    let txid = lightning().send_coins(request).await.unwrap().into_inner().txid;
    let known =
        lightning().get_transactions(GetTransactionsRequest::default()).await.unwrap().into_inner().transactions;
    assert!(known.iter().any(|tx| tx.tx_hash == txid && tx.num_confirmations == 0), "{known:?}");
    let unspent = ListUnspentRequest { min_confs: 0, max_confs: i32::MAX, ..Default::default() };
    let coins = lightning().list_unspent(unspent).await.unwrap().into_inner().utxos;
    assert!(coins.iter().any(|coin| coin.amount_sat == 1_000_000), "{coins:?}");
    pair.mine(1).await;

    pair.alice.connect(bob).await.unwrap();
    let peers = lightning().list_peers(ListPeersRequest::default()).await.unwrap().into_inner().peers;
    assert_eq!(peers.len(), 1);
    assert_eq!(lightning().get_info(GetInfoRequest {}).await.unwrap().into_inner().num_peers, 1);

    let invoice = Invoice { value: 5, memo: "tea\u{1b}[2J\r1 sat".to_owned(), ..Default::default() };
    let added = lightning().add_invoice(invoice).await.unwrap().into_inner();
    let list = lightning().list_invoices(ListInvoiceRequest::default()).await.unwrap().into_inner().invoices;
    assert!(list.iter().any(|invoice| invoice.r_hash == added.r_hash));
    // On a terminal it acts on nothing.
    for command in [vec!["listinvoices"], vec!["decodepayreq", added.payment_request.as_str()]] {
        let shown = leyden(pair.alice.data_dir(), &command);
        assert!(shown.contains("tea␛[2J␍1 sat") && !shown.contains(['\u{1b}', '\r']), "{shown:?}");
    }

    let request = open_request(bob, 1_000_000, 0).await;
    let point = lightning().open_channel_sync(request).await.unwrap().into_inner();
    let pending = lightning().pending_channels(PendingChannelsRequest::default()).await.unwrap().into_inner();
    assert_eq!(pending.pending_open_channels.len(), 1, "{pending:?}");
    pair.mine(DEEP).await;
    pair.wait_for_channels(1).await;
    let policy = PolicyUpdateRequest {
        base_fee_msat: 7_000,
        fee_rate_ppm: 9,
        time_lock_delta: 90,
        scope: Some(Scope::ChanPoint(point)),
        ..Default::default()
    };
    lightning().update_channel_policy(policy).await.unwrap();
    let report = lightning().fee_report(FeeReportRequest {}).await.unwrap().into_inner();
    assert_eq!(report.channel_fees.first().map(|fee| fee.base_fee_msat), Some(7_000));
}
