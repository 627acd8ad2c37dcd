//! `leyden lab script`: one input's scripts, instruction by instruction.

use std::str::FromStr;

use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, consensus::encode};
use clap::{Args, ValueEnum};
use leyden_consensus::script::{ScriptFlags, SpendingTx};
use leyden_proto::leyden::GetTransactionRequest;
use serde_json::json;

use super::{
    super::{
        CliError, Context,
        amount::{self, Sat},
    },
    steps::{self, Items},
};
use crate::{
    client::Client,
    lab::trace::{Trace, disassembled},
};

/// Show how an input is verified: each script, and the stack after each instruction.
///
/// The interpreter is the one that decides about blocks. A transaction of the chain or the mempool is asked of the node;
/// with --tx nothing needs to run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    leyden lab script 4a5e…:0                              its first input, asked of the node\n  \
    leyden lab script 4a5e…:0 --rules standard --whole     as the mempool judges it, with whole items\n  \
    leyden lab script --tx 0100… --prevout 100000:51 --input 0")]
pub(super) struct Script {
    /// Transaction id, and which of its inputs
    #[arg(value_name = "TXID:INPUT", required_unless_present = "tx", conflicts_with = "tx")]
    input_of: Option<InputOf>,
    /// The serialised transaction, hex, in place of one that the node knows
    #[arg(long, value_name = "HEX", requires = "prevout")]
    tx: Option<String>,
    /// An output that it spends, amount and script in hex; one for each of its inputs, in their order
    #[arg(long, value_name = "AMOUNT:SCRIPT", requires = "tx")]
    prevout: Vec<Prevout>,
    /// Which input of --tx
    #[arg(long, default_value_t = 0, requires = "tx")]
    input: usize,
    /// Rules to judge by
    #[arg(long, value_enum, default_value_t = Rules::Consensus)]
    rules: Rules,
    /// Show long items whole
    #[arg(long)]
    whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rules {
    /// What every block obeys
    Consensus,
    /// What the mempool asks for besides
    Standard,
}

/// One input of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InputOf {
    txid: String,
    index: usize,
}

impl FromStr for InputOf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once(':').and_then(|(txid, index)| Some((txid, index.parse().ok()?)));
        let (txid, index) = parsed.ok_or("write a transaction id, a colon and the number of the input, from 0")?;
        Ok(Self { txid: txid.to_owned(), index })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Prevout(TxOut);

impl FromStr for Prevout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (amount, script) = text.split_once(':').ok_or("write an amount, a colon and the output script in hex")?;
        let amount = u64::try_from(amount.parse::<Sat>()?.0).map_err(|_| "an amount is not negative")?;
        let script_pubkey = ScriptBuf::from_hex(script).map_err(|_| "the output script must be written in hex")?;
        Ok(Self(TxOut { value: Amount::from_sat(amount), script_pubkey }))
    }
}

impl Script {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let (transaction, spent, index) = match (&self.tx, &self.input_of) {
            (Some(tx), _) => {
                let tx: Transaction = encode::deserialize_hex(tx.trim())
                    .map_err(|error| CliError::Usage(format!("--tx is no transaction in hex: {error}")))?;
                (tx, self.prevout.iter().map(|prevout| prevout.0.clone()).collect(), self.input)
            }
            (None, Some(InputOf { txid, index })) => {
                let client = context.client().await?;
                let tx = known(&client, txid.clone()).await?;
                let spent = spent_outputs(&client, &tx).await?;
                (tx, spent, *index)
            }
            (None, None) => return Err(CliError::Usage("name an input, as TXID:INPUT or with --tx".to_owned())),
        };
        let inputs = transaction.input.len();
        if index >= inputs {
            return Err(CliError::Usage(format!("the transaction has {inputs} inputs, counted from 0")));
        }
        let spending =
            SpendingTx::new(&transaction, spent).map_err(|error| CliError::Usage(format!("--prevout: {error}")))?;
        let flags = match self.rules {
            Rules::Consensus => ScriptFlags::CONSENSUS,
            Rules::Standard => ScriptFlags::STANDARD,
        };
        let trace = Trace::of(&spending, index, flags);
        let value = json!({
            "txid": transaction.compute_txid().to_string(),
            "input": index,
            "trace": steps::value(&trace),
        });
        let items = if self.whole { Items::Whole } else { Items::Short };
        context.show_value(&value, || {
            let spent = spending.spent_outputs().get(index).map_or_else(String::new, |output| {
                let script = disassembled(output.script_pubkey.as_bytes());
                let amount = amount::sat(i64::try_from(output.value.to_sat()).unwrap_or(i64::MAX));
                format!("spends {amount} with the script {script}")
            });
            let txid = transaction.compute_txid();
            format!("input {index} of {txid}\n{spent}\n\n{}", steps::text(&trace, items))
        })
    }
}

