//! `leyden newaddress`: an address to be paid at.

use clap::{Args, ValueEnum};
use leyden_proto::lnrpc::{AddressType, NewAddressRequest};

use super::{CliError, Context};

/// Give an address of the wallet to be paid at on the chain.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden newaddress\n  \
    leyden newaddress --unused          the latest one again, while nobody has paid it")]
pub struct NewAddress {
    /// The kind of address
    #[arg(value_enum, default_value = "p2wkh")]
    kind: Kind,
    /// The latest address that nobody has paid, instead of a fresh one
    #[arg(long)]
    unused: bool,
}

/// Named as lncli names them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Segregated witness
    P2wkh,
    /// Taproot
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
        let request = NewAddressRequest { r#type: kind.into(), account: String::new() };
        let answer = context.client().await?.lightning().new_address(request).await?.into_inner();
        context.show(&answer, || answer.address.clone())
    }
}
