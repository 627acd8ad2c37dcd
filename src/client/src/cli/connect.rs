//! `leyden connect`: meet another node.

use clap::Args;
use leyden_proto::lnrpc::{ConnectPeerRequest, LightningAddress};

use super::{CliError, Context, amount};

/// Connect to another Lightning node.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden connect 02ab…@127.0.0.1:9736\n  \
    leyden connect 02ab…@node.example --perm      keep trying; port 9735 is meant")]
pub struct Connect {
    /// The node as KEY@HOST:PORT, as its `leyden getinfo` shows it
    #[arg(value_name = "KEY@HOST[:PORT]")]
    node: String,
    /// Answer at once, and keep trying in the background
    #[arg(long)]
    perm: bool,
    /// Seconds to try
    #[arg(long, default_value_t = 15, value_parser = amount::seconds)]
    timeout: u64,
}

impl Connect {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ConnectPeerRequest {
            addr: Some(address(&self.node, "leyden getinfo")?),
            perm: self.perm,
            timeout: self.timeout,
        };
        let client = context.client().await?;
        let waiting = context.waiting("connecting");
        let answer = client.lightning().connect_peer(request).await?.into_inner();
        waiting.finish_and_clear();
        context.show(&answer, || answer.status.clone())
    }
}

/// Splits KEY@HOST, which the command `shown_by` prints on the other machine.
pub(super) fn address(node: &str, shown_by: &str) -> Result<LightningAddress, CliError> {
    match node.trim().split_once('@') {
        Some((pubkey, host)) if !pubkey.is_empty() && !host.is_empty() => {
            Ok(LightningAddress { pubkey: pubkey.to_owned(), host: host.to_owned() })
        }
        _ => Err(CliError::Usage(format!("\"{node}\" is not KEY@HOST:PORT, as `{shown_by}` shows it there"))),
    }
}
