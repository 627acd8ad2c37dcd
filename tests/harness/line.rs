//! A way to another node of the chain that can be cut and mended: what sits between is nothing but a relay of bytes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// Whoever connects to [`Line::address`] talks to the far end while the line is whole. Ends when it is dropped.
pub struct Line {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    relay: JoinHandle<()>,
}

impl Line {
    /// A whole line to `far`, given as host:port.
    pub async fn to(far: String) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (is_whole, whole) = watch::channel(true);
        let relay = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, far.clone(), whole.clone()));
            }
        });
        Ok(Self { address, is_whole, relay })
    }

    /// Where the near end connects to, as host:port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends all connections, and every new one at once.
    pub fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
        self.relay.abort();
    }
}

async fn pass(mut near: TcpStream, far: String, mut whole: watch::Receiver<bool>) {
    if *whole.borrow()
        && let Ok(mut far) = TcpStream::connect(far).await
    {
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            _ = whole.wait_for(|whole| !whole) => {}
        }
    }
}
