//! `leyden doctor`: looks at everything that goes wrong with nodes, and says what to do.
//!
//! ```text
//!   the node, its files, its disk, this machine's clock ──examine──► Examined ──diagnose──► findings ──► a table
//! ```
//!
//! `diagnose` is pure: what it makes of a broken set-up is held by tests. What cannot be looked at is said, not passed over.

mod diagnose;
mod examine;

use clap::Args;
use serde_json::json;

use self::diagnose::{Finding, Level, diagnose};
use super::{CliError, Context, table};

/// Look at disk, clock, ports, chain, backups, watchtowers, fees and stuck payments, and say what to do.
#[derive(Debug, Args)]
#[command(
    after_help = "It changes nothing, and ends with 1 if something is wrong that may cost money or keeps the node from working."
)]
pub struct Doctor {}

impl Doctor {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let findings = diagnose(&examine::examine(context).await?);
        let troubles = findings.iter().filter(|one| one.level == Level::Trouble).count();
        let value = json!({ "findings": findings.iter().map(as_json).collect::<Vec<_>>(), "troubles": troubles });
        context.show_value(&value, || for_people(&findings))?;
        match troubles {
            0 => Ok(()),
            1 => Err(CliError::Failed("one thing is wrong: see above".to_owned())),
            many => Err(CliError::Failed(format!("{many} things are wrong: see above"))),
        }
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({ "level": finding.level.word(), "about": finding.about, "says": finding.says, "advice": finding.advice })
}

fn for_people(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|one| {
        let says = if one.advice.is_empty() { one.says.clone() } else { format!("{}. {}", one.says, one.advice) };
        [one.level.mark().to_owned(), one.about.to_owned(), says]
    });
    table::list(["", "about", "finding"], rows.collect(), "")
}
