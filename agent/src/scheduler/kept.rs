//! The file that says which jobs were observed, below the state directory: replaced as a whole, so that it is never half
//! written. What is in it is `model::jobs::Once`'s matter.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::model::jobs::Once;

const NAME: &str = "jobs";
/// The largest file that is read: twice what the most jobs take.
const MOST_BYTES: u64 = 16 << 20;

/// Where it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    file: PathBuf,
    fresh: PathBuf,
}

impl Kept {
    /// Below `state_dir`, which is made if it is not there, for its own user alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn below(state_dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
        Ok(Self { file: state_dir.join(NAME), fresh: state_dir.join(format!("{NAME}.new")) })
    }

    /// What was kept; nothing observed if there is no file.
    ///
    /// # Errors
    /// When it cannot be read, or is none of ours.
    pub fn load(&self) -> io::Result<Once> {
        let size = match fs::metadata(&self.file) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Once::default()),
            Err(error) => return Err(error),
        };
        if size > MOST_BYTES {
            return Err(io::Error::other(format!("has {size} bytes, wanted at most {MOST_BYTES}")));
        }
        Once::from_bytes(&fs::read(&self.file)?).map_err(io::Error::other)
    }

    /// Keeps this instead.
    ///
    /// # Errors
    /// When it cannot be written; what was kept before stays then.
    pub fn save(&self, once: &Once) -> io::Result<()> {
        // What a killed agent left of its own file may have other permissions.
        match fs::remove_file(&self.fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.fresh)?;
        file.write_all(&once.to_bytes())?;
        file.sync_data()?;
        fs::rename(&self.fresh, &self.file)?;
        // The new name is on disk only with the directory.
        self.file.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::jobs::Job;

    #[test]
    fn what_is_saved_is_loaded_and_for_its_user_alone() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::below(&directory.path().join("a/b")).unwrap();
        let mut once = kept.load().unwrap();
        assert_eq!(once, Once::default());
        once.job(&Job { key: Some([1; 16]), created: Some(1), started: Some(5), ..Job::default() }, 9);
        // A file that a killed agent left half written.
        fs::write(&kept.fresh, b"half").unwrap();
        kept.save(&once).unwrap();
        assert_eq!(kept.load().unwrap(), once);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(kept.path()), mode(&directory.path().join("a/b"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(directory.path().join("a/b")).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_refused_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::below(directory.path()).unwrap();
        fs::write(kept.path(), b"something else").unwrap();
        assert_eq!(kept.load().unwrap_err().to_string(), "is not what this agent writes");
        assert_eq!(fs::read(kept.path()).unwrap(), b"something else");
    }
}
