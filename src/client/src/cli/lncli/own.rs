//! Commands that leyden has too: lncli's flags and the places of its words, in leyden's.

use clap::{Command, CommandFactory};

use super::{
    super::{Cli, CliError},
    words::{self, Given},
};

/// A command of lncli's, and the one of leyden's that does it.
#[derive(Debug)]
pub(super) struct Own {
    /// lncli's words.
    pub lncli: &'static str,
    /// Leyden's.
    pub words: &'static str,
    /// What is put together first.
    first: First,
    /// lncli's arguments that leyden has in another form; the words' in their order. All others have the same name.
    pub takes: &'static [Takes],
}

/// What several arguments of lncli's say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Nothing,
    /// A channel, named in one of lncli's ways ([`Given::join_channel_point`]).
    ChannelPoint,
    /// A fee rate: `--fee_rate` is a part of one, `--fee_rate_ppm` of a million.
    FeeRate,
}

/// One argument of lncli's.
#[derive(Debug)]
pub(super) struct Takes {
    name: &'static str,
    has_value: bool,
    /// Words without a flag fill it.
    is_place: bool,
    to: To,
}

/// What becomes of it.
#[derive(Debug)]
enum To {
    /// The next word without a flag.
    Place,
    /// Another flag.
    Flag(&'static str),
    /// Nothing: leyden does it anyway.
    Nothing,
}

/// `--name VALUE` or the next word → the next word.
const fn place(name: &'static str) -> Takes {
    Takes { name, has_value: true, is_place: true, to: To::Place }
}

/// `--name VALUE` → the next word; a word without a flag is not meant.
const fn named_place(name: &'static str) -> Takes {
    Takes { name, has_value: true, is_place: false, to: To::Place }
}

/// The next word → `--name VALUE`.
const fn word_for(name: &'static str) -> Takes {
    Takes { name, has_value: true, is_place: true, to: To::Flag(name) }
}

/// `--name VALUE` → `--own VALUE`.
const fn renamed(name: &'static str, own: &'static str) -> Takes {
    Takes { name, has_value: true, is_place: false, to: To::Flag(own) }
}

/// `--name` → `--own`.
const fn switch(name: &'static str, own: &'static str) -> Takes {
    Takes { name, has_value: false, is_place: false, to: To::Flag(own) }
}

/// `--name` is what leyden does anyway.
const fn anyway(name: &'static str) -> Takes {
    Takes { name, has_value: false, is_place: false, to: To::Nothing }
}

const SAT_PER_BYTE: Takes = renamed("sat-per-byte", "sat-per-vbyte");

const fn same(lncli: &'static str) -> Own {
    Own { lncli, words: lncli, first: First::Nothing, takes: &[] }
}

const fn own(lncli: &'static str, takes: &'static [Takes]) -> Own {
    Own { lncli, words: lncli, first: First::Nothing, takes }
}

const fn other(lncli: &'static str, words: &'static str, takes: &'static [Takes]) -> Own {
    Own { lncli, words, first: First::Nothing, takes }
}

const fn channel(lncli: &'static str, words: &'static str, takes: &'static [Takes]) -> Own {
    Own { lncli, words, first: First::ChannelPoint, takes }
}

const CHANNEL_POINT: [Takes; 3] = [
    renamed("chan-point", "chan-point"),
    renamed("funding-txid", "funding-txid"),
    renamed("output-index", "output-index"),
];

pub(super) const OWN: &[Own] = &[
    same("create"),
    own("unlock", &[switch("stdin", "password-file=-")]),
    same("changepassword"),
    same("state"),
    same("stop"),
    same("getinfo"),
    own("newaddress", &[place("address-type")]),
    own("walletbalance", &[]),
    same("channelbalance"),
    own("sendcoins", &[place("addr"), place("amt"), SAT_PER_BYTE, switch("force", "yes"), switch("f", "yes")]),
    own("listunspent", &[word_for("min-confs"), word_for("max-confs")]),
    same("listchaintxns"),
    same("connect"),
    own("disconnect", &[place("node-key")]),
    own("listpeers", &[anyway("list-errors")]),
    own("openchannel", &[place("node-key"), place("local-amt"), place("push-amt"), SAT_PER_BYTE]),
    channel("closechannel", "closechannel", &[SAT_PER_BYTE]),
    own("closeallchannels", &[SAT_PER_BYTE, switch("s", "yes"), switch("skip-confirmation", "yes")]),
    channel("abandonchannel", "abandonchannel", &[switch("i-know-what-i-am-doing", "yes")]),
    same("listchannels"),
    same("pendingchannels"),
    same("closedchannels"),
    own("exportchanbackup", &[named_place("chan-point")]),
    same("verifychanbackup"),
    same("restorechanbackup"),
    own("addinvoice", &[place("amt"), word_for("preimage")]),
    own("addholdinvoice", &[place("hash"), place("amt")]),
    own("settleinvoice", &[place("preimage")]),
    own("cancelinvoice", &[place("paymenthash")]),
    own("lookupinvoice", &[place("rhash")]),
    same("listinvoices"),
    own("decodepayreq", &[place("pay-req")]),
    own("payinvoice", &[place("pay-req")]),
    own(
        "sendpayment",
        &[
            word_for("dest"),
            word_for("amt"),
            word_for("payment-hash"),
            word_for("final-cltv-delta"),
            word_for("pay-addr"),
            renamed("d", "dest"),
            renamed("a", "amt"),
            renamed("r", "payment-hash"),
        ],
    ),
    own("trackpayment", &[place("payment-hash")]),
    own("listpayments", &[]),
    same("feereport"),
    Own {
        lncli: "updatechanpolicy",
        words: "updatechanpolicy",
        first: First::FeeRate,
        takes: &[
            place("base-fee-msat"),
            place("fee-rate-ppm"),
            place("time-lock-delta"),
            word_for("chan-point"),
            renamed("fee-rate", "fee-rate"),
        ],
    },
    own(
        "fwdinghistory",
        &[word_for("start-time"), word_for("end-time"), word_for("index-offset"), word_for("max-events")],
    ),
    same("bakemacaroon"),
    same("listmacaroonids"),
    same("deletemacaroonid"),
    same("listpermissions"),
    same("resetmc"),
    other("wallet bumpfee", "bumpfee", &[SAT_PER_BYTE, anyway("immediate"), anyway("force")]),
    other("wallet bumpclosefee", "bumpfee", &[SAT_PER_BYTE, anyway("immediate"), anyway("force")]),
    other("wallet bumpforceclosefee", "bumpfee", &[SAT_PER_BYTE, anyway("immediate"), anyway("force")]),
    same("tower info"),
];

impl Own {
    pub(super) fn definition(&self) -> Option<Command> {
        self.words.split(' ').try_fold(Cli::command(), |command, word| command.find_subcommand(word).cloned())
    }

