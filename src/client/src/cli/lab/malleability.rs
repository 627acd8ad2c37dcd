//! `leyden lab malleability`: a withdrawal whose id is changed on its way, and who loses by it.

use bitcoin::{Amount, Transaction, consensus::encode};
use clap::Args;
use leyden_consensus::script::ScriptFlags;
use serde_json::{Value, json};

use super::{
    super::{CliError, Context, amount, table},
    steps::{self, Items},
};
use crate::lab::{
    LabError,
    malleability::{
        self, Attack, Changed, Outcome, Report,
        exchange::{Bookkeeping, Entry, Form, PATIENCE, Verdict},
        signature_and_key,
    },
    trace::disassembled,
};

/// Show how an exchange pays twice because somebody changes the id of its withdrawal.
///
/// A node is started, on a chain of its own, and exchanges send withdrawals. An attacker negates the S of each signature,
/// which makes another good signature without the key. The mempool refuses it, but a miner puts it into a block, and the
/// chain takes it. The id of the transaction is another then, unless its signature is in a witness. The node is deleted at
/// the end. The exit code is 0 if it ends as described.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden lab malleability\n  \
    leyden --json lab malleability      with whole transactions and stacks")]
pub(super) struct Malleability {}

impl Malleability {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let report = malleability::play(|what| context.note(what)).await.map_err(failed)?;
        let texts = report.attacks.iter().map(text).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let values = report.attacks.iter().map(value).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        context.show_value(&json!({ "attacks": values }), || texts.join("\n\n\n"))?;
        as_described(&report).map_err(CliError::Failed)
    }
}

fn failed(error: LabError) -> CliError {
    CliError::Failed(error.to_string())
}

/// Whether those lose who are said to, and nobody else.
fn as_described(report: &Report) -> Result<(), String> {
    for attack in &report.attacks {
        for Outcome { exchange, received } in &attack.outcomes {
            let pays_twice = attack.form == Form::P2pkh && exchange.bookkeeping == Bookkeeping::ByTxid;
            let expected = exchange.owed * if pays_twice { 2 } else { 1 };
            if *received != expected {
                let (form, books) = (attack.form.name(), exchange.bookkeeping.name());
                return Err(format!("{form}, books {books}: the customer got {received}, and not {expected}"));
            }
        }
    }
    Ok(())
}

fn text(attack: &Attack) -> Result<String, LabError> {
    let Attack { form, withdrawal, refused, outcomes } = attack;
    let Changed { original, changed, .. } = withdrawal;
    let by_consensus = withdrawal.trace(changed, ScriptFlags::CONSENSUS)?;
    let by_policy = withdrawal.trace(changed, ScriptFlags::STANDARD)?;
    let same_id = original.compute_txid() == changed.compute_txid();
    Ok([
        format!("═══ {}: a withdrawal, and what the attacker made of it ═══", form.name()),
        side_by_side(withdrawal, *form)?,
        match same_id {
            true => "Only the wtxid has changed: the signature is in the witness, which the txid does not hash.",
            false => "S became n − S, and with it the id changed. Everything that is paid is the same.",
        }
        .to_owned(),
        "─── how a block's rules verify the changed one ───".to_owned(),
        steps::text(&by_consensus, Items::Short),
        "─── how the mempool's rules (low S among them) verify it ───".to_owned(),
        steps::text(&by_policy, Items::Short),
        format!(
            "the node's mempool said: {refused}\na miner put it into a block all the same, and the node took the block"
        ),
        format!("─── the books, {PATIENCE} blocks later and at the end ───"),
        outcomes.iter().map(books).collect::<Vec<_>>().join("\n\n"),
    ]
    .join("\n\n"))
}

/// Both transactions field by field: what differs side by side, what does not once.
fn side_by_side(Changed { original, changed, spent }: &Changed, form: Form) -> Result<String, LabError> {
    let pairs = facts(original, form)?.into_iter().zip(facts(changed, form)?);
    let (same, other): (Vec<_>, Vec<_>) = pairs.partition(|((_, original), (_, changed))| original == changed);
    let rows = other.into_iter().map(|((name, original), (_, changed))| [name.to_owned(), original, changed]);
    let script = disassembled(spent.script_pubkey.as_bytes());
    let spends = ("spent output", format!("{} with the script {script}", coins(spent.value)));
    let both = std::iter::once(spends).chain(same.into_iter().map(|(fact, _)| fact));
    let differing = table::list(["", "original", "changed"], rows.collect(), "");
    Ok(format!("{differing}\n\nboth have\n{}", table::facts(both)))
}

