//! `leyden bench`: how fast this machine pays, answers, finds routes, mines and validates, and what strangers, watchtowers and a long life cost it.

mod api;
mod chain;
mod growth;
mod mine;
mod payments;
mod route;
mod strangers;
mod tower;
mod work;

use clap::{Args, Subcommand};

use super::{CliError, Context};

/// Measure how fast this machine is.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Payments(payments::Payments),
    Api(api::Api),
    Chain(chain::Chain),
    Growth(growth::Growth),
    Route(route::Route),
    Mine(mine::Mine),
    Strangers(strangers::Strangers),
    Tower(tower::Tower),
}

impl Bench {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.what {
            What::Payments(bench) => bench.run(context).await,
            What::Api(bench) => bench.run(context).await,
            What::Chain(bench) => bench.run(context),
            What::Growth(bench) => bench.run(context).await,
            What::Route(bench) => bench.run(context),
            What::Mine(bench) => bench.run(context),
            What::Strangers(bench) => bench.run(context).await,
            What::Tower(bench) => bench.run(context),
        }
    }
}
