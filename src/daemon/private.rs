//! What the daemon writes is its user's alone: preimages, macaroons, keys, who pays whom.
//!
//! New files and folders are made so by the process's mask. What an earlier version left open to others is tightened at
//! the start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use crate::config::Layout;

/// From here on nothing that this process makes can be read by others.
pub fn mask_new_files() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Takes from others what they can read of the data directory.
#[cfg(unix)]
pub fn tighten(layout: &Layout) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    const ANYBODY: u32 = 0o077;
    const STICKY: u32 = 0o1000;
    let tighten = |path: &Path, metadata: &fs::Metadata| -> io::Result<bool> {
        let mode = metadata.mode() & 0o7777;
        if mode & ANYBODY == 0 {
            return Ok(false);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(mode & !ANYBODY)).map(|()| true)
    };
    let root = fs::metadata(layout.root())?;
    if root.mode() & STICKY != 0 || root.uid() != rustix::process::geteuid().as_raw() {
        // Somebody else's, or everybody's, such as /tmp: only what lies in it is ours.
        warn!(folder = %layout.root().display(), "the data directory is not this user's alone: others see what lies in it");
    } else if tighten(layout.root(), &root)? {
        info!(folder = %layout.root().display(), "others could look into the data directory, and cannot any more");
    }
    let mut open = 0_usize;
    let mut waiting: Vec<PathBuf> = layout.own_paths();
    while let Some(path) = waiting.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_symlink() {
            continue;
        }
        open += usize::from(tighten(&path, &metadata)?);
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    if open > 0 {
        info!(files = open, "files and folders in the data directory were open to others, and are not any more");
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn tighten(_layout: &Layout) -> io::Result<()> {
    Ok(())
}
