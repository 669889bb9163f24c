//! A document root's own symbolic links, such as `current -> releases/7`.
//!
//! Deploys switch a site by such a link, so a document root may be one or lie below one. It is
//! resolved to a path without links, on which everything then works as on any other: what has
//! become a link meanwhile is refused. The site's user may have made the link, so it is followed
//! only
//! * downwards, to a directory below the one it lies in: never into another site;
//! * if root made it, or whoever owns the directory the path ends in.

use std::path::{Component, Path, PathBuf};

use super::fs::{FsError, Roots};

/// Links followed at most for one path.
const LINKS_MAX: usize = 8;
const ROOT_UID: u32 = 0;

/// The same directory by a path without links.
///
/// # Errors
/// Any [`FsError`]; `Symlink` for a link that is not followed.
pub fn resolve(roots: &Roots, asked: &Path) -> Result<PathBuf, FsError> {
    let refused = || FsError::Symlink { path: asked.to_owned() };
    let mut path = asked.to_owned();
    let mut makers = Vec::new();
    while makers.len() <= LINKS_MAX {
        match roots.dir(&path) {
            Ok(dir) => {
                let owner = dir.owner()?;
                let trusted = makers.iter().all(|maker| [ROOT_UID, owner].contains(maker));
                return if trusted { Ok(path) } else { Err(refused()) };
            }
            Err(FsError::Symlink { .. }) => {
                let (next, maker) = follow(roots, &path)?.ok_or_else(refused)?;
                path = next;
                makers.push(maker);
            }
            Err(error) => return Err(error),
        }
    }
    Err(refused())
}

/// The path with its first link replaced by what that names, and who made the link; `None` when
/// it does not lead downwards.
fn follow(roots: &Roots, path: &Path) -> Result<Option<(PathBuf, u32)>, FsError> {
    let mut levels: Vec<&Path> = path.ancestors().collect();
    levels.reverse();
    for level in levels {
        let place = match roots.place(level) {
            // A root itself is local policy: what it is or leads through is trusted.
            Err(FsError::Outside { .. }) => continue,
            other => other?,
        };
        let Some((target, maker)) = place.link()? else { continue };
        let parent = place.dir().path();
        // Without `..` a path says where it leads whatever lies on its way.
        let up = target.components().any(|part| part == Component::ParentDir);
        let target: PathBuf = parent.join(target).components().collect();
        if up || target == parent || !target.starts_with(parent) {
            return Ok(None);
        }
        let rest = path.strip_prefix(level).unwrap_or(Path::new(""));
        return Ok(Some((target.join(rest).components().collect(), maker)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, lchown, symlink};

    use super::*;

    fn site() -> (tempfile::TempDir, PathBuf, Roots) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        for dir in ["shop/releases/1/public", "shop/releases/2/public", "blog/public"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        let roots = Roots::new(std::slice::from_ref(&root));
        (directory, root, roots)
    }

    #[test]
    fn a_link_downwards_is_followed_wherever_it_stands_in_the_path() {
        let (_directory, root, roots) = site();
        symlink("releases/2", root.join("shop/current")).unwrap();
        symlink(root.join("shop/releases/1/public"), root.join("shop/public")).unwrap();
        symlink("./current", root.join("shop/live")).unwrap();
        for (asked, expected) in [
            ("shop/current/public", "shop/releases/2/public"),
            ("shop/current", "shop/releases/2"),
            ("shop/public", "shop/releases/1/public"),
            ("shop/live/public", "shop/releases/2/public"),
            ("blog/public", "blog/public"),
        ] {
            let found = resolve(&roots, &root.join(asked)).unwrap();
            assert_eq!(found, root.join(expected), "{asked}");
            assert!(roots.dir(&found).is_ok(), "{asked}");
        }
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_refused() {
        let (_directory, root, roots) = site();
        let links = [
            ("../blog/public".to_owned(), "shop/a"),
            (root.join("blog/public").display().to_string(), "shop/b"),
            ("releases/../../blog".to_owned(), "shop/c"),
            ("/etc".to_owned(), "shop/d"),
            (".".to_owned(), "shop/e"),
            ("g".to_owned(), "shop/f"),
            ("f".to_owned(), "shop/g"),
        ];
        for (target, made) in &links {
            symlink(target, root.join(made)).unwrap();
        }
        for (target, made) in &links {
            let refused = resolve(&roots, &root.join(made));
            assert!(matches!(refused, Err(FsError::Symlink { .. })), "{target}: {refused:?}");
        }
        symlink("releases/9", root.join("shop/broken")).unwrap();
        let missing = resolve(&roots, &root.join("shop/broken/public"));
        assert!(matches!(missing, Err(FsError::Missing { .. })), "{missing:?}");
        let outside = resolve(&roots, Path::new("/etc"));
        assert!(matches!(outside, Err(FsError::Outside { .. })), "{outside:?}");
    }

    #[test]
    fn a_link_to_what_is_another_user_s_is_refused() {
        let (_directory, root, roots) = site();
        let (link, release) = (root.join("shop/current"), root.join("shop/releases/1"));
        symlink("releases/1", &link).unwrap();
        if lchown(&link, Some(4711), None).is_err() {
            // Only root can make links for others; whoever else runs this has nobody to be.
            return;
        }
        assert!(matches!(resolve(&roots, &link), Err(FsError::Symlink { .. })));
        chown(&release, Some(4711), None).unwrap();
        assert_eq!(resolve(&roots, &link).unwrap(), release);
    }
}
