//! `leyden openchannel --psbt`: another wallet pays for the channel.
//!
//! ```text
//!   address, amount, PSBT ──► the other wallet adds its coins ──► verified ──► it signs ──► the channel is funded
//! ```

use std::{io, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use leyden_proto::lnrpc::{
    FundingPsbtFinalize, FundingPsbtVerify, FundingShim, FundingShimCancel, FundingTransitionMsg, PsbtShim,
    ReadyForPsbtFunding, funding_shim::Shim, funding_transition_msg::Trigger,
};
use tonic::Code;

use super::super::{CliError, Context};
use crate::client::Client;

#[derive(Debug, Args)]
pub(super) struct PsbtArgs {
    /// Fund the channel by another wallet: it is told what to pay, and its PSBTs are asked for
    #[arg(long, conflicts_with_all = ["fundmax", "sat_per_vbyte", "conf_target"])]
    psbt: bool,
    /// Add the channel's output to this PSBT (base64), as for several channels by one transaction
    #[arg(long, alias = "base_psbt", requires = "psbt", value_name = "BASE64")]
    base_psbt: Option<String>,
    /// Leave it to another channel, or to you, to publish the transaction
    #[arg(long, alias = "no_publish", requires = "psbt")]
    no_publish: bool,
    /// Do not ask for the signed transaction: it is published elsewhere, once the channel is pending, with the same txid
    #[arg(long, alias = "skip_finalize", requires = "no_publish")]
    skip_finalize: bool,
}

/// An opening that the caller of this command funds.
pub(super) struct PsbtFunding {
    id: [u8; 32],
    skip_finalize: bool,
}

impl PsbtArgs {
    /// What the daemon is asked for; `None` if its own wallet funds the channel.
    pub(super) fn shim(&self) -> Result<Option<(FundingShim, PsbtFunding)>, CliError> {
        if !self.psbt {
            return Ok(None);
        }
        let base_psbt = self.base_psbt.as_deref().map_or_else(|| Ok(Vec::new()), psbt)?;
        let id: [u8; 32] = rand::random();
        let shim = PsbtShim { pending_chan_id: id.to_vec(), base_psbt, no_publish: self.no_publish };
        let funding = PsbtFunding { id, skip_finalize: self.skip_finalize };
        Ok(Some((FundingShim { shim: Some(Shim::PsbtShim(shim)) }, funding)))
    }
}

impl PsbtFunding {
    /// Tells what is to be paid, and asks for what pays it. If nothing does, the opening ends.
    pub(super) async fn fund(
        &self,
        context: &Context,
        client: &Client,
        wanted: &ReadyForPsbtFunding,
    ) -> Result<(), CliError> {
        let done = self.ask(context, client, wanted).await;
        if done.is_err() {
            let cancel = FundingShimCancel { pending_chan_id: self.id.to_vec() };
            // The daemon ends it by itself if it does not hear this.
            let _ = step(client, Trigger::ShimCancel(cancel)).await;
        }
        done
    }

    async fn ask(&self, context: &Context, client: &Client, wanted: &ReadyForPsbtFunding) -> Result<(), CliError> {
        let ReadyForPsbtFunding { funding_address, funding_amount, psbt } = wanted;
        let encoded = BASE64.encode(psbt);
        let value = serde_json::json!({
            "pending_chan_id": hex::encode(self.id),
            "funding_address": funding_address,
            "funding_amount": funding_amount.to_string(),
            "psbt": encoded,
        });
        context.show_value(&value, || {
            format!(
                "The node has accepted the channel. Within ten minutes make a PSBT that pays\n  {funding_amount} sat\nto\n  \
                 {funding_address}\nor begin with this one, which has that output:\n  {encoded}\n\
                 Its inputs must all be SegWit. Do not publish it yourself before the channel is pending."
            )
        })?;
        loop {
            context.note("The PSBT with its inputs, not signed (base64, or a file that has it):");
            let verify = FundingPsbtVerify {
                funded_psbt: psbt_of(&line().await?)?,
                pending_chan_id: self.id.to_vec(),
                skip_finalize: self.skip_finalize,
            };
            if accepted(context, step(client, Trigger::PsbtVerify(verify)).await)? {
                break;
            }
        }
        if self.skip_finalize {
            context.note("It is right. Sign and publish it once the channel is pending; its txid must stay the same.");
            return Ok(());
        }
        loop {
            context
                .note("It is right. The signed PSBT (base64), or the signed transaction (hex), or a file with either:");
            let text = line().await?;
            let (signed_psbt, final_raw_tx) = match hex::decode(&text) {
                Ok(raw) => (Vec::new(), raw),
                Err(_) => (psbt_of(&text)?, Vec::new()),
            };
            let finalize = FundingPsbtFinalize { signed_psbt, pending_chan_id: self.id.to_vec(), final_raw_tx };
            if accepted(context, step(client, Trigger::PsbtFinalize(finalize)).await)? {
                return Ok(());
            }
        }
    }
}

async fn step(client: &Client, trigger: Trigger) -> Result<(), CliError> {
    let request = FundingTransitionMsg { trigger: Some(trigger) };
    client.lightning().funding_state_step(request).await?;
    Ok(())
}

/// Whether the daemon takes it. A person may try again with another one; a program is told why not.
fn accepted(context: &Context, answer: Result<(), CliError>) -> Result<bool, CliError> {
    match answer {
        Ok(()) => Ok(true),
        Err(CliError::Refused(status)) if status.code() == Code::InvalidArgument && !context.is_json() => {
            context.note(status.message());
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// A line of the input, or what is in the file that it names: a terminal takes no lines as long as large PSBTs.
async fn line() -> Result<String, CliError> {
    let read = tokio::task::spawn_blocking(|| -> io::Result<Option<String>> {
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim();
        let path = Path::new(line);
        match path.is_file() {
            true => std::fs::read_to_string(path).map(|text| Some(text.trim().to_owned())),
            false => Ok(Some(line.to_owned())),
        }
    });
    let failed = |source| CliError::Io { what: "the PSBT".to_owned(), source };
    let line = read.await.map_err(|error| CliError::Failed(error.to_string()))?.map_err(failed)?;
    line.ok_or_else(|| CliError::Failed("no PSBT came: the opening is cancelled".to_owned()))
}

fn psbt_of(text: &str) -> Result<Vec<u8>, CliError> {
    psbt(text).map_err(|error| CliError::Failed(format!("{error}; the opening is cancelled")))
}

fn psbt(text: &str) -> Result<Vec<u8>, CliError> {
    BASE64
        .decode(text.trim())
        .map_err(|_| CliError::Usage("this is no PSBT: it is base64 and begins with cHNidP8".to_owned()))
}
