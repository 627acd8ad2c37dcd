//! What requests may make this node hold until they are answered, over gRPC and REST together.
//!
//! ```text
//!   call and token ─► how large, how slow ([`RequestLimit`]) ─► its first bytes: always ─► the rest: if there is room ([`RequestRoom`])
//!                                                                                              └── given back when it is answered
//! ```
//!
//! Promises: whoever shows no token fills a room that is small, and of its own; a small request needs none.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::{
    admission::CallerTrust,
    limits::{
        FREE_REQUEST, FREE_REQUEST_STREAM, MAX_LARGE_REQUEST, MAX_OPEN_REQUEST, MAX_REQUEST, OPEN_REQUEST_TIMEOUT,
        OPEN_REQUESTS_ROOM, REQUEST_TIMEOUT, REQUESTS_ROOM,
    },
};

/// Calls that carry transactions or backups of many channels.
const LARGE: &[&str] = &[
    "/lnrpc.Lightning/RestoreChannelBackups",
    "/lnrpc.Lightning/VerifyChanBackup",
    "/walletrpc.WalletKit/PublishTransaction",
    "/leyden.Chain/SubmitTransaction",
    "/leyden.Chain/VerifyInclusion",
    "/leyden.Swap/Audit",
    "/leyden.Swap/ExtractSecret",
    "/leyden.SwapChain/Broadcast",
];

/// Calls without a token that may carry the backups of all channels.
const WITH_BACKUPS: &[&str] = &["/lnrpc.WalletUnlocker/InitWallet", "/lnrpc.WalletUnlocker/UnlockWallet"];

/// What one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestLimit {
    /// Bytes, encoded.
    pub bytes: usize,
    /// Bytes that are always taken.
    free: usize,
    /// For the whole of it; `None`: it has no end, because the call takes many.
    pub patience: Option<Duration>,
    trust: CallerTrust,
}

impl RequestLimit {
    /// Of the call at `path`, of somebody of whom so much is known; `has_many`: the call takes a stream of requests.
    pub(crate) fn of(path: &str, trust: CallerTrust, has_many: bool) -> Self {
        let (bytes, patience) = match trust {
            // A stream of many: its sum is bounded by nothing, each message by the decoder.
            CallerTrust::Known if has_many => (usize::MAX, REQUEST_TIMEOUT),
            CallerTrust::Known if LARGE.contains(&path) => (MAX_LARGE_REQUEST, REQUEST_TIMEOUT),
            CallerTrust::Known => (MAX_REQUEST, REQUEST_TIMEOUT),
            _ if has_many => (FREE_REQUEST_STREAM, OPEN_REQUEST_TIMEOUT),
            _ if WITH_BACKUPS.contains(&path) => (MAX_REQUEST, OPEN_REQUEST_TIMEOUT),
            CallerTrust::Silent | CallerTrust::Caller => (MAX_OPEN_REQUEST, OPEN_REQUEST_TIMEOUT),
        };
        let free = if has_many { bytes } else { FREE_REQUEST };
        Self { bytes, free, patience: (!has_many).then_some(patience), trust }
    }

    /// The same request as JSON, which is longer, but never above `most`.
    pub(crate) fn as_json(self, most: usize) -> Self {
        Self { bytes: self.bytes.saturating_mul(2).min(most), ..self }
    }
}

/// The room for all requests that are being read and answered. Clones are the same room.
#[derive(Clone, Debug)]
pub(crate) struct RequestRoom {
    known: Arc<Semaphore>,
    others: Arc<Semaphore>,
}

impl RequestRoom {
    pub(crate) fn new() -> Self {
        let room = |bytes| Arc::new(Semaphore::new(bytes));
        Self { known: room(REQUESTS_ROOM), others: room(OPEN_REQUESTS_ROOM) }
    }

    /// For a request that is about to be read.
    pub(crate) fn begin(&self, limit: RequestLimit) -> HeldRequest {
        let room = if limit.trust == CallerTrust::Known { &self.known } else { &self.others };
        HeldRequest { room: Arc::clone(room), limit, bytes: 0, taken: None }
    }
}

/// Why no more of a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestRefused {
    /// It alone is too large.
    #[error("the request has more than {0} bytes, and no call of this kind needs so many")]
    TooLarge(usize),
    /// All together are.
    #[error("too many large requests are being read: try again in a moment")]
    NoRoom,
}

impl From<RequestRefused> for Status {
    fn from(refused: RequestRefused) -> Self {
        Self::resource_exhausted(refused.to_string())
    }
}

/// A request that is being read, and then answered until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldRequest {
    room: Arc<Semaphore>,
    limit: RequestLimit,
    bytes: usize,
    taken: Option<OwnedSemaphorePermit>,
}

impl HeldRequest {
    pub(crate) fn limit(&self) -> RequestLimit {
        self.limit
    }

    /// So many more bytes have come.
    pub(crate) fn grow(&mut self, more: usize) -> Result<(), RequestRefused> {
        let before = self.bytes.max(self.limit.free);
        self.bytes = self.bytes.saturating_add(more);
        if self.bytes > self.limit.bytes {
            return Err(RequestRefused::TooLarge(self.limit.bytes));
        }
        let needed = self.bytes.saturating_sub(before);
        if needed == 0 {
            return Ok(());
        }
        let needed = u32::try_from(needed).map_err(|_| RequestRefused::NoRoom)?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(needed).map_err(|_| RequestRefused::NoRoom)?;
        match &mut self.taken {
            Some(taken) => taken.merge(room),
            None => self.taken = Some(room),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INIT: &str = "/lnrpc.WalletUnlocker/InitWallet";

    fn without_token(path: &str) -> RequestLimit {
        RequestLimit::of(path, CallerTrust::Caller, false)
    }

    #[test]
    fn requests_without_a_token_are_small_and_together_leave_room_for_those_with_one() {
        let room = RequestRoom::new();
        assert_eq!(
            room.begin(without_token("/lnrpc.State/GetState")).grow(MAX_OPEN_REQUEST + 1),
            Err(RequestRefused::TooLarge(MAX_OPEN_REQUEST))
        );
        let mut many: Vec<_> = (0..100).map(|_| room.begin(without_token(INIT))).collect();
        let taken = many.iter_mut().filter_map(|one| one.grow(MAX_REQUEST).ok()).count();
        assert_eq!(taken, OPEN_REQUESTS_ROOM / (MAX_REQUEST - FREE_REQUEST));
        // A small one of somebody else is taken all the same, and so is a large one with a token.
        assert_eq!(room.begin(without_token(INIT)).grow(FREE_REQUEST), Ok(()));
        let known = RequestLimit::of("/lnrpc.Lightning/VerifyChanBackup", CallerTrust::Known, false);
        assert_eq!(room.begin(known).grow(MAX_LARGE_REQUEST), Ok(()));
        drop(many);
        assert_eq!(room.begin(without_token(INIT)).grow(MAX_REQUEST), Ok(()));
    }

    #[test]
    fn a_request_that_comes_in_pieces_counts_as_one() {
        let room = RequestRoom::new();
        let mut one = room.begin(without_token(INIT));
        let pieces = (0..).take_while(|_| one.grow(1_000).is_ok()).count();
        assert_eq!(pieces, MAX_REQUEST / 1_000);
        drop(one);
        assert_eq!(room.others.available_permits(), OPEN_REQUESTS_ROOM);
    }
}