    /// Whether lncli's or leyden's flag of this name takes a value; `None`: there is none.
    pub(super) fn takes_value(&self, definition: &Command, name: &str) -> Option<bool> {
        let of_lncli =
            self.takes.iter().chain(if self.first == First::ChannelPoint { CHANNEL_POINT.as_slice() } else { &[] });
        let takes = of_lncli.into_iter().find(|takes| takes.name == name).map(|takes| takes.has_value);
        takes.or_else(|| words::option(definition, name).map(words::takes_value))
    }

    /// This command and its arguments as leyden has them.
    pub(super) fn translated(&self, arguments: Vec<String>) -> Result<Vec<String>, CliError> {
        let mut told: Vec<String> = self.words.split(' ').map(str::to_owned).collect();
        let Some(definition) = self.definition() else { return Ok(told) };
        let mut given = Given::read(arguments, |name| self.takes_value(&definition, name))?;
        match self.first {
            First::Nothing => {}
            First::ChannelPoint => given.join_channel_point(),
            First::FeeRate => fee_rate_in_ppm(&mut given)?,
        }
        for (flag, why) in NOT_TAKEN {
            let names = |word: &&String| words::name_of(word.trim_start_matches('-')).split('=').next() == Some(flag);
            if given.unknown.iter().any(|word| names(&word)) {
                return Err(CliError::Usage(format!("--{flag}: {why}")));
            }
        }
        told.extend(given.unknown.iter().map(|word| words::dashed(word)));
        told.extend(given.asks_help.then(|| "--help".to_owned()));
        let mut places = std::mem::take(&mut given.places).into_iter();
        let mut placed: Vec<String> = Vec::new();
        let mut missing = None;
        for takes in self.takes.iter().filter(|takes| takes.is_place || matches!(takes.to, To::Place)) {
            let value = given.take(takes.name).or_else(|| if takes.is_place { places.next() } else { None });
            match (&takes.to, value) {
                (To::Place, None) => missing = missing.or(Some(takes.name)),
                (To::Place, Some(value)) => match missing {
                    // The value would slip into the place of what is missing.
                    Some(before) => {
                        let text = format!("--{} goes with --{before}, which is missing", takes.name);
                        return Err(CliError::Usage(text));
                    }
                    None => placed.push(value),
                },
                (To::Flag(own), Some(value)) => told.push(format!("--{own}={value}")),
                (To::Flag(_) | To::Nothing, _) => {}
            }
        }
        placed.extend(places);
        for (name, value) in given.flags {
            let renamed = match self.takes.iter().find(|takes| takes.name == name).map(|takes| &takes.to) {
                Some(To::Flag(own)) => (*own).to_owned(),
                Some(To::Nothing) => continue,
                Some(To::Place) | None => name,
            };
            let dashes = if renamed.len() == 1 { "-" } else { "--" };
            told.push(match value {
                Some(value) => format!("{dashes}{renamed}={value}"),
                None => format!("{dashes}{renamed}"),
            });
        }
        if !placed.is_empty() {
            // A word may begin with a dash.
            told.push("--".to_owned());
        }
        told.extend(placed);
        Ok(told)
    }
}

/// Flags of lncli's that no command of leyden's takes, and what to say.
const NOT_TAKEN: [(&str, &str); 25] = [
    ("inbound-base-fee-msat", INBOUND),
    ("inbound-fee-rate-ppm", INBOUND),
    ("route-hints", "an invoice holds them: --pay_req"),
    ("amp", "AMP is not served"),
    ("blind", BLINDED),
    ("min-real-blinded-hops", BLINDED),
    ("num-blinded-hops", BLINDED),
    ("max-blinded-paths", BLINDED),
    ("blinded-path-omit-node", BLINDED),
    ("blinded-path-incoming-channel-list", BLINDED),
    ("coin-selection-strategy", "the wallet has one way to choose coins"),
    ("psbt", PSBT),
    ("base-psbt", PSBT),
    ("no-publish", PSBT),
    ("single-backup", BACKUP),
    ("multi-backup", BACKUP),
    ("save-to", "there is no stateless start with a file: `leyden bakemacaroon --save-to` writes a macaroon"),
    ("mac-root-key", "root keys are made by the node"),
    ("stateless-init", "`leyden create --stateless-init` decides that once"),
    ("custom-caveat-name", CAVEAT),
    ("custom-caveat-condition", CAVEAT),
    ("allow-external-permissions", "macaroons are for this node's calls"),
    ("root-key", "--root-key-id names one; the node makes it"),
    ("create-missing-edge", "no edge is missing: a channel's terms are the node's own"),
    ("deadline-delta", "--conf-target says how soon"),
];

const INBOUND: &str = "fees for what comes in are not served";
const BLINDED: &str = "invoices with blinded paths are not served";
const PSBT: &str = "channels are funded by this node's wallet alone";
const BACKUP: &str = "give the file: --multi-file";
const CAVEAT: &str = "--timeout and --ip-address are what this node understands";

#[cfg(test)]
pub(super) fn refusal(flag: &str) -> Option<&'static str> {
    NOT_TAKEN.iter().find(|(name, _)| *name == flag).map(|(_, why)| *why)
}

/// `--fee_rate=0.00025`, or such a second word → `--fee_rate_ppm 250`.
fn fee_rate_in_ppm(given: &mut Given) -> Result<(), CliError> {
    let in_ppm = |rate: &str| match rate.parse::<f64>() {
        Ok(part) if (0.0..=MAX_RATE).contains(&part) => Ok(format!("{:.0}", part * 1_000_000.0)),
        Ok(_) | Err(_) => Err(CliError::Usage(format!("--fee_rate: {rate} is no part of one, such as 0.00025"))),
    };
    if let Some(rate) = given.take("fee-rate") {
        given.flags.push(("fee-rate-ppm".to_owned(), Some(in_ppm(&rate)?)));
    }
    if let Some(rate) = given.places.get_mut(1).filter(|word| word.contains('.')) {
        *rate = in_ppm(rate)?;
    }
    Ok(())
}

/// A thousand times what passes: more is a slip, and does not fit into 32 bits of ppm.
const MAX_RATE: f64 = 1_000.0;
