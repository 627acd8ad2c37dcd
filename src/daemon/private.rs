//! What the daemon writes is its user's alone: preimages, macaroons, keys, who pays whom.
//!
//! New files and folders are made so by the process's mask. What an earlier version left open to others is tightened at
//! the start.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Layout;

/// From here on nothing that this process makes can be read by others.
pub(super) fn mask_new_files() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Takes the data directory for this process. A client that looks whether somebody has it holds it for a moment, so it is
/// tried more than once.
pub(super) async fn lock(file: &File) -> Result<(), TryLockError> {
    const PAUSE: Duration = Duration::from_millis(20);
    const ATTEMPTS: u32 = 10;
    for _ in 1..ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(PAUSE).await,
            taken => return taken,
        }
    }
    file.try_lock()
}

/// Takes from others what they can read of the data directory.
#[cfg(unix)]
pub(super) fn tighten(layout: &Layout) -> io::Result<()> {
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
        warn!(folder = %layout.root().display(), "other users can read the data directory");
    } else if tighten(layout.root(), &root)? {
        info!(folder = %layout.root().display(), "other users could read the data directory; its permissions are corrected");
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
        info!(files = open, "other users could read files in the data directory; their permissions are corrected");
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn tighten(_layout: &Layout) -> io::Result<()> {
    Ok(())
}
