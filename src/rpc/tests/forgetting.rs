//! What is deleted because its owner says so, and the names of channels.

use leyden_proto::routerrpc::{DeleteForwardingHistoryRequest, delete_forwarding_history_request::TimeSpec};

use super::*;

#[tokio::test]
async fn forwards_are_forgotten_up_to_a_time() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut router = server.router();
    let until = |time_spec| DeleteForwardingHistoryRequest { time_spec };
    let answer = router.delete_forwarding_history(until(Some(TimeSpec::DeleteBeforeTime(5)))).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.events_deleted, answer.total_fee_msat), (7, 1_500));
    assert_eq!(answer.status, "Successfully deleted 7 forwarding events");
    assert_eq!(server.asked(), "Time(5)");
    let ago = |text: &str| until(Some(TimeSpec::DeleteBeforeDuration(text.to_owned())));
    router.delete_forwarding_history(ago("-30d")).await.unwrap();
    assert_eq!(server.asked(), "Ago(2592000)");
    let words = "invalid duration format";
    refused(router.delete_forwarding_history(ago("soon")).await, Code::InvalidArgument, words);
    let words = "time specification required";
    refused(router.delete_forwarding_history(until(None)).await, Code::InvalidArgument, words);
}

#[tokio::test]
async fn a_canceled_invoice_is_forgotten_by_its_hash() {
    let server = Server::start(WalletState::ServerActive).await;
    let mut lightning = server.lightning();
    let hash = "07".repeat(32);
    let named = |invoice_hash: &str| lnrpc::DelCanceledInvoiceReq { invoice_hash: invoice_hash.to_owned() };
    let answer = lightning.delete_canceled_invoice(named(&hash)).await.unwrap().into_inner();
    assert_eq!(answer.status, format!("canceled invoice deleted successfully: invoice hash {hash}"));
    let words = "invoice hash must be provided";
    refused(lightning.delete_canceled_invoice(named("")).await, Code::InvalidArgument, words);
    refused(lightning.delete_canceled_invoice(named("xy")).await, Code::InvalidArgument, "invoice_hash");
    refused(lightning.delete_canceled_invoice(named("07")).await, Code::InvalidArgument, "invoice_hash");
}
