//! `leyden lab …`: what the papers tell of, on real nodes and with the code that decides about blocks.

mod double_spend;
mod malleability;
mod script;
mod steps;

use clap::{Args, Subcommand};

use super::{CliError, Context};

/// Try what the papers tell of: transaction ids that somebody changes, scripts step by step, double spends.
#[derive(Debug, Args)]
pub struct Lab {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Malleability(malleability::Malleability),
    Script(script::Script),
    DoubleSpend(double_spend::DoubleSpend),
}

impl Lab {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.what {
            What::Malleability(lab) => lab.run(context).await,
            What::Script(lab) => lab.run(context).await,
            What::DoubleSpend(lab) => lab.run(context),
        }
    }
}
