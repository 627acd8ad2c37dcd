//! `leyden tower audit`: whether a tower has what it signed for.

use clap::Args;
use leyden_proto::leyden::{AuditRequest, ChannelAudit, TowerProof, channel_audit::Result as Found};

use super::super::{CliError, Context, channel::tree, format};

/// Have a watchtower read again what it signed for, and compare it with its receipts.
///
/// A tower that does not have it any more has signed two things that cannot both be true: both are shown, for anybody to check,
/// and the tower counts as none from then on. It is asked to show one backup too: one that it cannot show counts as all of the
/// channel's lost. A receipt binds until the block that it names, and a channel whose end is final needs no backups.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden tower audit 02ab                 the beginning of its key will do\n  \
    leyden tower audit 02ab 4a5e1e4b:0      one channel alone")]
pub(super) struct Audit {
    /// The tower's key, or the beginning of it
    #[arg(value_name = "TOWER")]
    tower: String,
    /// The channel point TXID:INDEX, or the beginning of it
    #[arg(value_name = "CHANNEL")]
    channel_point: Option<String>,
}

impl Audit {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client().await?;
        let pubkey = super::find(&client, &self.tower).await?;
        let channel_point = match &self.channel_point {
            Some(wanted) => tree::find(&client, wanted).await?,
            None => String::new(),
        };
        let waiting = context.waiting("the tower reads its backups again");
        let answer = client.towers().audit(AuditRequest { pubkey, channel_point }).await?.into_inner();
        waiting.finish_and_clear();
        context.show(&answer, || match answer.channels.is_empty() {
            true => "There is no channel to ask for.".to_owned(),
            false => answer.channels.iter().map(one).collect::<Vec<_>>().join("\n"),
        })?;
        verdict(answer.channels.iter().map(ChannelAudit::result))
    }
}

/// Whether the tower has shown all that was asked for.
fn verdict(results: impl Iterator<Item = Found>) -> Result<(), CliError> {
    let results: Vec<Found> = results.collect();
    let failed = |text: &str| Err(CliError::Failed(text.to_owned()));
    if results.contains(&Found::BrokeItsWord) {
        return failed("the tower broke its word: remove it, and use another one");
    }
    if results.contains(&Found::NotShown) {
        return failed("the tower cannot show what it signed for: use another one");
    }
    if results.contains(&Found::NotConnected) || results.contains(&Found::NoAnswer) {
        return failed("the tower has not answered, so nothing is shown: `leyden tower list` says why");
    }
    Ok(())
}

fn one(audit: &ChannelAudit) -> String {
    let point = format::short_point(&audit.channel_point);
    let said = match audit.result() {
        Found::Holds => format!(
            "it has every state from {} to {} that it signed for",
            audit.first.unwrap_or_default(),
            audit.up_to.unwrap_or_default()
        ),
        Found::BrokeItsWord => {
            let proof = audit.proof.as_ref().map(proof).unwrap_or_default();
            format!("IT BROKE ITS WORD: {}{proof}", audit.contradiction)
        }
        Found::ChannelClosed => format!(
            "the channel was closed by {} in block {}, and what the tower had was given back when that was final",
            audit.closed_by, audit.closed_height
        ),
        Found::NotShown => format!(
            "it signed for state {} AND CANNOT SHOW IT: use another tower. Nobody else can check this",
            audit.not_shown.unwrap_or_default()
        ),
        Found::TermOver => {
            "its term is over, so it need not have anything: it gets what is revoked from now on".to_owned()
        }
        Found::NoReceipt => "it has signed for nothing of this channel".to_owned(),
        Found::NotConnected => "it is not connected: `leyden tower list` shows why".to_owned(),
        Found::NoAnswer => "it did not answer".to_owned(),
    };
    format!("{point}: {said}")
}

fn proof(proof: &TowerProof) -> String {
    let receipt = proof.receipt.clone().unwrap_or_default();
    let later = match (proof.held_first, proof.held_up_to) {
        (Some(first), Some(up_to)) => format!("states {first} to {up_to}, digest {}", proof.held_digest),
        _ if !proof.closed_by.is_empty() => {
            format!("closed by {} in block {}, whose funding output is unspent", proof.closed_by, proof.closed_height)
        }
        _ => "nothing".to_owned(),
    };
    format!(
        "\n  signed by {} for client {}, channel tag {}\n  \
         first: states {} to {} until block {}, digest {}\n    signature {}\n  \
         then, at block {}, to nonce {}: {later}\n    signature {}",
        proof.receipt_key,
        proof.client,
        proof.tag,
        receipt.first,
        receipt.up_to,
        receipt.until_height,
        receipt.digest,
        receipt.signature,
        proof.at_height,
        proof.nonce,
        proof.held_signature
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_that_was_not_answered_fails() {
        assert!(verdict([Found::Holds, Found::NoReceipt].into_iter()).is_ok());
        for result in [Found::NotConnected, Found::NoAnswer, Found::NotShown, Found::BrokeItsWord] {
            let error = verdict([Found::Holds, result].into_iter()).unwrap_err();
            assert_eq!(error.exit_code(), 1, "{error}");
        }
    }
}
