//! Connections of gRPC, JSON-RPC and metrics, each watched from its first byte on.
//!
//! ```text
//!   listener ──► a free slot ──► TLS, a request ──► its sender is known: it may stay
//!                    │                       └── not within 10 s, or another one needs the place ──► closed
//!                    ├── takes nothing for 30 s while there is something for it ──► closed
//!                    └── its other end does not even answer TCP for a minute ──► closed
//! ```

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, Sleep, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::{debug, warn};

use crate::{
    admission::{CallerTrust, ConnectionSlot, ConnectionSlots, TokenHolder},
    limits::{CALLER_TIMEOUT, CALLER_WRITE_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_PATIENCE, MAX_OPEN_CALLS},
};

/// How long the system is left alone that accepts no connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end, for whoever answers the requests. Clones are the same caller.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    place: ConnectionSlot,
    /// It has called something that it may.
    has_spoken: AtomicBool,
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// Those of them without a token.
    open: AtomicUsize,
}

/// A request is being answered until this is dropped.
pub(crate) struct Busy(Caller);

/// A call without a token is being answered until this is dropped.
pub(crate) struct OpenCall(Caller);

impl Caller {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// More is known of it now; `false` if there is no room for so many.
    pub(crate) fn rise(&self, trust: CallerTrust) -> bool {
        self.rise_as(trust, None)
    }

    /// The same, by a token.
    pub(crate) fn rise_as(&self, trust: CallerTrust, holder: Option<TokenHolder>) -> bool {
        let risen = self.state.place.rise_as(trust, holder);
        if risen {
            self.state.has_spoken.store(true, Ordering::Relaxed);
        }
        risen
    }

    pub(crate) fn busy(&self) -> Busy {
        self.state.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }
}

impl Caller {
    /// One more call without a token; `None` if there are too many on this connection.
    pub(crate) fn open_call(&self) -> Option<OpenCall> {
        let one = OpenCall(self.clone());
        (self.state.open.fetch_add(1, Ordering::Relaxed) < MAX_OPEN_CALLS).then_some(one)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.state.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.state.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts connections while there are slots.
pub(crate) struct CallerListener {
    listener: TcpListener,
    slots: ConnectionSlots,
    /// How long a connection may rest between two requests, where the protocol does not look after that itself.
    idle: Option<Duration>,
}

impl CallerListener {
    pub(crate) fn new(listener: TcpListener, slots: ConnectionSlots, idle: Option<Duration>) -> Self {
        Self { listener, slots, idle }
    }

    pub(crate) async fn next(&self) -> CallerStream {
        loop {
            self.slots.settle().await;
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Without it answers are only slower.
                    let _ = stream.set_nodelay(true);
                    if let Err(error) = watch(&stream) {
                        debug!(%error, "a caller that vanishes will not be noticed");
                    }
                    return CallerStream::new(stream, address, self.slots.enter(address.ip(), false), self.idle);
                }
                Err(error) => {
                    warn!(%error, "a caller's connection could not be accepted");
                    self.slots.give_way();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// All connections, until nobody wants them any more.
    pub(crate) fn into_stream(self) -> ReceiverStream<io::Result<CallerStream>> {
        let (send, streams) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    stream = self.next() => stream,
                    () = send.closed() => return,
                };
                if send.send(Ok(stream)).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(streams)
    }
}

/// Has the system find out whether the other end is still there: a machine that lost its line says nothing, and neither does a
/// stream without news.
fn watch(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(KEEPALIVE_PATIENCE))?;
    Ok(())
}

/// One connection.
pub(crate) struct CallerStream {
    stream: TcpStream,
    caller: Caller,
    leave: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until when it has to have called something.
    silent_until: Pin<Box<Sleep>>,
    /// Until when it has to take something.
    stalled_until: Option<Pin<Box<Sleep>>>,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl CallerStream {
    fn new(stream: TcpStream, address: SocketAddr, place: ConnectionSlot, idle: Option<Duration>) -> Self {
        let leave = Box::pin(place.leave().clone().cancelled_owned());
        let state =
            State { place, has_spoken: AtomicBool::new(false), busy: AtomicUsize::new(0), open: AtomicUsize::new(0) };
        Self {
            stream,
            caller: Caller { address, state: Arc::new(state) },
            leave,
            silent_until: Box::pin(sleep(CALLER_TIMEOUT)),
            stalled_until: None,
            idle: idle.map(|idle| (idle, Box::pin(sleep(idle)))),
        }
    }

    /// Who is at the other end.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether it may go on.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.leave.as_mut().poll(context).is_ready() {
            return self.end("another caller needs the place");
        }
        let has_spoken = self.caller.state.has_spoken.load(Ordering::Relaxed);
        if !has_spoken && self.silent_until.as_mut().poll(context).is_ready() {
            return self.end("no request came in time");
        }
        Ok(())
    }

    fn end(&self, why: &'static str) -> io::Result<()> {
        debug!(address = %self.caller.address, why, "a caller is hung up on");
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    /// After a read that brought nothing.
    fn check_idle(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let State { has_spoken, busy, .. } = self.caller.state.as_ref();
        let rests = has_spoken.load(Ordering::Relaxed) && busy.load(Ordering::Relaxed) == 0;
        let over = self.idle.as_mut().is_some_and(|(_, until)| rests && until.as_mut().poll(context).is_ready());
        if over { self.end("no further request came") } else { Ok(()) }
    }

    fn moved(&mut self) {
        if let Some((idle, until)) = &mut self.idle {
            until.as_mut().reset(Instant::now() + *idle);
        }
    }

    fn written(&mut self, context: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.stalled_until = None;
            self.moved();
            return result;
        }
        let until = self.stalled_until.get_or_insert_with(|| Box::pin(sleep(CALLER_WRITE_TIMEOUT)));
        if until.as_mut().poll(context).is_ready() {
            self.end("it does not read what it is sent")?;
        }
        Poll::Pending
    }
}

impl AsyncRead for CallerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if result.is_ready() {
            self.moved();
        } else {
            self.check_idle(context)?;
        }
        result
    }
}

impl AsyncWrite for CallerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl tonic::transport::server::Connected for CallerStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl axum::serve::Listener for CallerListener {
    type Io = CallerStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (CallerStream, SocketAddr) {
        let stream = self.next().await;
        let address = stream.caller.address;
        (stream, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, CallerListener>> for Caller {
    fn connect_info(stream: axum::serve::IncomingStream<'_, CallerListener>) -> Self {
        stream.io().caller.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SlotLimits;

    async fn connected() -> (TcpStream, CallerStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let callers = CallerListener::new(listener, ConnectionSlots::new(SlotLimits { strangers: 4, known: 4 }), None);
        let (client, stream) = tokio::join!(TcpStream::connect(address), callers.next());
        (client.unwrap(), stream)
    }

    #[tokio::test]
    async fn whoever_vanishes_without_a_word_is_noticed_by_the_system() {
        let (_client, stream) = connected().await;
        let socket = SockRef::from(&stream.stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_INTERVAL);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(KEEPALIVE_PATIENCE));
    }

    #[tokio::test]
    async fn calls_without_a_token_are_few_on_one_connection() {
        let (_client, stream) = connected().await;
        let calls: Vec<_> = (0..MAX_OPEN_CALLS).map(|_| stream.caller().open_call().unwrap()).collect();
        assert!(stream.caller().open_call().is_none());
        drop(calls);
        assert!(stream.caller().open_call().is_some());
    }
}
