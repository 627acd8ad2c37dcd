//! A connection of a stranger, who keeps to the transport and to nothing else.

use std::{net::SocketAddr, time::Duration};

use leyden_channels::{
    transport::{ACT_TWO_LEN, AwaitingActTwo, ReceiveBuffer, Session},
    wire::Message,
};
use secp256k1::{PublicKey, SecretKey};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// How long a stranger waits for the other side.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Connection {
    stream: TcpStream,
    session: Session,
    buffer: ReceiveBuffer,
}

impl Connection {
    /// Connects and answers the other side's `init` with the same. `None` if it does not want us.
    pub(super) async fn open(address: SocketAddr, node: PublicKey, key: SecretKey) -> Option<Self> {
        timeout(PATIENCE, Self::greet(address, node, key)).await.ok().flatten()
    }

    async fn greet(address: SocketAddr, node: PublicKey, key: SecretKey) -> Option<Self> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let (handshake, act_one) = AwaitingActTwo::start(key, node, super::random_key());
        stream.write_all(&act_one).await.ok()?;
        let mut act_two = [0; ACT_TWO_LEN];
        stream.read_exact(&mut act_two).await.ok()?;
        let (session, act_three) = handshake.act_two(&act_two).ok()?;
        stream.write_all(&act_three).await.ok()?;
        let mut connection = Self { stream, session, buffer: ReceiveBuffer::new() };
        let init = connection.receive(PATIENCE).await?;
        connection.send_bytes(&init).await?;
        Some(connection)
    }

    /// Bytes that were sent; `None` once the other side has hung up, or has not read for long.
    pub(super) async fn send(&mut self, message: &Message) -> Option<usize> {
        self.send_bytes(&message.encode().ok()?).await
    }

    async fn send_bytes(&mut self, message: &[u8]) -> Option<usize> {
        let mut frame = Vec::new();
        self.session.encryptor.encrypt(message, &mut frame).ok()?;
        timeout(PATIENCE, self.stream.write_all(&frame)).await.ok()?.ok()?;
        Some(frame.len())
    }

    /// The next message that comes within this time.
    pub(super) async fn receive(&mut self, within: Duration) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.session.decryptor.decrypt(&mut self.buffer).ok()? {
                return Some(message.to_vec());
            }
            match timeout(within, self.stream.read_buf(self.buffer.tail())).await {
                Ok(Ok(count)) if count > 0 => {}
                _ => return None,
            }
        }
    }
}
