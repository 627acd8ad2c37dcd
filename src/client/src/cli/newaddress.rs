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
    /// Not made here, and known to say so
    #[value(hide = true)]
    Np2wkh,
}

impl Kind {
    fn address_type(self, unused: bool) -> Result<AddressType, CliError> {
        Ok(match (self, unused) {
            (Self::P2wkh, false) => AddressType::WitnessPubkeyHash,
            (Self::P2wkh, true) => AddressType::UnusedWitnessPubkeyHash,
            (Self::P2tr, false) => AddressType::TaprootPubkey,
            (Self::P2tr, true) => AddressType::UnusedTaprootPubkey,
            (Self::Np2wkh, _) => {
                let text = "this wallet makes no nested addresses (np2wkh): ask for p2wkh, which every wallet of today pays to";
                return Err(CliError::Usage(text.to_owned()));
            }
        })
    }
}

impl NewAddress {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let kind = self.kind.address_type(self.unused)?;
        let request = NewAddressRequest { r#type: kind.into(), account: self.account };
        let answer = context.client().await?.lightning().new_address(request).await?.into_inner();
        context.show(&answer, || answer.address.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_a_nested_address_is_told_what_to_ask_for() {
        let kind = Kind::from_str("np2wkh", false).unwrap();
        for unused in [false, true] {
            assert!(kind.address_type(unused).unwrap_err().to_string().contains("ask for p2wkh"));
        }
    }
}
