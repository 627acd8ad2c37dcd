//! `leyden newaddress`: an address to be paid at.

use clap::{Args, ValueEnum};
use leyden_proto::lnrpc::{AddressType, NewAddressRequest};

use super::{CliError, Context};

/// Show a new on-chain address of the wallet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden newaddress\n  \
    leyden newaddress --unused          the latest one again, while nobody has paid it")]
pub struct NewAddress {
    /// The kind of address
    #[arg(value_enum, default_value = "p2wkh")]
    kind: Kind,
    /// Show the latest unused address instead of a new one
    #[arg(long)]
    unused: bool,
    /// The only account is the default one
    #[arg(long, default_value = "", hide = true)]
    account: String,
}

/// Named as lncli names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// P2WPKH (segregated witness)
    P2wkh,
    /// P2TR (taproot)
    P2tr,
}

impl NewAddress {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let kind = match (self.kind, self.unused) {
            (Kind::P2wkh, false) => AddressType::WitnessPubkeyHash,
            (Kind::P2wkh, true) => AddressType::UnusedWitnessPubkeyHash,
            (Kind::P2tr, false) => AddressType::TaprootPubkey,
            (Kind::P2tr, true) => AddressType::UnusedTaprootPubkey,
        };
        let request = NewAddressRequest { r#type: kind.into(), account: self.account };
        let answer = context.client().await?.lightning().new_address(request).await?.into_inner();
        context.show(&answer, || answer.address.clone())
    }
}
