//! How a command is given a channel backup.

use std::{fs, path::PathBuf};

use clap::Args;

use super::CliError;

/// A backup from a file, or as hex.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct BackupArgs {
    /// The file, as `leyden exportchanbackup` or leydend itself (channel.backup) wrote it
    file: Option<PathBuf>,
    /// The file (lncli's name for it)
    #[arg(long, alias = "multi_file", value_name = "FILE")]
    multi_file: Option<PathBuf>,
    /// The file of one channel (lncli's name for it)
    #[arg(long, alias = "single_file", value_name = "FILE")]
    single_file: Option<PathBuf>,
    /// The backup of all channels in hex
    #[arg(long, alias = "multi_backup", value_name = "HEX")]
    multi_backup: Option<String>,
    /// The backup of one channel in hex
    #[arg(long, alias = "single_backup", value_name = "HEX")]
    single_backup: Option<String>,
}

impl BackupArgs {
    /// One channel's backup and that of all channels have the same form.
    pub(super) fn read(&self) -> Result<Vec<u8>, CliError> {
        if let Some(path) = self.file.as_ref().or(self.multi_file.as_ref()).or(self.single_file.as_ref()) {
            return read_file(path);
        }
        let text = self.multi_backup.as_ref().or(self.single_backup.as_ref()).map_or("", String::as_str);
        hex::decode(text.trim()).map_err(|_| CliError::Usage("the backup is not hex".to_owned()))
    }
}

pub(super) fn read_file(path: &PathBuf) -> Result<Vec<u8>, CliError> {
    fs::read(path).map_err(|source| CliError::Io { what: path.display().to_string(), source })
}
