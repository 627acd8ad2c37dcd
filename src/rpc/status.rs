//! From the domain's errors and streams to gRPC's.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Code, Response, Status, Streaming};

use super::words;
use crate::api::{ApiError, Updates};

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let code = match error {
            ApiError::InvalidArgument(_) => Code::InvalidArgument,
            ApiError::FailedPrecondition(_) => Code::FailedPrecondition,
            ApiError::NotFound(_) => Code::NotFound,
            ApiError::AlreadyExists(_) => Code::AlreadyExists,
            ApiError::Unavailable(_) => Code::Unavailable,
            // LND has it so.
            ApiError::NoRoute(_) => Code::Unknown,
            ApiError::Internal(_) => Code::Internal,
        };
        if code == Code::Internal {
            tracing::error!(%error, "an internal error failed a call");
        }
        words::status(code, bounded(error.to_string()))
    }
}

/// Bytes of an error's text, which goes in a header: gRPC's clients refuse headers above 16 kB in all, and its encoding may triple
/// each byte. What was asked may stand in it.
const MAX_TEXT: usize = 2_000;

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

/// A stream of answers, as tonic wants it.
pub(super) type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Each update as the message that `convert` makes of it; `None` leaves it out. The stream ends with UNAVAILABLE when
/// the daemon stops, so that no subscriber keeps it from stopping.
pub(super) fn replies<D, P, F>(updates: Updates<D>, stopping: &CancellationToken, convert: F) -> Response<Replies<P>>
where
    D: 'static,
    P: 'static,
    F: FnMut(D) -> Option<P> + Send + Unpin + 'static,
{
    let stopping = Box::pin(stopping.clone().cancelled_owned());
    Response::new(Box::pin(UntilStopped { updates, stopping, convert, ended: false }))
}

/// What a caller sends in a call of many requests, each as `convert` understands it; `None` leaves it out. It ends when the
/// caller hangs up, or with what `convert` cannot take.
pub(super) fn requests<P, D>(
    messages: Streaming<P>,
    mut convert: impl FnMut(P) -> Result<Option<D>, ApiError> + Send + 'static,
) -> Updates<D>
where
    P: Send + 'static,
    D: Send + 'static,
{
    // Why a caller has gone is nobody's business.
    let messages = messages.take_while(Result::is_ok).filter_map(Result::ok);
    Box::pin(messages.filter_map(move |message| convert(message).transpose()))
}

struct UntilStopped<D, F> {
    updates: Updates<D>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    convert: F,
    ended: bool,
}

impl<D, P, F: FnMut(D) -> Option<P> + Unpin> Stream for UntilStopped<D, F> {
    type Item = Result<P, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match self.updates.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(update))) => {
                    if let Some(message) = (self.convert)(update) {
                        return Poll::Ready(Some(Ok(message)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => break,
            }
        }
        if self.stopping.as_mut().poll(cx).is_ready() {
            self.ended = true;
            let text = "leydend is stopping; what has begun goes on when it is started again";
            return Poll::Ready(Some(Err(Status::unavailable(text))));
        }
        Poll::Pending
    }
}
