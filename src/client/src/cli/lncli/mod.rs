//! lncli's commands and flags, for fingers and scripts that know those.
//!
//! ```text
//!   words as typed ─► table of lncli's commands ─┬─► own      the same command of leyden's: `--node_key K` → its first argument
//!                                                ├─► call     a call of LND's that has no command here: its answer as JSON
//!                                                └─► instead  nothing of the kind: one sentence says what to use
//! ```
//!
//! What is typed is translated before it is parsed, so that lncli's second spellings do not stand in anybody's `--help`.
//! `leyden lncli` lists them all. Answers are printed as lncli prints them: names of LND's fields, 64-bit numbers as
//! strings, bytes as hex.

mod call;
mod calls;
mod own;
mod shape;
mod words;

use std::ffi::OsString;

use clap::Args;

pub(super) use shape::{scids, unspent};

use self::{
    calls::CALLS,
    own::{OWN, Own},
    words::Given,
};
use super::{CliError, Context, table};

/// What becomes of a command of lncli's.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Leyden's own command does it.
    Own(&'static Own),
    /// It is a call of LND's.
    Call(&'static calls::Entry),
    /// There is no such thing here: what to use in its place.
    Instead(&'static str),
}

/// Commands of lncli's that are about lncli itself, or about what is done otherwise here.
const INSTEAD: [(&str, &str); 15] = [
    ("createwatchonly", "a node keeps its keys itself: `leyden create` makes its wallet"),
    ("encryptdebugpackage", "settings and log are files in the data directory, and `leyden doctor` looks at them"),
    ("decryptdebugpackage", "settings and log are files in the data directory, and `leyden doctor` looks at them"),
    ("constrainmacaroon", "`leyden bakemacaroon` narrows what it makes with --timeout and --ip-address"),
    (
        "printmacaroon",
        "`leyden listpermissions` tells what calls ask for, `leyden listmacaroonids` which root keys there are",
    ),
    ("profile list", PROFILE),
    ("profile add", PROFILE),
    ("profile remove", PROFILE),
    ("profile setdefault", PROFILE),
    ("profile unsetdefault", PROFILE),
    ("profile addmacaroon", PROFILE),
    ("profile", PROFILE),
    ("generatemanpage", "every command explains itself with --help"),
    (
        "loadmc",
        "`leyden importmc` takes one result at a time, and POST /v2/router/x/importhistory all that GET /v2/router/mc gives",
    ),
    ("fish-completion", "`leyden completions fish` prints them"),
];

const PROFILE: &str =
    "there are no profiles: --data-dir says which node is meant, or --rpcserver with --macaroonpath and --tlscertpath";

/// The most words of a command (`wallet accounts list`).
const LONGEST: usize = 3;

/// All of them: lncli's words, and what becomes of them.
fn all() -> impl Iterator<Item = (&'static str, Does)> {
    let own = OWN.iter().map(|own| (own.lncli, Does::Own(own)));
    let calls = CALLS.iter().map(|entry| (entry.lncli, Does::Call(entry)));
    own.chain(calls).chain(INSTEAD.iter().map(|(lncli, text)| (*lncli, Does::Instead(text))))
}

fn find(words: &str) -> Option<Does> {
    all().find(|(lncli, _)| *lncli == words).map(|(_, does)| does)
}

/// The command that these words begin with, and how many of them it takes.
fn beginning(words: &[String]) -> Option<(usize, Does)> {
    let named = words.iter().take(LONGEST).take_while(|word| !word.starts_with('-')).count();
    (1..=named).rev().find_map(|count| find(&words[..count].join(" ")).map(|does| (count, does)))
}

/// What was typed, in leyden's own words.
pub(super) fn translated(typed: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    let words: Option<Vec<String>> = typed.iter().map(|word| word.to_str().map(str::to_owned)).collect();
    // A file may have any name; lncli's flags have not.
    let Some(words) = words else { return Ok(typed) };
    Ok(translated_words(words)?.into_iter().map(OsString::from).collect())
}

fn translated_words(typed: Vec<String>) -> Result<Vec<String>, CliError> {
    let mut words = typed.into_iter();
    let mut front: Vec<String> = words.next().into_iter().collect();
    let mut rest: Vec<String> = words.collect();
    front.extend(words::globals_before(&mut rest));
    let asks_help = rest.first().is_some_and(|word| word == "help");
    if asks_help {
        rest.remove(0);
    }
    let Some((count, does)) = beginning(&rest) else {
        let help = asks_help.then(|| "help".to_owned());
        return Ok(front.into_iter().chain(help).chain(rest.iter().map(|word| words::dashed(word))).collect());
    };
    let mut arguments = rest.split_off(count);
    // lncli's `sendpayment` has a `--json` of its own.
    let among = words::globals_among(&mut arguments).into_iter();
    let told_already = |word: &String| word == "--json" && front.contains(word);
    let among: Vec<String> = among.filter(|word| !told_already(word)).collect();
    front.extend(among);
    if asks_help {
        arguments = vec!["--help".to_owned()];
    }
    let told: Vec<String> = match does {
        Does::Own(own) => own.translated(arguments)?,
        Does::Call(_) | Does::Instead(_) => {
            [["lncli".to_owned(), "--".to_owned()].as_slice(), &rest, &arguments].concat()
        }
    };
    Ok(front.into_iter().chain(told).collect())
}

/// List lncli's commands, and what does the same here; each may be typed as lncli has it.
#[derive(Debug, Args)]
pub struct Lncli {
    /// A command of lncli's, with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

impl Lncli {
    pub async fn run(self, context: &Context) -> Result<(), CliError> {
        let Some((count, does)) = beginning(&self.words) else {
            if let Some(unknown) = self.words.first() {
                return Err(CliError::Usage(format!("lncli has no command {unknown}: `leyden lncli` lists them")));
            }
            let told: Vec<(String, String)> = all().map(|(lncli, does)| (lncli.to_owned(), described(does))).collect();
            let value = told.iter().map(|(lncli, here)| (lncli.clone(), here.clone().into())).collect();
            return context.show_value(&serde_json::Value::Object(value), || {
                table::list(["lncli", "here"], told.into_iter().map(|(a, b)| [a, b]).collect(), "")
            });
        };
        let arguments = self.words[count..].to_vec();
        match does {
            // Those have been translated before.
            Does::Own(own) => Err(CliError::Usage(format!("type `leyden {}`", own.words))),
            Does::Instead(text) => Err(CliError::Usage(text.to_owned())),
            Does::Call(entry) => {
                let given = Given::read(arguments, |name| entry.takes_value(name))?;
                if given.asks_help {
                    return context.script(&entry.usage());
                }
                call::run(entry, given, context).await
            }
        }
    }
}

fn described(does: Does) -> String {
    match does {
        Does::Own(own) => format!("leyden {}", own.words),
        Does::Call(entry) => match calls::absent(entry.call) {
            None => entry.call.to_owned(),
            Some(why) => format!("not served: {why}"),
        },
        Does::Instead(text) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
