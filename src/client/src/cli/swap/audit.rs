//! `leyden swap audit` and `leyden swap extractsecret`: what bytes say, whoever made them.

use clap::Args;
use leyden_proto::leyden::{ExtractSecretRequest, SwapAuditRequest};

use super::super::{CliError, Context, amount, format, table};

/// What a contract says, and whether a transaction pays to it. Nothing but the bytes is believed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden swap audit 6382… 0200…     the contract's witness script and the transaction that locks, as hex\n\n\
    A swap that is followed here is audited by itself, with the depth of its lock.")]
pub(super) struct Audit {
    /// The contract's witness script
    contract: String,
    /// The transaction that is said to lock coins in it
    transaction: String,
}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = SwapAuditRequest {
            contract: super::bytes("a contract", &self.contract)?,
            transaction: super::bytes("a transaction", &self.transaction)?,
        };
        let audit = context.client().await?.swap().audit(request).await?.into_inner();
        context.show(&audit, || {
            let paid = if audit.paid {
                format!("{} in {}:{}", amount::sat(audit.amount), audit.txid, audit.output_index)
            } else {
                "no: this transaction does not pay to the contract".to_owned()
            };
            table::facts([
                ("secret's hash", hex::encode(&audit.hash)),
                ("redeem key", hex::encode(&audit.redeem_key)),
                ("refund key", hex::encode(&audit.refund_key)),
                (
                    "back after",
                    match audit.expiry_height {
                        0 => format::time(i64::try_from(audit.expiry).unwrap_or(i64::MAX)),
                        height => format!("block {height}"),
                    },
                ),
                ("locked", paid),
            ])
        })
    }
}

/// Find the secret in a transaction that redeems a contract.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  leyden swap extractsecret 0200… 9f3c…")]
pub(super) struct ExtractSecret {
    /// The transaction that redeems
    transaction: String,
    /// The secret's hash: the swap's id
    hash: String,
}

impl ExtractSecret {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let request = ExtractSecretRequest {
            transaction: super::bytes("a transaction", &self.transaction)?,
            hash: super::bytes("a hash", &self.hash)?,
        };
        let answer = context.client().await?.swap().extract_secret(request).await?.into_inner();
        context.show(&answer, || hex::encode(&answer.secret))
    }
}
