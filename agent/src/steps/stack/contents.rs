//! What lies below a path of a bundle, by its manifest.

use std::collections::BTreeMap;
use std::path::Path;

use hostler_protocol::bundle::{File, FileKind, Manifest};
use sha2::{Digest as _, Sha256};

/// Links followed on the way to one path.
const HOPS_MAX: usize = 40;

/// A manifest, and what its links name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Contents<'a> {
    pub(super) manifest: &'a Manifest,
    /// Targets of links, by their paths.
    pub(super) links: &'a BTreeMap<String, String>,
}

impl Contents<'_> {
    /// A digest of all that is at and below a path: names, kinds and contents. `None`: nothing is.
    pub(super) fn digest(&self, path: &str) -> Option<String> {
        let path = self.resolve(path);
        let mut sum = Sha256::new();
        let mut found = false;
        for file in self.manifest.files.iter().filter(|file| is_below(&file.path, &path)) {
            found = true;
            let File { path, kind, sha256, .. } = file;
            // Unambiguous: no path holds a NUL.
            sum.update(format!("{path}\0{kind:?}\0{sha256}\n"));
        }
        found.then(|| hex::encode(sum.finalize()))
    }

    /// Which of these files are at or below a path.
    pub(super) fn below<'f>(
        &self,
        path: &str,
        files: impl IntoIterator<Item = &'f String>,
    ) -> Vec<&'f str> {
        let path = self.resolve(path);
        files.into_iter().map(String::as_str).filter(|file| is_below(file, &path)).collect()
    }

    /// Whether one of these files is at the path itself.
    pub(super) fn is_at(&self, path: &str, files: &[&str]) -> bool {
        files.contains(&self.resolve(path).as_str())
    }

    /// The path itself, with the bundle's links followed.
    fn resolve(&self, path: &str) -> String {
        let mut done: Vec<String> = Vec::new();
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut hops = 0;
        while let Some(part) = todo.pop() {
            match part.as_str() {
                "" | "." => {}
                ".." => {
                    done.pop();
                }
                _ => {
                    done.push(part);
                    if let Some(target) = self.links.get(&done.join("/"))
                        && hops < HOPS_MAX
                    {
                        hops += 1;
                        done.pop();
                        todo.extend(target.split('/').rev().map(str::to_owned));
                    }
                }
            }
        }
        done.join("/")
    }
}

/// What a manifest's links name; a blob that cannot be read is left out: placing will say so.
pub(super) fn links(
    manifest: &Manifest,
    blob: impl Fn(&str) -> std::path::PathBuf,
) -> BTreeMap<String, String> {
    let links = manifest.files.iter().filter(|file| file.kind == FileKind::Symlink);
    let read = |file: &File| {
        let target = std::fs::read_to_string::<&Path>(blob(&file.sha256).as_ref()).ok()?;
        Some((file.path.clone(), target))
    };
    links.filter_map(read).collect()
}

/// Whether a path is `above`, or below it; everything is below the empty path.
fn is_below(path: &str, above: &str) -> bool {
    above.is_empty()
        || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &[(&str, FileKind, u8)]) -> Manifest {
        let file = |(path, kind, content): &(&str, FileKind, u8)| File {
            path: (*path).to_owned(),
            kind: *kind,
            sha256: format!("{content:02x}").repeat(32),
            bytes: 1,
        };
        Manifest { files: files.iter().map(file).collect() }
    }

    #[test]
    fn a_digest_is_of_what_is_below_and_of_nothing_else() {
        let none = BTreeMap::new();
        let one = manifest(&[
            ("conf/a", FileKind::File, 1),
            ("conf/b", FileKind::File, 2),
            ("config", FileKind::File, 3),
        ]);
        let two = manifest(&[
            ("conf/a", FileKind::File, 1),
            ("conf/b", FileKind::File, 2),
            ("config", FileKind::File, 4),
        ]);
        let (one, two) =
            (Contents { manifest: &one, links: &none }, Contents { manifest: &two, links: &none });
        assert_eq!(one.digest("conf"), two.digest("conf"));
        assert_ne!(one.digest("config"), two.digest("config"));
        assert_ne!(one.digest(""), two.digest(""));
        assert_eq!(one.digest("absent"), None);
        assert_ne!(one.digest("conf/a"), one.digest("conf/b"));
    }

    #[test]
    fn links_lead_to_what_they_name() {
        let files = manifest(&[
            ("shares/site.conf", FileKind::File, 1),
            ("stack/conf", FileKind::Symlink, 2),
        ]);
        let links = BTreeMap::from([("stack/conf".to_owned(), "../shares".to_owned())]);
        let contents = Contents { manifest: &files, links: &links };
        assert_eq!(contents.digest("stack/conf"), contents.digest("shares"));
        let changed = ["shares/site.conf".to_owned(), "other".to_owned()];
        assert_eq!(contents.below("stack/conf", &changed), ["shares/site.conf"]);
    }

    #[test]
    fn a_link_to_itself_ends() {
        let files = manifest(&[("a", FileKind::Symlink, 1)]);
        let links = BTreeMap::from([("a".to_owned(), "a".to_owned())]);
        assert!(Contents { manifest: &files, links: &links }.digest("a").is_some());
    }
}