/// A transaction of the chain or the mempool.
async fn known(client: &Client, txid: String) -> Result<Transaction, CliError> {
    let answer = client.chain().get_transaction(GetTransactionRequest { txid }).await?.into_inner();
    encode::deserialize(&answer.raw_tx)
        .map_err(|error| CliError::Failed(format!("the node's answer is no transaction: {error}")))
}

/// What the transaction spends, in the order of its inputs.
async fn spent_outputs(client: &Client, transaction: &Transaction) -> Result<Vec<TxOut>, CliError> {
    if transaction.is_coinbase() {
        return Err(CliError::Usage("this transaction makes new coins: its input spends nothing".to_owned()));
    }
    let mut spent = Vec::new();
    for input in &transaction.input {
        let OutPoint { txid, vout } = input.previous_output;
        let output = known(client, txid.to_string()).await?.output.into_iter().nth(vout as usize);
        spent.push(output.ok_or_else(|| CliError::Failed(format!("{txid} has no output {vout}")))?);
    }
    Ok(spent)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn inputs_and_outputs_are_taken_as_people_write_them() {
        assert_eq!("ab:1".parse(), Ok(InputOf { txid: "ab".to_owned(), index: 1 }));
        assert!("ab".parse::<InputOf>().is_err() && "ab:-1".parse::<InputOf>().is_err());
        let Prevout(output) = "0.001btc:51".parse().unwrap();
        assert_eq!((output.value.to_sat(), output.script_pubkey.as_bytes()), (100_000, [0x51].as_slice()));
        for text in ["1", "x:51", "1:5", "-1:51"] {
            assert!(text.parse::<Prevout>().is_err(), "{text}");
        }
    }

    /// The verification, with this transaction, as JSON.
    async fn traced(tx: &Transaction, spent: &[TxOut], input: usize) -> serde_json::Value {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("printed");
        let global = super::super::super::Global { json: true, ..Default::default() };
        let context = Context::with_output(global, Box::new(fs::File::create(&path).unwrap()));
        let command = Script {
            input_of: None,
            tx: Some(encode::serialize_hex(tx)),
            prevout: spent.iter().cloned().map(Prevout).collect(),
            input,
            rules: Rules::Standard,
            whole: false,
        };
        command.run(&context).await.unwrap();
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// BIP 341's wallet vectors have one transaction with key path spends and P2PKH and P2WPKH inputs among its nine.
    #[tokio::test]
    async fn inputs_of_several_kinds_are_stepped_through() {
        let folder = std::env::var_os("LEYDEN_VECTORS").unwrap_or_else(|| "../../../shared/vectors".into());
        let Ok(text) = fs::read_to_string(Path::new(&folder).join(VECTORS)) else {
            assert!(std::env::var_os("CI").is_none(), "no test vectors: set LEYDEN_VECTORS");
            println!("skipped: no test vectors (set LEYDEN_VECTORS)");
            return;
        };
        let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
        let case = &vectors["keyPathSpending"][0];
        let outputs = case["given"]["utxosSpent"].as_array().unwrap().iter().map(|output| {
            let script = ScriptBuf::from_hex(output["scriptPubKey"].as_str().unwrap()).unwrap();
            TxOut { value: Amount::from_sat(output["amountSats"].as_u64().unwrap()), script_pubkey: script }
        });
        let spent: Vec<TxOut> = outputs.collect();
        let tx: Transaction = encode::deserialize_hex(case["auxiliary"]["fullySignedTx"].as_str().unwrap()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for input in 0..tx.input.len() {
            let value = traced(&tx, &spent, input).await;
            assert_eq!(value["trace"]["failure"], serde_json::Value::Null, "{value:#}");
            let stages = value["trace"]["stages"].as_array().unwrap();
            seen.insert(stages.last().unwrap()["name"].as_str().unwrap().to_owned());
        }
        assert_eq!(Vec::from_iter(seen), ["key path", "output script", "script of the key hash"]);
    }

    const VECTORS: &str = "bitcoin-core/bip341_wallet_vectors.json";
}
