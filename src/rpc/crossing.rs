//! `leyden.Crossing` and `leyden.CrossingNode`: payments that cross between two networks, and what this daemon does for another
//! one that lets them.

use leyden_channels::types::PaymentPreimage;
use leyden_proto::leyden::{self, crossing_node_server::CrossingNode, crossing_server::Crossing};
use tonic::{Request, Response, Status};

use super::{
    Context,
    convert::{crossings, edge},
};

pub(super) struct CrossingService {
    context: Context,
}

impl CrossingService {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Crossing for CrossingService {
    async fn set_rate(
        &self,
        request: Request<leyden::SetCrossingRateRequest>,
    ) -> Result<Response<leyden::CrossingRates>, Status> {
        let (networks, rate) = crossings::set_rate(request.into_inner())?;
        let rates = self.context.lightning()?.set_crossing_rate(networks, rate).await?;
        Ok(Response::new(crossings::rates(&rates)))
    }

    async fn list_rates(
        &self,
        _request: Request<leyden::ListCrossingRatesRequest>,
    ) -> Result<Response<leyden::CrossingRates>, Status> {
        Ok(Response::new(crossings::rates(&self.context.lightning()?.crossing_rates().await?)))
    }

    async fn cross(&self, request: Request<leyden::CrossRequest>) -> Result<Response<leyden::CrossingInfo>, Status> {
        let request = crossings::cross(request.into_inner())?;
        Ok(Response::new(crossings::info(&self.context.lightning()?.cross(request).await?)))
    }

    async fn look(
        &self,
        request: Request<leyden::LookAtCrossingRequest>,
    ) -> Result<Response<leyden::CrossingInfo>, Status> {
        let hash = edge::payment_hash("payment_hash", &request.into_inner().payment_hash)?;
        Ok(Response::new(crossings::info(&self.context.lightning()?.crossing(hash).await?)))
    }

    async fn list(
        &self,
        _request: Request<leyden::ListCrossingsRequest>,
    ) -> Result<Response<leyden::ListCrossingsResponse>, Status> {
        let all = self.context.lightning()?.crossings().await?;
        Ok(Response::new(leyden::ListCrossingsResponse { crossings: all.iter().map(crossings::info).collect() }))
    }
}

#[tonic::async_trait]
impl CrossingNode for CrossingService {
    async fn get_status(
        &self,
        _request: Request<leyden::CrossingStatusRequest>,
    ) -> Result<Response<leyden::CrossingStatus>, Status> {
        Ok(Response::new(crossings::status(&self.context.lightning()?.crossing_status().await?)))
    }

    async fn hold(
        &self,
        request: Request<leyden::HoldCrossingRequest>,
    ) -> Result<Response<leyden::HoldCrossingResponse>, Status> {
        let request = request.into_inner();
        let (book, order) = (crossings::book(&request.book)?, crossings::hold(&request)?);
        let payment_request = self.context.lightning()?.hold_crossing(book, order).await?;
        Ok(Response::new(leyden::HoldCrossingResponse { payment_request }))
    }

    async fn look_at_held(
        &self,
        request: Request<leyden::LookAtHeldRequest>,
    ) -> Result<Response<leyden::HeldCrossing>, Status> {
        let leyden::LookAtHeldRequest { payment_hash, book } = request.into_inner();
        let (book, hash) = (crossings::book(&book)?, edge::payment_hash("payment_hash", &payment_hash)?);
        Ok(Response::new(crossings::held(self.context.lightning()?.held_crossing(book, hash).await?)))
    }

    async fn settle(
        &self,
        request: Request<leyden::SettleCrossingRequest>,
    ) -> Result<Response<leyden::CrossingDone>, Status> {
        let leyden::SettleCrossingRequest { preimage, book } = request.into_inner();
        let preimage = PaymentPreimage(edge::bytes32("preimage", &preimage)?);
        self.context.lightning()?.settle_crossing(crossings::book(&book)?, preimage).await?;
        Ok(Response::new(leyden::CrossingDone {}))
    }

    async fn give_up(
        &self,
        request: Request<leyden::GiveUpCrossingRequest>,
    ) -> Result<Response<leyden::CrossingDone>, Status> {
        let leyden::GiveUpCrossingRequest { payment_hash, book } = request.into_inner();
        let hash = edge::payment_hash("payment_hash", &payment_hash)?;
        self.context.lightning()?.give_up_crossing(crossings::book(&book)?, hash).await?;
        Ok(Response::new(leyden::CrossingDone {}))
    }

    async fn pay(
        &self,
        request: Request<leyden::PayCrossingRequest>,
    ) -> Result<Response<leyden::CrossingDone>, Status> {
        let order = crossings::pay(request.into_inner())?;
        self.context.lightning()?.pay_crossing(order).await?;
        Ok(Response::new(leyden::CrossingDone {}))
    }

    async fn look_at_payment(
        &self,
        request: Request<leyden::LookAtCrossingPaymentRequest>,
    ) -> Result<Response<leyden::CrossingPayment>, Status> {
        let hash = edge::payment_hash("payment_hash", &request.into_inner().payment_hash)?;
        Ok(Response::new(crossings::payment(self.context.lightning()?.crossing_payment(hash).await?)))
    }
}
