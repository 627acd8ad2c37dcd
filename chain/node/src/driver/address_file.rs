//! The address book over a restart: a text file with a line for each address.
//!
//! ```text
//!   leyden addresses 1
//!   8.8.8.8:8333 1800000000 0 0 9      address, last seen, failed attempts, last attempt (seconds since 1970), services
//!   end 1                              how many there are
//! ```
//!
//! It is replaced as a whole. A file that does not follow this to its end is read as if it were not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use bitcoin::p2p::ServiceFlags;
use leyden_net::KnownAddress;

const FIRST_LINE: &str = "leyden addresses 1";
/// Far more than an address book holds.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    #[error("there is none")]
    Absent,
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is damaged, or of another program")]
    Damaged,
}

pub(super) fn read(path: &Path) -> Result<Vec<KnownAddress>, FileError> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => FileError::Absent,
        _ => FileError::Unreadable(error),
    })?;
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => FileError::Damaged,
        _ => FileError::Unreadable(error),
    })?;
    parse(&text).ok_or(FileError::Damaged)
}

fn parse(text: &str) -> Option<Vec<KnownAddress>> {
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let mut known = Vec::new();
    for line in lines {
        if let Some(count) = line.strip_prefix("end ") {
            return (count.parse() == Ok(known.len())).then_some(known);
        }
        let mut words = line.split(' ');
        let one = KnownAddress {
            address: words.next()?.parse().ok()?,
            last_seen: seconds(words.next()?)?,
            failures: words.next()?.parse().ok()?,
            last_try: seconds(words.next()?)?,
            // Files of older versions do not tell it.
            services: words.next().map_or(Some(0), |word| word.parse().ok()).map(ServiceFlags::from)?,
        };
        known.push(one);
    }
    None
}

fn seconds(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_secs)
}

pub(super) fn write(path: &Path, known: impl Iterator<Item = KnownAddress>) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = BufWriter::new(File::create(&unfinished)?);
    writeln!(file, "{FIRST_LINE}")?;
    let mut count = 0usize;
    for one in known {
        let KnownAddress { address, last_seen, failures, last_try, services } = one;
        let (last_seen, last_try, services) = (last_seen.as_secs(), last_try.as_secs(), services.to_u64());
        writeln!(file, "{address} {last_seen} {failures} {last_try} {services}")?;
        count = count.saturating_add(1);
    }
    writeln!(file, "end {count}")?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addresses");
        assert!(matches!(read(&path), Err(FileError::Absent)));
        let known: Vec<KnownAddress> = (1..5u8)
            .map(|number| KnownAddress {
                address: if number == 1 { "[2001:db8::1]:7".parse().unwrap() } else { ([number; 4], 8333).into() },
                last_seen: Duration::from_secs(1_800_000_000),
                failures: u32::from(number),
                last_try: Duration::from_secs(u64::from(number)),
                services: ServiceFlags::from(1 << number),
            })
            .collect();
        write(&path, known.iter().copied()).unwrap();
        assert_eq!(read(&path).unwrap(), known);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, "leyden addresses 1\n8.8.8.8:8333 1800000000 0 0\nend 1\n").unwrap();
        assert_eq!(read(&path).unwrap()[0].services, ServiceFlags::NONE, "an older version did not tell them");
        for damaged in
            [&text[..text.len() - 7], &text[3..], "", &text.replace("8333", "a port"), &text.replace("end 4", "end 5")]
        {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(read(&path), Err(FileError::Damaged)), "{damaged}");
        }
        fs::write(&path, [0xff; 100]).unwrap();
        assert!(matches!(read(&path), Err(FileError::Damaged)));
    }
}
