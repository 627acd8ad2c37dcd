//! `invoicesrpc.Invoices`: invoices whose payments are held.

use leyden_proto::{
    invoicesrpc::{self, invoices_server::Invoices},
    lnrpc,
};
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::{edge, invoices},
    status::{Replies, replies},
};
use leyden_channels::types::PaymentPreimage;

pub(super) struct InvoicesService {
    context: Context,
}

impl InvoicesService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Invoices for InvoicesService {
    type SubscribeSingleInvoiceStream = Replies<lnrpc::Invoice>;

    async fn add_hold_invoice(
        &self,
        request: Request<invoicesrpc::AddHoldInvoiceRequest>,
    ) -> Reply<invoicesrpc::AddHoldInvoiceResp> {
        let lightning = self.context.lightning()?;
        let (hash, request) = invoices::add_hold_invoice(request.into_inner(), &self.context.daemon.network())?;
        let invoice = lightning.add_hold_invoice(hash, request).await?;
        Ok(Response::new(invoicesrpc::AddHoldInvoiceResp {
            payment_request: invoice.request,
            add_index: invoice.add_index,
            payment_addr: invoice.secret.0.to_vec(),
        }))
    }

    async fn settle_invoice(
        &self,
        request: Request<invoicesrpc::SettleInvoiceMsg>,
    ) -> Reply<invoicesrpc::SettleInvoiceResp> {
        let lightning = self.context.lightning()?;
        let preimage = PaymentPreimage(edge::bytes32("preimage", &request.into_inner().preimage)?);
        lightning.settle_invoice(preimage).await?;
        Ok(Response::new(invoicesrpc::SettleInvoiceResp {}))
    }

    async fn cancel_invoice(
        &self,
        request: Request<invoicesrpc::CancelInvoiceMsg>,
    ) -> Reply<invoicesrpc::CancelInvoiceResp> {
        let lightning = self.context.lightning()?;
        lightning.cancel_invoice(edge::payment_hash("payment_hash", &request.into_inner().payment_hash)?).await?;
        Ok(Response::new(invoicesrpc::CancelInvoiceResp {}))
    }

    async fn subscribe_single_invoice(
        &self,
        request: Request<invoicesrpc::SubscribeSingleInvoiceRequest>,
    ) -> Reply<Self::SubscribeSingleInvoiceStream> {
        let lightning = self.context.lightning()?;
        let hash = edge::payment_hash("r_hash", &request.into_inner().r_hash)?;
        let updates = lightning.subscribe_invoice(hash).await?;
        Ok(replies(updates, &self.context.stopping, |invoice| Some(invoices::invoice(&invoice))))
    }

    async fn lookup_invoice_v2(&self, request: Request<invoicesrpc::LookupInvoiceMsg>) -> Reply<lnrpc::Invoice> {
        let lightning = self.context.lightning()?;
        let hash = invoices::lookup_v2(&request.into_inner())?;
        Ok(Response::new(invoices::invoice(&lightning.invoice(hash).await?)))
    }
}
