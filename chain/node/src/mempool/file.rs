//! The mempool over a restart, in the layout of Bitcoin Core's `mempool.dat` (its version 1, which Core reads too).
//!
//! | field | bytes, integers little-endian |
//! |---|---|
//! | version | 8: the number 1 |
//! | count | 8 |
//! | so many times | a transaction with its witnesses, 8 for when it came (seconds since 1970), 8 for a fee delta: 0 |
//! | fee deltas of others | 1: none |
//! | transactions to announce | 1: none |
//!
//! What it promises: the file is replaced as a whole, so it is the old one or the new one. Whoever reads it judges every
//! transaction anew; a file that does not follow the layout to its end is read as if it were not there.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bitcoin::Transaction;
use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::VarInt;

/// The only version that is written, and the only one that is read.
const VERSION: u64 = 1;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none.
    #[error("there is none")]
    Absent,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// It does not follow the layout.
    #[error("it is damaged, or of another program: {0}")]
    Damaged(String),
}

/// A transaction of the file, and when it came.
pub struct Kept {
    /// With its witnesses.
    pub transaction: Transaction,
    /// Seconds since 1970.
    pub time: u64,
}

/// Replaces the file. Parents come before children.
pub fn write<'a>(path: &Path, entries: impl ExactSizeIterator<Item = (&'a Transaction, u64)>) -> io::Result<()> {
    let unfinished = path.with_extension("dat.new");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&u64::try_from(entries.len()).unwrap_or(u64::MAX).to_le_bytes())?;
    for (transaction, time) in entries {
        file.write_all(&bitcoin::consensus::serialize(transaction))?;
        file.write_all(&time.to_le_bytes())?;
        file.write_all(&[0; 8])?;
    }
    // No fee deltas of others, nothing to announce.
    file.write_all(&[0; 2])?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(unfinished, path)
}

/// A file whose layout is whole; its transactions were not judged.
pub struct Reader {
    file: BufReader<File>,
    left: u64,
}

/// Opens the file and goes through it once, keeping nothing, so that a damage at its end is known at its beginning.
pub fn open(path: &Path) -> Result<Reader, FileError> {
    let mut reader = Reader::at_start(path)?;
    while let Some(kept) = reader.read()? {
        drop(kept);
    }
    Reader::at_start(path)
}

impl Reader {
    fn at_start(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => FileError::Absent,
            _ => FileError::Unreadable(error),
        })?;
        let mut file = BufReader::new(file);
        let version: u64 = decode(&mut file)?;
        if version != VERSION {
            return Err(FileError::Damaged(format!("its version is {version} instead of {VERSION}")));
        }
        let left = decode(&mut file)?;
        Ok(Self { file, left })
    }

    /// How many transactions are still to be read.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next transaction; `None` after the last.
    pub fn read(&mut self) -> Result<Option<Kept>, FileError> {
        let Some(left) = self.left.checked_sub(1) else {
            // Deltas name txids and amounts, the last list txids: both are of no use here, but must be there.
            decode::<VarInt>(&mut self.file)?;
            return Ok(None);
        };
        self.left = left;
        let transaction = decode(&mut self.file)?;
        let time: u64 = decode(&mut self.file)?;
        let _delta: u64 = decode(&mut self.file)?;
        Ok(Some(Kept { transaction, time }))
    }
}

fn decode<T: Decodable>(file: &mut BufReader<File>) -> Result<T, FileError> {
    T::consensus_decode(file).map_err(|error| FileError::Damaged(error.to_string()))
}

/// Where a node keeps it.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("mempool.dat")
}
