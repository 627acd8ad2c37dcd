//! How connections come about.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leyden_net::Direction;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::core::Input;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that lasted this long was a success: the next failure is a first one.
const LASTING: Duration = Duration::from_secs(30);

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// Accepts connections until it is told to stop, `places` of them at a time: who has to give way holds its place until it
/// is gone, so that a burst of newcomers takes no file descriptors that are not there.
pub(super) async fn listen(
    listener: TcpListener,
    input: mpsc::Sender<Input>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
) {
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = next => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => {
                let direction = Direction::Inbound;
                let new = Input::Connected { stream, address, direction, encrypts: true, place, ended: None };
                if input.send(new).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: others may close theirs.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Keeps up a connection to a configured peer until it is told to stop.
pub(super) async fn stay_connected(
    address: SocketAddr,
    backoff: Backoff,
    input: mpsc::Sender<Input>,
    stop: CancellationToken,
) {
    let mut pause = backoff.first;
    loop {
        let started = tokio::time::Instant::now();
        tokio::select! {
            () = connect_once(address, true, &input) => {}
            () = stop.cancelled() => return,
        }
        if started.elapsed() >= LASTING {
            pause = backoff.first;
        }
        // Two nodes that are configured with each other should not try in step for ever.
        let jittered = pause.mul_f64(rand::random_range(0.75..1.25));
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = stop.cancelled() => return,
        }
        pause = pause.saturating_mul(2).min(backoff.longest);
    }
}

/// Opens a connection, or gives up after a while.
pub(super) async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} seconds", CONNECT_TIMEOUT.as_secs());
        Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason))
    })
}

/// Connects and returns when the connection has ended or failed. `encrypts`: are encrypted packets tried first (BIP 324)?
pub(super) async fn connect_once(address: SocketAddr, encrypts: bool, input: &mpsc::Sender<Input>) {
    let reason = match connect(address).await {
        Ok(stream) => {
            let (ended, end) = oneshot::channel();
            let (direction, ended) = (Direction::Outbound, Some(ended));
            let new = Input::Connected { stream, address, direction, encrypts, place: None, ended };
            if input.send(new).await.is_ok() {
                // An error only says that the sender is gone, which is what is waited for.
                let _ = end.await;
            }
            return;
        }
        Err(error) => error.to_string(),
    };
    tracing::debug!(%address, %reason, "cannot connect");
    let _ = input.send(Input::Unreachable { address, reason }).await;
}
