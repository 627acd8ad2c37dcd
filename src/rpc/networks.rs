//! Which of the daemon's networks a call is for: the metadata `network` says it, and without it the first is meant.
//!
//! ```text
//!   auth ─► network? ─┬─ none, or the first's name ─► services of the first
//!                     ├─ the second's name ─────────► services of the second
//!                     └─ any other ─────────────────► refused, with the names that there are
//! ```
//!
//! One macaroon opens all networks of a process: who may pay on one may pay on the other.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use leyden_common::names::NETWORK;
use tonic::{
    Status,
    body::Body,
    codegen::{
        BoxFuture, Service,
        http::{HeaderMap, Request, Response},
    },
    service::Routes,
};

/// The services of each network, the first one's first.
#[derive(Clone)]
pub(super) struct ByNetwork {
    networks: Vec<(Arc<str>, Routes)>,
}

impl ByNetwork {
    pub(super) fn new(networks: Vec<(String, Routes)>) -> Self {
        Self { networks: networks.into_iter().map(|(name, routes)| (name.into(), routes)).collect() }
    }

    /// As one set of services.
    pub(super) fn into_routes(self) -> Routes {
        Routes::from(axum::Router::new().fallback_service(self))
    }

    /// The place of the network that a call is for.
    fn place(&self, headers: &HeaderMap) -> Result<usize, Status> {
        let mut named = headers.get_all(NETWORK).iter();
        let Some(name) = named.next() else { return Ok(0) };
        let found = self.networks.iter().position(|(held, _)| held.as_bytes() == name.as_bytes());
        match (found, named.next()) {
            (Some(place), None) => Ok(place),
            (None, None) => {
                let held: Vec<&str> = self.networks.iter().map(|(held, _)| held.as_ref()).collect();
                let name = String::from_utf8_lossy(name.as_bytes()).chars().take(MAX_SHOWN).collect::<String>();
                let text = format!("network: this daemon is not on {name:?}, but on {}", held.join(" and "));
                Err(Status::invalid_argument(text))
            }
            (_, Some(_)) => {
                Err(Status::invalid_argument("network: a call is for one network, and this one names more"))
            }
        }
    }
}

/// Characters of a wrong name that are said back.
const MAX_SHOWN: usize = 40;

impl Service<Request<axum::body::Body>> for ByNetwork {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        let place = self.place(request.headers());
        match place.map(|place| self.networks.get_mut(place)) {
            Ok(Some((_, routes))) => Box::pin(routes.call(request.map(Body::new))),
            Ok(None) => Box::pin(async { Ok(Status::internal("there is no network").into_http()) }),
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(names: &[&str]) -> HeaderMap {
        names.iter().map(|name| (NETWORK.parse().unwrap(), name.parse().unwrap())).fold(
            HeaderMap::new(),
            |mut headers, (key, value): (tonic::codegen::http::HeaderName, _)| {
                headers.append(key, value);
                headers
            },
        )
    }

    #[test]
    fn a_call_is_for_the_first_network_unless_it_names_another_that_is_held() {
        let routes = || Routes::builder().routes();
        let networks = ByNetwork::new(vec![("north".to_owned(), routes()), ("south".to_owned(), routes())]);
        let place = |names: &[&str]| networks.place(&headers(names)).map_err(|status| status.message().to_owned());
        assert_eq!(place(&[]), Ok(0));
        assert_eq!(place(&["north"]), Ok(0));
        assert_eq!(place(&["south"]), Ok(1));
        let unknown = place(&["east"]).unwrap_err();
        assert!(unknown.contains("\"east\"") && unknown.contains("north and south"), "{unknown}");
        assert!(place(&["south", "north"]).is_err() && place(&[""]).is_err());
        assert!(place(&[&"x".repeat(10_000)]).unwrap_err().len() < 200, "what is said back is short");
    }
}
