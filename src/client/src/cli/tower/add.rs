//! `leyden tower add`: one more tower.

use clap::Args;
use leyden_proto::leyden::AddTowerRequest;

use super::super::{CliError, Context, connect};

/// Add a watchtower, or give one that is there another address.
///
/// Its owner reads KEY@HOST:PORT from `leyden tower info`. The tower is used from now on; `leyden tower list` shows whether it
/// can be reached, and `leyden tower coverage` what it covers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower add 02ab…@tower.example          port 9911 is meant\n  \
    leyden tower add --own 02ab…@10.0.0.2:9911\n\n\
    Without --own the tower may be a stranger's: it gets claims that are signed already and pay your wallet alone, sealed \
    so that it can read them only when it sees the breach. With --own it gets the channels' revocation secrets, and covers \
    all outputs and second stages: whoever has that tower can keep what it takes. Use --own for a machine of yours alone.")]
pub(super) struct Add {
    /// The tower as KEY@HOST:PORT
    #[arg(value_name = "KEY@HOST[:PORT]")]
    tower: String,
    /// The tower is yours: give it what it needs to take every output
    #[arg(long)]
    own: bool,
}

impl Add {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let address = connect::address(&self.tower)?;
        let request = AddTowerRequest { pubkey: address.pubkey, address: address.host, own: self.own };
        let answer = context.client().await?.towers().add_tower(request).await?.into_inner();
        let own = self.own;
        context.show(&answer, || {
            let allow = match own {
                true => format!(
                    "\nIt knows this node as {0}: start it with `leydend --tower --tower-allow {0}`.",
                    answer.client_pubkey
                ),
                false => String::new(),
            };
            format!(
                "The tower is added. `leyden tower list` shows whether it is reached, and `leyden tower coverage` what it \
                 covers.{allow}"
            )
        })
    }
}
