//! A backup that is longer than a frame.

use leyden_channels::types::CommitmentNumber;

use super::{BackupBody, BackupPart, BackupRest, MAX_BODY};
use crate::{
    appointment::ChannelName,
    codec::{ReadError, decode},
    mark::Mark,
};

/// Puts a backup together that came in several frames. One a connection.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: Option<BackupPart>,
}

/// Why parts are no backup. The connection ends: what follows cannot be told apart from the backup's rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the error text of each variant says it")]
pub enum AssemblyError {
    #[error("a backup of {got} bytes is longer than {MAX_BODY}")]
    TooLong { got: u32 },
    #[error("a backup has {extra} bytes more than it said")]
    TooMuch { extra: usize },
    #[error("a backup was not finished before the next message")]
    Unfinished,
    #[error("the rest of a backup came without its beginning")]
    NotBegun,
}

/// A whole backup, or one whose body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// Whose backup it is.
    pub channel: ChannelName,
    /// Of which state.
    pub number: CommitmentNumber,
    /// The newest one of a channel is shown when the client asks.
    pub mark: Mark,
    /// What was in it.
    pub body: Result<BackupBody, ReadError>,
}

impl Assembler {
    /// Whether a message other than [`BackupRest`] may come now.
    pub fn is_idle(&self) -> bool {
        self.begun.is_none()
    }

    /// The first part: the backup itself, if that is all of it.
    pub fn begin(&mut self, part: BackupPart) -> Result<Option<Assembled>, AssemblyError> {
        if self.begun.is_some() {
            return Err(AssemblyError::Unfinished);
        }
        let total = usize::try_from(part.total).unwrap_or(usize::MAX);
        if total > MAX_BODY {
            return Err(AssemblyError::TooLong { got: part.total });
        }
        self.begun = Some(part);
        self.finish()
    }

    /// The next part: the backup, if it was the last.
    pub fn rest(&mut self, rest: &BackupRest) -> Result<Option<Assembled>, AssemblyError> {
        let part = self.begun.as_mut().ok_or(AssemblyError::NotBegun)?;
        part.bytes.extend_from_slice(&rest.bytes);
        self.finish()
    }

    fn finish(&mut self) -> Result<Option<Assembled>, AssemblyError> {
        let is_whole = |part: &mut BackupPart| part.bytes.len() >= part.total as usize;
        let Some(part) = self.begun.take_if(is_whole) else { return Ok(None) };
        match part.bytes.len().saturating_sub(part.total as usize) {
            0 => {
                let BackupPart { channel, number, mark, bytes, .. } = part;
                Ok(Some(Assembled { channel, number, mark, body: decode(&bytes) }))
            }
            extra => Err(AssemblyError::TooMuch { extra }),
        }
    }
}
