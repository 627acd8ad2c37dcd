//! A caller of Bitcoin Core's JSON-RPC, as a script would be one.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use leyden_client::cluster::DaemonProcess;
use leyden_common::layout::Layout;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::running;

/// The interface of one daemon, which was started with it.
#[derive(Clone)]
pub struct BitcoinRpc {
    address: SocketAddr,
    cookie: String,
}

impl BitcoinRpc {
    pub fn of(node: &DaemonProcess) -> Self {
        let cookie = Layout::new(node.data_dir().to_owned(), "regtest").bitcoin_rpc_cookie();
        let cookie = BASE64_STANDARD.encode(std::fs::read(cookie).unwrap());
        Self { address: running(node).bitcoin_rpc.unwrap(), cookie }
    }

    /// The result of a call.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let length = body.len();
        let cookie = &self.cookie;
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {cookie}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let (_, body) = self.exchange(&request).await;
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The status and the body of a page.
    pub async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    async fn exchange(&self, request: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        (status, answer.split_off(end + 4))
    }
}
