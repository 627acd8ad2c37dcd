//! `leyden chain connect`: meet another node of the chain.

use clap::Args;
use leyden_proto::leyden::ConnectChainPeerRequest;

use super::super::{CliError, Context};

/// Connect to another node of the chain, until leydend is stopped. `leydend --chain-connect` connects at each start.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  leyden chain connect 127.0.0.1:18445")]
pub(super) struct Connect {
    /// Its address, HOST:PORT
    #[arg(value_name = "HOST:PORT")]
    address: String,
}

impl Connect {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ConnectChainPeerRequest { address: self.address.clone() };
        let answer = context.client().await?.chain().connect_peer(request).await?.into_inner();
        context.show(&answer, || format!(
                "connected to {0}, until leydend stops. `leydend --chain-connect {0}`, or the same in leyden.toml, connects \
                 at each start",
                self.address
            ))
    }
}
