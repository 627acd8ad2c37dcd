//! The mempool over a restart, in the layout of Bitcoin Core's `mempool.dat` (its version 1, which Core reads too).
//!
//! | field | bytes, integers little-endian |
//! |---|---|
//! | version | 8: the number 1 |
//! | count | 8 |
//! | so many times | a transaction with its witnesses, 8 for when it came (seconds since 1970), 8 for its fee delta in satoshi |
//! | fee deltas of others | their number as a compact size; so many times 32 for the txid, 8 for the delta |
//! | transactions to announce | 1: none |
//!
//! What it promises: the file is replaced as a whole, so it is the old one or the new one. Whoever reads it judges every
//! transaction anew; a file that does not follow the layout to its end is read as if it were not there.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bitcoin::consensus::Decodable;
use bitcoin::consensus::encode::VarInt;
use bitcoin::{Transaction, Txid};

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
    /// What the user has added to its fee, in satoshi.
    pub delta: i64,
}

/// Replaces the file. Parents come before children. `others` are the fee deltas of transactions that are not among the
/// entries.
pub fn write<'a>(
    path: &Path,
    entries: impl ExactSizeIterator<Item = (&'a Transaction, u64, i64)>,
    others: &[(Txid, i64)],
) -> io::Result<()> {
    let unfinished = path.with_extension("dat.new");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    file.write_all(&VERSION.to_le_bytes())?;
    file.write_all(&u64::try_from(entries.len()).unwrap_or(u64::MAX).to_le_bytes())?;
    for (transaction, time, delta) in entries {
        file.write_all(&bitcoin::consensus::serialize(transaction))?;
        file.write_all(&time.to_le_bytes())?;
        file.write_all(&delta.to_le_bytes())?;
    }
    file.write_all(&bitcoin::consensus::serialize(&VarInt::from(others.len())))?;
    for (txid, delta) in others {
        file.write_all(&bitcoin::consensus::serialize(txid))?;
        file.write_all(&delta.to_le_bytes())?;
    }
    // Nothing to announce.
    file.write_all(&[0])?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(unfinished, path)
}

/// A file whose layout is whole; its transactions were not judged.
pub struct Reader {
    file: BufReader<File>,
    left: u64,
    /// Deltas that are still to be read; known once all transactions were.
    deltas_left: Option<u64>,
}

/// Opens the file and goes through it once, keeping nothing, so that a damage at its end is known at its beginning.
pub fn open(path: &Path) -> Result<Reader, FileError> {
    let mut reader = Reader::at_start(path)?;
    while let Some(kept) = reader.read()? {
        drop(kept);
    }
    while reader.read_delta()?.is_some() {}
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
        Ok(Self { file, left, deltas_left: None })
    }

    /// How many transactions are still to be read.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next transaction; `None` after the last.
    pub fn read(&mut self) -> Result<Option<Kept>, FileError> {
        let Some(left) = self.left.checked_sub(1) else {
            if self.deltas_left.is_none() {
                self.deltas_left = Some(decode::<VarInt>(&mut self.file)?.0);
            }
            return Ok(None);
        };
        self.left = left;
        let transaction = decode(&mut self.file)?;
        let time: u64 = decode(&mut self.file)?;
        let delta: i64 = decode(&mut self.file)?;
        Ok(Some(Kept { transaction, time, delta }))
    }

    /// The next fee delta of a transaction that is not in the file, once all that are were read; `None` after the last. What
    /// follows names transactions to announce, of which there is no use here.
    pub fn read_delta(&mut self) -> Result<Option<(Txid, i64)>, FileError> {
        let Some(left) = self.deltas_left.unwrap_or(0).checked_sub(1) else { return Ok(None) };
        self.deltas_left = Some(left);
        let txid = decode(&mut self.file)?;
        Ok(Some((txid, decode(&mut self.file)?)))
    }
}

fn decode<T: Decodable>(file: &mut BufReader<File>) -> Result<T, FileError> {
    T::consensus_decode(file).map_err(|error| FileError::Damaged(error.to_string()))
}

/// Where a node keeps it.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("mempool.dat")
}
