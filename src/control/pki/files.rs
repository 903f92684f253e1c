//! How certificates and keys reach the disk: never over something by accident, keys for their owner alone.

use super::authority::Pair;
use super::{Issued, certificate_file, key_file};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Fails when either file of a pair is there.
pub fn refuse_existing(dir: &Path, stem: &str) -> Result<(), String> {
    for file in [certificate_file(dir, stem), key_file(dir, stem)] {
        if file.symlink_metadata().is_ok() {
            return Err(format!(
                "{} is there already (hint: --force overwrites it)",
                file.display()
            ));
        }
    }
    Ok(())
}

/// Writes `DIR/STEM.key` (mode 0600), then `DIR/STEM.pem`.
pub fn write_pair(dir: &Path, stem: &str, pair: &Pair, force: bool) -> Result<Issued, String> {
    let issued = Issued {
        certificate: certificate_file(dir, stem),
        key: key_file(dir, stem),
    };
    write(&issued.key, pair.key.as_bytes(), 0o600, force)?;
    write(
        &issued.certificate,
        pair.certificate.as_bytes(),
        0o644,
        force,
    )?;
    Ok(issued)
}

/// Writes a whole file. With `force` it replaces an old one in one step, so that a reader sees the old or the new.
pub fn write(file: &Path, bytes: &[u8], mode: u32, force: bool) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("cannot write {}: {error}", file.display());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let target = if force {
        file.with_file_name(format!(".{name}.{}", std::process::id()))
    } else {
        file.to_path_buf()
    };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(&target).and_then(|mut opened| {
        opened.write_all(bytes)?;
        opened.sync_all()
    });
    if !force {
        return written.map_err(wrong);
    }
    let moved = written.and_then(|()| std::fs::rename(&target, file));
    if moved.is_err() {
        // The half-written file holds a key: it must not stay behind.
        let _ = std::fs::remove_file(&target);
    }
    moved.map_err(wrong)
}
