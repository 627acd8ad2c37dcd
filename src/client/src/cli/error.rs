//! Why a command has not done what was asked.

use std::io;

use leyden_common::{layout::NoHome, names::ADVICE, words::on_one_line};
use tonic::{Code, Status};

use crate::client::ClientError;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum CliError {
    #[error(transparent)]
    NoHome(#[from] NoHome),
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon's answer, in its own words.
    #[error("{}", explained(.0))]
    Refused(#[from] Box<Status>),
    /// The arguments make no sense together, or with what the node knows.
    #[error("{0}")]
    Usage(String),
    /// It was tried and did not succeed.
    #[error("{0}")]
    Failed(String),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The reader of our output is gone.
    #[error("the output was closed")]
    Closed,
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
    #[error("the answer cannot be printed: {0}")]
    Unprintable(String),
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl CliError {
    /// The gRPC code's name, for programs.
    pub fn code(&self) -> String {
        match self {
            Self::Refused(status) => format!("{:?}", status.code()),
            Self::Client(_) => "Unavailable".to_owned(),
            Self::Usage(_) | Self::NoHome(_) => "InvalidArgument".to_owned(),
            Self::Failed(_) => "Failed".to_owned(),
            Self::Io { .. } | Self::Closed | Self::Runtime(_) | Self::Unprintable(_) => "Internal".to_owned(),
        }
    }

    /// What the process ends with: 2 for arguments that make no sense, 1 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::NoHome(_)
            | Self::Client(_)
            | Self::Refused(_)
            | Self::Failed(_)
            | Self::Io { .. }
            | Self::Closed
            | Self::Runtime(_)
            | Self::Unprintable(_) => 1,
        }
    }
}

/// The daemon's sentence and its advice; where the call never reached it, what may be the matter.
fn explained(status: &Status) -> String {
    let text = status.message();
    match status.code() {
        Code::Unavailable | Code::Unknown if text.contains("transport error") || text.contains("h2 protocol error") => {
            "the connection to leydend broke: does it still run? What was begun goes on when it is started again"
                .to_owned()
        }
        Code::Unimplemented if text.is_empty() => {
            "this leydend does not know the call: is it older than this `leyden`?".to_owned()
        }
        _ if text.is_empty() => format!("leydend answered {:?} without a word", status.code()),
        // It may hold the words of a peer.
        _ => match advice(status) {
            Some(advice) => on_one_line(&format!("{text}: {advice}")).into_owned(),
            None => on_one_line(text).into_owned(),
        },
    }
}

/// What stands beside LND's words.
fn advice(status: &Status) -> Option<String> {
    let advice = status.metadata().get_bin(ADVICE)?.to_bytes().ok()?;
    String::from_utf8(advice.to_vec()).ok()
}
