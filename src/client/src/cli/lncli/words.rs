//! What was typed, apart: flags with their values, and the words between them.

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::super::{Cli, CliError};

/// lncli's names for options of every command, beside leyden's own.
const GLOBAL_NAMES: [(&str, &str); 2] = [("lnddir", "data-dir"), ("n", "network")];

/// A flag's name as leyden spells it.
pub(super) fn name_of(typed: &str) -> String {
    typed.replace('_', "-")
}

/// Underscores of a flag's name as dashes; what it is set to stays.
pub(super) fn dashed(word: &str) -> String {
    match word.strip_prefix("--") {
        Some(flag) => match flag.split_once('=') {
            Some((name, value)) => format!("--{}={value}", name_of(name)),
            None => format!("--{}", name_of(flag)),
        },
        None => word.to_owned(),
    }
}

/// A flag as typed, `--name`, `-name`, `-n`, with or without `=value`; Go's programs take one dash for two.
fn flag(word: &str) -> Option<(String, Option<String>)> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    Some(match name.split_once('=') {
        Some((name, value)) => (name_of(name), Some(value.to_owned())),
        None => (name_of(name), None),
    })
}

/// Whether an option of clap's takes a value.
pub(super) fn takes_value(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

/// The option of a command that has this name.
pub(super) fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        argument.get_long() == Some(name)
            || aliases.iter().any(|alias| name_of(alias) == name)
            || argument.get_short().is_some_and(|short| name.len() == 1 && name.starts_with(short))
    })
}

/// An option of every command, in leyden's spelling, with its value.
fn global(words: &mut Vec<String>, at: usize) -> Option<Vec<String>> {
    let (typed, value) = flag(&words[at])?;
    let name = GLOBAL_NAMES.iter().find(|(lncli, _)| *lncli == typed).map_or(typed.as_str(), |(_, own)| own);
    let command = Cli::command();
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(name))?;
    let mut taken = vec![format!("--{name}")];
    words.remove(at);
    match (takes_value(argument), value) {
        (true, Some(value)) => taken.push(value),
        (true, None) if at < words.len() => taken.push(words.remove(at)),
        (false, Some(value)) if value == "false" => taken.clear(),
        (true, None) | (false, _) => {}
    }
    Some(taken)
}

/// Takes the options that stand before the command; what is no such option ends them.
pub(super) fn globals_before(words: &mut Vec<String>) -> Vec<String> {
    let mut taken = Vec::new();
    while !words.is_empty() {
        let Some(option) = global(words, 0) else { break };
        taken.extend(option);
    }
    taken
}

/// Takes those that stand among a command's arguments.
pub(super) fn globals_among(words: &mut Vec<String>) -> Vec<String> {
    let mut taken = Vec::new();
    let mut at = 0;
    while at < words.len() && words[at] != "--" {
        match global(words, at) {
            Some(option) => taken.extend(option),
            None => at += 1,
        }
    }
    taken
}

/// The arguments of a command, apart.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Flags that the command knows, in leyden's spelling; those that take none have no value.
    pub flags: Vec<(String, Option<String>)>,
    /// The words between them, in order.
    pub places: Vec<String>,
    /// What looks like a flag and is none of the command's, as typed.
    pub unknown: Vec<String>,
    /// `--help` or `-h`.
    pub asks_help: bool,
}

impl Given {
    /// Reads what was typed after a command; `takes_value` knows its flags: whether they take a value.
    pub(super) fn read(words: Vec<String>, takes_value: impl Fn(&str) -> Option<bool>) -> Result<Self, CliError> {
        let mut given = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                given.places.extend(words);
                break;
            }
            let Some((name, value)) = flag(&word) else {
                given.places.push(word);
                continue;
            };
            match (takes_value(&name), value) {
                (None, None) if name == "help" || name == "h" => given.asks_help = true,
                (None, _) => given.unknown.push(word),
                (Some(true), Some(value)) => given.flags.push((name, Some(value))),
                (Some(true), None) => match words.next() {
                    Some(value) => given.flags.push((name, Some(value))),
                    None => return Err(CliError::Usage(format!("--{name} wants a value"))),
                },
                (Some(false), None) => given.flags.push((name, None)),
                (Some(false), Some(value)) => match value.as_str() {
                    "true" | "1" => given.flags.push((name, None)),
                    "false" | "0" => {}
                    _ => return Err(CliError::Usage(format!("--{name} is on or off: it takes no \"{value}\""))),
                },
            }
        }
        Ok(given)
    }

    /// Takes a flag's value, if it was given.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.flags.iter().position(|(flag, _)| flag == name)?;
        self.flags.remove(at).1
    }

    /// A channel as lncli has it named, by `--chan_point TXID:INDEX`, by `--funding_txid` and `--output_index`, or by two
    /// words: becomes the first word, TXID:INDEX.
    pub(super) fn join_channel_point(&mut self) {
        let whole = self.take("chan-point");
        let txid = self.take("funding-txid");
        let index = self.take("output-index");
        let point = match (whole, txid) {
            (Some(point), _) => point,
            (None, Some(txid)) => format!("{txid}:{}", index.unwrap_or_else(|| self.index_word(0))),
            (None, None) => {
                let is_txid =
                    |word: &String| word.len() == TXID_DIGITS && word.bytes().all(|digit| digit.is_ascii_hexdigit());
                if !self.places.first().is_some_and(is_txid) {
                    return;
                }
                let index = index.unwrap_or_else(|| self.index_word(1));
                format!("{}:{index}", self.places.remove(0))
            }
        };
        self.places.insert(0, point);
    }

    /// Takes the word at `at` if it is an output's number; it is 0 if it is not said.
    fn index_word(&mut self, at: usize) -> String {
        let is_index = |word: &String| word.len() < TXID_DIGITS && word.bytes().all(|digit| digit.is_ascii_digit());
        if self.places.get(at).is_some_and(is_index) { self.places.remove(at) } else { "0".to_owned() }
    }
}

/// A transaction id as hex.
const TXID_DIGITS: usize = 64;