fn facts(transaction: &Transaction, form: Form) -> Result<Vec<(&'static str, String)>, LabError> {
    let (signature, key) = signature_and_key(transaction, form)?;
    let compact = hex::encode(signature.serialize_compact());
    let (r, s) = compact.split_at(64);
    let mut normal = signature;
    normal.normalize_s();
    let height = if normal == signature { "low" } else { "high" };
    let input = transaction.input.first();
    // Signature and key stand below; here it matters where they are.
    let short = |script: &str| steps::words(script, Items::Short);
    let script_sig = input.map_or_else(String::new, |input| short(&disassembled(input.script_sig.as_bytes())));
    let witness =
        input.map_or_else(Vec::new, |input| input.witness.iter().map(|item| short(&hex::encode(item))).collect());
    let mut facts = vec![
        ("txid", transaction.compute_txid().to_string()),
        ("wtxid", transaction.compute_wtxid().to_string()),
        ("version", transaction.version.0.to_string()),
        ("spends", input.map_or_else(String::new, |input| input.previous_output.to_string())),
        ("input script", if script_sig.is_empty() { "(empty)".to_owned() } else { script_sig }),
        ("witness", if witness.is_empty() { "(empty)".to_owned() } else { witness.join(" ") }),
        ("r", r.to_owned()),
        ("s", format!("{s} ({height})")),
        ("key", key.to_string()),
        ("sequence", input.map_or_else(String::new, |input| format!("{:08x}", input.sequence.0))),
    ];
    for output in &transaction.output {
        let script = disassembled(output.script_pubkey.as_bytes());
        facts.push(("pays", format!("{} to {script}", coins(output.value))));
    }
    facts.push(("lock time", transaction.lock_time.to_consensus_u32().to_string()));
    Ok(facts)
}

fn coins(amount: Amount) -> String {
    amount::sat(i64::try_from(amount.to_sat()).unwrap_or(i64::MAX))
}

fn books(outcome: &Outcome) -> String {
    let Outcome { exchange, received } = outcome;
    let rows = exchange.books.iter().map(|Entry { sent, spends, verdict }| {
        let verdict = match verdict {
            Verdict::Waits => "waits".to_owned(),
            Verdict::Paid(by) if by == sent => "paid".to_owned(),
            Verdict::Paid(by) => format!("paid, by {by}"),
            Verdict::Failed => "not in any block: failed, to be paid again".to_owned(),
        };
        [sent.clone(), spends.to_string(), coins(exchange.owed), verdict]
    });
    let list = table::list(["sent", "~spends", ">amount", "verdict"], rows.collect(), "");
    let ending = match outcome.lost() {
        Amount::ZERO => "nothing is lost".to_owned(),
        lost => format!("{} are lost", coins(lost)),
    };
    format!(
        "{} exchange with books {}\n{list}\nit believes to have paid {}; the customer has got {}: {ending}",
        exchange.form.name(),
        exchange.bookkeeping.name(),
        coins(exchange.believes_paid()),
        coins(*received)
    )
}

fn value(attack: &Attack) -> Result<Value, LabError> {
    let withdrawal = &attack.withdrawal;
    let of = |transaction: &Transaction| {
        Ok::<_, LabError>(json!({
            "txid": transaction.compute_txid().to_string(),
            "wtxid": transaction.compute_wtxid().to_string(),
            "hex": encode::serialize_hex(transaction),
            "by_consensus": steps::value(&withdrawal.trace(transaction, ScriptFlags::CONSENSUS)?),
            "by_policy": steps::value(&withdrawal.trace(transaction, ScriptFlags::STANDARD)?),
        }))
    };
    let exchanges = attack.outcomes.iter().map(|Outcome { exchange, received }| {
        json!({
            "bookkeeping": exchange.bookkeeping.name(),
            "books": exchange.value(),
            "owed_sat": exchange.owed.to_sat(),
            "believes_paid_sat": exchange.believes_paid().to_sat(),
            "received_sat": received.to_sat(),
        })
    });
    Ok(json!({
        "form": attack.form.name(),
        "spent_sat": withdrawal.spent.value.to_sat(),
        "spent_script": withdrawal.spent.script_pubkey.to_hex_string(),
        "original": of(&withdrawal.original)?,
        "changed": of(&withdrawal.changed)?,
        "mempool_refused": attack.refused,
        "exchanges": exchanges.collect::<Vec<_>>(),
    }))
}
