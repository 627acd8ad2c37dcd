//! Held invoices.

use leyden_proto::invoicesrpc::{self, invoices_client::InvoicesClient};

use super::*;

#[tokio::test]
async fn a_held_invoice_is_made_taken_and_given_up_by_its_hash() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut invoices = InvoicesClient::new(server.channel.clone());
    let request = invoicesrpc::AddHoldInvoiceRequest {
        hash: vec![7; 32],
        value_msat: 1_500,
        memo: "coffee".to_owned(),
        cltv_expiry: 100,
        ..Default::default()
    };
    let added = invoices.add_hold_invoice(request.clone()).await.unwrap().into_inner();
    assert_eq!((added.add_index, added.payment_request.as_str()), (1, "lnbcrt1"));
    let asked = server.asked();
    for part in [&"07".repeat(32), "preimage: None", "Some(Msat(1500))", "min_final_cltv: Some(100)"] {
        assert!(asked.contains(part), "{asked} has no {part}");
    }
    let short = invoicesrpc::AddHoldInvoiceRequest { hash: vec![7; 31], ..request };
    refused(invoices.add_hold_invoice(short).await, Code::InvalidArgument, "31 bytes");

    invoices.settle_invoice(invoicesrpc::SettleInvoiceMsg { preimage: vec![9; 32] }).await.unwrap();
    assert!(server.asked().contains(&"09".repeat(32)), "{}", server.asked());
    invoices.cancel_invoice(invoicesrpc::CancelInvoiceMsg { payment_hash: vec![6; 32] }).await.unwrap();
    assert!(server.asked().contains(&"06".repeat(32)), "{}", server.asked());
    let empty = invoicesrpc::SettleInvoiceMsg { preimage: Vec::new() };
    refused(invoices.settle_invoice(empty).await, Code::InvalidArgument, "preimage");

    let by = |invoice_ref| invoicesrpc::LookupInvoiceMsg { invoice_ref };
    use invoicesrpc::lookup_invoice_msg::InvoiceRef;
    let found = invoices.lookup_invoice_v2(by(Some(InvoiceRef::PaymentHash(vec![6; 32])))).await.unwrap();
    assert_eq!(found.into_inner().memo, "coffee");
    let address = invoices.lookup_invoice_v2(by(Some(InvoiceRef::PaymentAddr(vec![6; 32])))).await;
    refused(address, Code::InvalidArgument, "payment_hash");
}

#[tokio::test]
async fn one_invoice_is_watched_to_its_end_held_or_not() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut invoices = InvoicesClient::new(server.channel.clone());
    let request = invoicesrpc::SubscribeSingleInvoiceRequest { r_hash: vec![7; 32] };
    let updates = invoices.subscribe_single_invoice(request).await.unwrap().into_inner();
    let updates: Vec<_> = updates.map(Result::unwrap).collect().await;
    let states: Vec<_> = updates.iter().map(|invoice| invoice.state()).collect();
    assert_eq!(states, [RpcInvoiceState::Accepted, RpcInvoiceState::Settled]);
    assert_eq!((updates[0].r_preimage.len(), updates[0].amt_paid_msat), (0, 1_500));
    assert_eq!(updates[1].r_preimage, [9; 32]);
}
