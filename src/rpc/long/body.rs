//! The pieces as a gRPC body.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use tokio::task::{JoinHandle, spawn_blocking};
use tonic::{Status, codegen::http::HeaderMap};

use super::{PIECE, Pieces};

/// gRPC over HTTP2, Length-Prefixed-Message: not compressed, and how long it is.
pub(super) fn head(length: usize) -> Result<[u8; 5], Status> {
    let length = u32::try_from(length).map_err(|_| Status::out_of_range("the message is too long"))?;
    let [a, b, c, d] = length.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// A piece, and what comes after it.
type Made = (Bytes, Option<Box<dyn Pieces>>);

enum Next {
    Ready(Made),
    Making(JoinHandle<Made>),
    Status,
    Nothing,
}

/// A message of a known length, and the status that ends a call that went well.
pub(super) struct PieceBody {
    next: Next,
    /// Bytes of the message and its head that have not been given yet.
    left: usize,
}

impl PieceBody {
    /// `length`: without the head, with which the first piece begins.
    pub(super) fn new(length: usize, first: Bytes, rest: Option<Box<dyn Pieces>>) -> Self {
        Self { next: Next::Ready((first, rest)), left: HEAD + length }
    }

    fn give(&mut self, (piece, rest): Made) -> Result<Frame<Bytes>, Status> {
        // A length that was wrong would make the client read something else than what was meant.
        let left = self.left.checked_sub(piece.len()).filter(|left| rest.is_some() || *left == 0);
        let Some(left) = left else {
            self.next = Next::Nothing;
            return Err(Status::internal("an answer is not as long as was said"));
        };
        self.left = left;
        self.next = match rest {
            Some(pieces) => Next::Making(spawn_blocking(move || make(pieces))),
            None => Next::Status,
        };
        Ok(Frame::data(piece))
    }
}

const HEAD: usize = 5;

fn make(mut pieces: Box<dyn Pieces>) -> Made {
    let mut bytes = Vec::with_capacity(PIECE + PIECE / 2);
    let more = pieces.append(&mut bytes, PIECE);
    (bytes.into(), more.then_some(pieces))
}

impl HttpBody for PieceBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Ready(made) => Poll::Ready(Some(self.give(made))),
            Next::Making(mut making) => {
                let Poll::Ready(made) = Pin::new(&mut making).poll(cx) else {
                    self.next = Next::Making(making);
                    return Poll::Pending;
                };
                let given = made.map_err(|error| Status::internal(error.to_string())).and_then(|made| self.give(made));
                Poll::Ready(Some(given))
            }
            Next::Status => {
                let mut trailers = HeaderMap::new();
                let written = Status::ok("").add_header(&mut trailers);
                Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
            }
            Next::Nothing => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// The numbers up to `last`, a byte each, of which `claimed` are said to come.
    struct Numbers {
        next: u8,
        last: u8,
        claimed: usize,
    }

    impl Pieces for Numbers {
        fn length(&self) -> usize {
            self.claimed
        }

        fn append(&mut self, bytes: &mut Vec<u8>, _: usize) -> bool {
            bytes.push(self.next);
            self.next += 1;
            self.next <= self.last
        }
    }

    async fn read(mut pieces: Numbers) -> (Vec<u8>, Result<i32, Status>) {
        let mut first = head(pieces.length()).unwrap().to_vec();
        let length = pieces.length();
        let more = pieces.append(&mut first, 1);
        let mut body = PieceBody::new(length, first.into(), more.then(|| Box::new(pieces) as Box<dyn Pieces>));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => read.extend_from_slice(&data),
                Ok(Err(other)) => {
                    let trailers = other.into_trailers().unwrap();
                    return (read, Ok(trailers["grpc-status"].to_str().unwrap().parse().unwrap()));
                }
                Err(status) => return (read, Err(status)),
            }
        }
        panic!("a body without a status");
    }

    #[tokio::test]
    async fn pieces_come_one_after_another_and_a_status_ends_them() {
        let (read, status) = read(Numbers { next: 1, last: 4, claimed: 4 }).await;
        assert_eq!(read, [0, 0, 0, 0, 4, 1, 2, 3, 4]);
        assert_eq!(status.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_is_not_as_long_as_was_said_never_ends_well() {
        for claimed in [3, 5] {
            let (read, status) = read(Numbers { next: 1, last: 4, claimed }).await;
            assert!(read.len() <= HEAD + claimed, "{read:?}");
            assert!(status.unwrap_err().message().contains("not as long"));
        }
    }
}
