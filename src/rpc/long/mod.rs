//! Long answers, sent while they are encoded.
//!
//! ```text
//!   a call ──► Pieces ──► how long is the whole? ─► head and first piece ─► … ─► last piece ─► status
//!                         └─ threads that may take their time, one piece at a time ─┘
//! ```
//!
//! An answer of many megabytes that is built, then encoded, then sent has its first byte late, holds all of itself twice, and
//! keeps a worker of the runtime from other calls. So a call that can have such an answer says only what is in it ([`Pieces`]).
//! A piece is encoded when the one before it is sent: of an answer that nobody reads, two are there.
//!
//! The service's own reply stays empty; [`LongAnswers`], around the service, puts the pieces in its place.

mod body;
pub(super) mod wire;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::body::Bytes;
use tonic::{
    Response, Status,
    body::Body,
    codegen::{
        BoxFuture, Service,
        http::{self, Request},
    },
    server::NamedService,
};

use self::body::PieceBody;
use super::{MAX_MESSAGE, assemble};

/// About as many bytes are encoded at a time.
const PIECE: usize = 128 << 10;

/// A message in pieces.
pub(crate) trait Pieces: Send + 'static {
    /// Of all pieces together.
    fn length(&self) -> usize;

    /// Encodes what comes next, until there are as many bytes as `enough`; whether more comes.
    fn append(&mut self, bytes: &mut Vec<u8>, enough: usize) -> bool;
}

/// What a reply carries in place of its message.
#[derive(Clone)]
struct LongAnswer(Arc<Mutex<Option<PieceBody>>>);

impl fmt::Debug for LongAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LongAnswer")
    }
}

/// The reply whose message is these pieces, for a service that stands in [`LongAnswers`].
pub(super) async fn reply<T: Default>(mut pieces: impl Pieces) -> Result<Response<T>, Status> {
    let begin = move || {
        let length = pieces.length();
        if length > MAX_MESSAGE {
            // As tonic says it.
            return Err(Status::out_of_range(format!(
                "Error, encoded message length too large: found {length} bytes, the limit is: {MAX_MESSAGE} bytes"
            )));
        }
        let mut first = Vec::with_capacity(length.min(PIECE + PIECE / 2));
        first.extend_from_slice(&body::head(length)?);
        let more = pieces.append(&mut first, PIECE);
        Ok((length, Bytes::from(first), more.then(|| Box::new(pieces) as Box<dyn Pieces>)))
    };
    let (length, first, rest) = assemble(begin).await??;
    let body = PieceBody::new(length, first, rest);
    let mut response = Response::new(T::default());
    response.extensions_mut().insert(LongAnswer(Arc::new(Mutex::new(Some(body)))));
    Ok(response)
}

/// A service some of whose replies are long.
#[derive(Clone, Debug)]
pub(super) struct LongAnswers<S>(pub S);

impl<S: NamedService> NamedService for LongAnswers<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for LongAnswers<S>
where
    S: Service<Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answered = self.0.call(request);
        Box::pin(async move {
            let mut response = answered.await?;
            if let Some(LongAnswer(held)) = response.extensions_mut().remove::<LongAnswer>() {
                let body = held.lock().unwrap_or_else(PoisonError::into_inner).take();
                *response.body_mut() = body.map_or_else(Body::empty, Body::new);
            }
            Ok(response)
        })
    }
}
