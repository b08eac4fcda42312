//! The root on disk, or in memory with its certificate on disk.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use mesh_api::identity::TrustDomain;
use time::OffsetDateTime;

use super::root::Root;
use crate::file;

/// A root for this process only. Its certificate is written to `root.pem` in the folder, its key nowhere.
///
/// # Errors
/// When the folder holds a root that lasts, or can't be written.
pub fn ephemeral(folder: &Path, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Root> {
    make(folder)?;
    if folder.join("root.key").exists() {
        bail!(
            "{} holds a root that lasts: leave --ephemeral-ca out, or choose another --state",
            folder.display()
        );
    }
    let root = Root::generate(trust_domain, now)?;
    write_certificate(folder, &root)?;
    Ok(root)
}

/// The root of the folder, which is made when there is none.
///
/// # Errors
/// When the root can't be read or written, when others may read its key, or when it does not fit the trust domain.
pub fn open_or_create(folder: &Path, trust_domain: &TrustDomain, now: OffsetDateTime) -> Result<Root> {
    make(folder)?;
    let key_file = folder.join("root.key");
    match file::read_private(&key_file) {
        Ok(key) => {
            let file = folder.join("root.pem");
            let pem = fs::read(&file).with_context(|| format!("read the root {}", file.display()))?;
            Root::from_pem(&pem, &key, trust_domain, now)
                .with_context(|| format!("the root in {} can't be used", folder.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let root = Root::generate(trust_domain, now)?;
            // The key comes last: a folder with a key holds a whole root, whatever happened in between.
            write_certificate(folder, &root)?;
            let new = folder.join("root.key.new");
            let _ = fs::remove_file(&new);
            file::create(&new, root.key_pem().as_bytes(), file::PRIVATE)
                .and_then(|()| fs::hard_link(&new, &key_file))
                .and_then(|()| fs::remove_file(&new))
                .and_then(|()| file::sync_folder(&key_file))
                .with_context(|| format!("write the root's key {}", key_file.display()))?;
            Ok(root)
        }
        Err(error) => Err(error).with_context(|| format!("read the root's key {}", key_file.display())),
    }
}

fn make(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))
}

fn write_certificate(folder: &Path, root: &Root) -> Result<()> {
    let file = folder.join("root.pem");
    file::replace(&file, root.certificate_pem().as_bytes(), file::PUBLIC)
        .with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::root::LIFETIME_DAYS;
    use std::os::unix::fs::PermissionsExt;
    use time::Duration;

    fn domain(text: &str) -> TrustDomain {
        text.parse().unwrap()
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn a_root_lasts_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let first = open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        let again = open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        assert_eq!(first.expiry(), again.expiry());
        assert_eq!((first.expiry() - now()).whole_days(), LIFETIME_DAYS);
        let mode = fs::metadata(dir.path().join("root.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains("key"));
    }

    #[test]
    fn a_root_that_does_not_fit_is_refused() {
        let open = |dir: &Path, trust: &str, at| {
            let error = open_or_create(dir, &domain(trust), at).unwrap_err();
            format!("{error:#}")
        };
        let dir = tempfile::tempdir().unwrap();
        open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        assert!(open(dir.path(), "other.example", now()).contains("not of trust domain other.example"));
        assert!(
            open(
                dir.path(),
                "mesh.local",
                now() + Duration::days(LIFETIME_DAYS + 1)
            )
            .contains("ended on")
        );

        let key = dir.path().join("root.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("may be read by others"));

        let other = tempfile::tempdir().unwrap();
        open_or_create(other.path(), &domain("mesh.local"), now()).unwrap();
        fs::copy(other.path().join("root.key"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("does not belong to its key"));
        fs::write(&key, "rubbish").unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("the private key can't be read"));
        fs::remove_file(dir.path().join("root.pem")).unwrap();
        assert!(open(dir.path(), "mesh.local", now()).contains("read the root"));
    }

    #[test]
    fn a_root_in_memory_leaves_no_key_and_never_covers_one() {
        let dir = tempfile::tempdir().unwrap();
        ephemeral(dir.path(), &domain("mesh.local"), now()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        open_or_create(dir.path(), &domain("mesh.local"), now()).unwrap();
        let error = ephemeral(dir.path(), &domain("mesh.local"), now()).unwrap_err();
        assert!(error.to_string().contains("holds a root that lasts"), "{error}");
    }
}
