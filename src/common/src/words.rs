//! Other people's words, made fit to be shown: on a terminal and in the log.
//!
//! ```text
//!   memo, description, alias, error, user agent ──► on_one_line ──► a cell of a table, a part of a sentence
//!                                               └─► said ─────────► a line of the log, 200 characters at most
//! ```
//!
//! A terminal obeys what it is sent: a control character may write over an amount or fill the clipboard, a bidirectional
//! override may show a number backwards. So each character that does something instead of being seen is replaced by one
//! that is seen. Nothing is dropped silently.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The most of a stranger's words that a line of the log holds, in characters: enough for every sentence that
/// implementations send.
const MOST_SAID: usize = 200;

/// Whether a character acts on what shows it instead of being shown.
fn acts(char: char) -> bool {
    let hidden = matches!(char,
        '\u{00ad}' | '\u{061c}' | '\u{180e}'            // soft hyphen, Arabic letter mark, Mongolian vowel separator
        | '\u{200b}'..='\u{200f}'                       // of no width; marks of direction
        | '\u{2028}'..='\u{202e}'                       // separators of lines and paragraphs; bidirectional overrides
        | '\u{2060}'..='\u{206f}'                       // invisible operators; bidirectional isolates
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}'); // tags
    char.is_control() || hidden
}

/// What is shown in place of a character that acts.
fn picture(char: char) -> char {
    match u32::from(char) {
        // Unicode has a picture for each of the first control characters.
        code @ 0..=0x1f => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// As a part of one line.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    replaced(text, acts)
}

/// As lines: only line feeds act.
pub fn on_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |char| char != '\n' && acts(char))
}

fn replaced(text: &str, is_wrong: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().any(&is_wrong) {
        Cow::Owned(text.chars().map(|char| if is_wrong(char) { picture(char) } else { char }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON that a terminal shows as it is: what JSON itself does not escape stands in its strings only, so that an escape
/// changes nothing for programs.
pub fn in_json(json: &str) -> Cow<'_, str> {
    let is_wrong = |char: char| !char.is_ascii() && acts(char);
    if !json.chars().any(is_wrong) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len());
    for char in json.chars() {
        if is_wrong(char) {
            let mut units = [0; 2];
            for unit in char.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(char);
        }
    }
    Cow::Owned(escaped)
}

/// As a part of a line in the log.
pub fn said(text: &str) -> String {
    let mut chars = text.chars();
    let beginning: String =
        chars.by_ref().take(MOST_SAID).map(|char| if acts(char) { picture(char) } else { char }).collect();
    match chars.count() {
        0 => beginning,
        more => format!("{beginning}… and {more} characters more"),
    }
}

/// How many lines in the log others may cause.
pub struct LogBudget {
    per_minute: u32,
    spent: Mutex<Spent>,
}

struct Spent {
    since: Instant,
    lines: u32,
    /// What was said last, and is not said twice in a minute.
    last: String,
}

/// Whether a line is to be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// Write it.
    Write,
    /// The last one for this minute.
    WriteAndSaySo,
    /// Do not write it: it repeats the last one, or this minute has had its lines.
    Skip,
}

const MINUTE: Duration = Duration::from_secs(60);

impl LogBudget {
    /// A budget of so many lines a minute.
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, spent: Mutex::new(Spent { since: Instant::now(), lines: 0, last: String::new() }) }
    }

    /// Asks for a line with these words.
    pub fn line(&self, words: &str) -> Line {
        self.line_at(Instant::now(), words)
    }

    fn line_at(&self, now: Instant, words: &str) -> Line {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(spent.since) >= MINUTE {
            *spent = Spent { since: now, lines: 0, last: String::new() };
        }
        if spent.lines >= self.per_minute || (spent.lines > 0 && spent.last == words) {
            return Line::Skip;
        }
        spent.lines += 1;
        words.clone_into(&mut spent.last);
        if spent.lines == self.per_minute { Line::WriteAndSaySo } else { Line::Write }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets the clipboard, goes back to the beginning of the line, writes over it.
    const HOSTILE: &str = "tea\u{1b}]52;c;ZXZpbA==\u{7}\r1 sat\u{202e}000\u{9b}2J\nforged line";

    #[test]
    fn what_acts_on_a_terminal_is_seen_instead() {
        let shown = on_one_line(HOSTILE);
        assert!(!shown.chars().any(acts), "{shown:?}");
        assert_eq!(shown, "tea␛]52;c;ZXZpbA==␇␍1 sat�000�2J␊forged line");
        assert_eq!(on_lines("a\nb\r"), "a\nb␍");
        for plain in ["", "Grüße, 你好, שלום", "☕ 5 €"] {
            assert!(matches!(on_one_line(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    #[test]
    fn json_is_the_same_for_programs() {
        let json = serde_json::to_string(HOSTILE).unwrap();
        let shown = in_json(&json);
        assert!(!shown.chars().any(acts), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), HOSTILE);
        let tag = serde_json::to_string("\u{e0041}").unwrap();
        assert_eq!(serde_json::from_str::<String>(&in_json(&tag)).unwrap(), "\u{e0041}");
    }

    #[test]
    fn a_line_in_the_log_is_short_and_escaped_once() {
        let long = said(&"\n".repeat(65_000));
        assert!(long.starts_with("␊␊") && long.ends_with("… and 64800 characters more"), "{long}");
        assert!(long.len() < 700);
        assert_eq!(said("short"), "short");
    }

    #[test]
    fn the_same_words_are_written_once_a_minute_and_others_as_often_as_is_allowed() {
        let budget = LogBudget::new(3);
        let now = Instant::now();
        let lines = ["a", "a", "b", "c", "d"].map(|words| budget.line_at(now, words));
        assert_eq!(lines, [Line::Write, Line::Skip, Line::Write, Line::WriteAndSaySo, Line::Skip]);
        assert_eq!(budget.line_at(now + MINUTE, "a"), Line::Write);
    }
}
