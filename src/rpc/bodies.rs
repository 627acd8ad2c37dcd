//! The bodies of requests and answers on their way through [`super::auth`]: what is read is bounded in size and time, and what is
//! streamed ends with the token that it was asked for with.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use leyden_node::Clock;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, body::Body, codegen::http::HeaderMap};

use crate::{
    callers::OpenCall,
    macaroon::{MacaroonError, TokenTerm},
    request_room::HeldRequest,
};

/// A request that is held as long as any of these is there.
pub(super) type SharedRequest = Arc<Mutex<HeldRequest>>;

/// A request, as its bytes come.
pub(super) struct RequestBody {
    body: Body,
    held: SharedRequest,
    until: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub(super) fn new(body: Body, held: SharedRequest) -> Self {
        let patience = held.lock().unwrap_or_else(PoisonError::into_inner).limit().patience;
        Self { body, held, until: patience.map(|patience| Box::pin(sleep(patience))) }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                let grown = self.held.lock().unwrap_or_else(PoisonError::into_inner).grow(length);
                Poll::Ready(Some(grown.map(|()| frame).map_err(Status::from)))
            }
            Poll::Pending if self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready()) => {
                Poll::Ready(Some(Err(Status::deadline_exceeded("the request did not come to its end in time"))))
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Until when a stream may go on.
struct End {
    term: TokenTerm,
    timer: Pin<Box<Sleep>>,
    key_deleted: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// The clock may be set; so often it is looked at.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

impl End {
    fn new(term: TokenTerm) -> Self {
        let key_deleted = Box::pin(term.key_deleted.clone().cancelled_owned());
        Self { term, timer: Box::pin(sleep(Duration::ZERO)), key_deleted }
    }

    /// Why the stream has to end now, if it has to.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<MacaroonError> {
        if self.key_deleted.as_mut().poll(cx).is_ready() {
            return Some(MacaroonError::UnknownKey);
        }
        let until = self.term.until?;
        while self.timer.as_mut().poll(cx).is_ready() {
            let left = until.checked_sub(Clock::System.now()).filter(|left| *left > 0);
            let Some(left) = left else { return Some(MacaroonError::Expired) };
            self.timer.as_mut().reset(Instant::now() + Duration::from_secs(left).min(LOOK_AT_CLOCK));
        }
        None
    }
}

/// An answer, as its bytes go.
pub(super) struct AnswerBody {
    body: Body,
    end: Option<End>,
    has_ended: bool,
    /// Counted until the answer is gone.
    _open: Option<OpenCall>,
}

impl AnswerBody {
    /// `term`: of the token that a stream was asked for with.
    pub(super) fn new(body: Body, term: Option<TokenTerm>, open: Option<OpenCall>) -> Self {
        Self { body, end: term.map(End::new), has_ended: false, _open: open }
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if let Some(error) = self.end.as_mut().and_then(|end| end.poll(cx)) {
            self.has_ended = true;
            // What is asked for goes with the stream.
            self.body = Body::empty();
            let mut trailers = HeaderMap::new();
            let written = super::auth::refused(error).add_header(&mut trailers);
            return Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.end.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}
