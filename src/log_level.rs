//! What is logged, and how to have other lines logged while the daemon runs.
//!
//! ```text
//!   main ─ install ─► here ◄─ set ─ a call: `debug`, or `info,leyden_node=debug`
//! ```

use std::sync::{Mutex, OnceLock, PoisonError};

/// Parts of the program whose level can be set by itself; parts of these parts too, as `leyden::rpc`.
pub(crate) const PARTS: [&str; 7] = [
    "leyden",
    "leyden_channels",
    "leyden_consensus",
    "leyden_mining",
    "leyden_net",
    "leyden_node",
    "leyden_watchtower",
];

type SetFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

struct Log {
    set: SetFilter,
    level: Mutex<String>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Hands over how to set what is logged, in `tracing`'s syntax, and what is logged now.
pub fn install(level: &str, set: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static) {
    // A second one would be of a second `main`.
    let _ = LOG.set(Log { set: Box::new(set), level: Mutex::new(level.to_owned()) });
}

/// Why the level stays.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LevelError {
    #[error("the specified debug level [{0}] is invalid: it is trace, debug, info, warn, error or off")]
    Level(String),
    #[error("the specified subsystem [{0}] is invalid: DebugLevel with `show` lists them")]
    Part(String),
    #[error("level_spec: {0} bytes; at most {MAX_SPEC} are taken")]
    TooLong(usize),
    #[error("the log cannot be changed: {0}")]
    Log(String),
}

/// Logs so from now on, until the next start.
pub(crate) fn set(spec: &str) -> Result<String, LevelError> {
    let directives = directives(spec)?;
    let log = LOG.get().ok_or_else(|| LevelError::Log("this process has none".to_owned()))?;
    let mut level = log.level.lock().unwrap_or_else(PoisonError::into_inner);
    (log.set)(&directives).map_err(LevelError::Log)?;
    level.clone_from(&directives);
    Ok(directives)
}

/// Bytes of a request: room for a level of each part, and few enough levels to be gone through wherever something is logged.
const MAX_SPEC: usize = 4_096;

/// A level for all, or with commas between them `part=level`; in `tracing`'s syntax.
fn directives(spec: &str) -> Result<String, LevelError> {
    if spec.len() > MAX_SPEC {
        return Err(LevelError::TooLong(spec.len()));
    }
    let one = |text: &str| {
        let Some((part, level)) = text.split_once('=') else { return level_name(text) };
        let (part, level) = (part.trim(), level_name(level)?);
        let is_part =
            |known: &str| part == known || part.strip_prefix(known).is_some_and(|rest| rest.starts_with("::"));
        let is_path = part.bytes().all(|letter| letter.is_ascii_lowercase() || letter == b'_' || letter == b':');
        if is_path && PARTS.iter().any(|known| is_part(known)) {
            Ok(format!("{part}={level}"))
        } else {
            Err(LevelError::Part(part.to_owned()))
        }
    };
    Ok(spec.split(',').map(one).collect::<Result<Vec<_>, _>>()?.join(","))
}

fn level_name(text: &str) -> Result<String, LevelError> {
    match text.trim().to_ascii_lowercase().as_str() {
        level @ ("trace" | "debug" | "info" | "warn" | "error" | "off") => Ok(level.to_owned()),
        // LND's highest level: there is none above errors here.
        "critical" => Ok("error".to_owned()),
        _ => Err(LevelError::Level(text.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_lnd_writes_them_and_nothing_else_passes() {
        for (spec, expected) in [
            ("debug", "debug"),
            (" Info , leyden_node=TRACE", "info,leyden_node=trace"),
            ("critical,leyden::rpc=off", "error,leyden::rpc=off"),
        ] {
            assert_eq!(directives(spec).unwrap(), expected);
        }
        for wrong in ["", "loud", "RPCS=debug", "leyden=loud", "leydenx=debug", "leyden::[{a}]=debug", "info,,warn"] {
            assert!(directives(wrong).is_err(), "{wrong}");
        }
        let many = vec!["leyden=debug"; 1_000].join(",");
        assert!(matches!(directives(&many), Err(LevelError::TooLong(_))));
    }
}
