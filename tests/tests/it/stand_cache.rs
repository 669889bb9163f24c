//! The cache files of a stand's sites, made and changed by hand.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, chown};
use std::path::Path;

use hostler_protocol::job::EnvironmentDoc;
use hostler_tests::bench::cache_files;
use hostler_tests::bench::clock::wall_secs;

use crate::stand::Stand;

const VALID_AT: u64 = 8;
const DATE_AT: u64 = 40;

impl Stand {
    /// Stores an entry of that key, fresh for a day.
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970 fit")]
    pub(crate) fn store(&self, environment: &EnvironmentDoc, key: &str) {
        let cache_dir = &environment.fastcgi.as_ref().unwrap().cache_dir;
        let path = cache_files::path(Path::new(cache_dir), key);
        let (second, cache_dir) = (path.parent().unwrap(), Path::new(cache_dir));
        if !second.exists() {
            std::fs::create_dir_all(second).unwrap();
            // nginx's workers store beside what is put here.
            let owner = cache_dir.metadata().unwrap();
            for made in [second.parent().unwrap(), second] {
                chown(made, Some(owner.uid()), Some(owner.gid())).unwrap();
            }
        }
        std::fs::write(path, cache_files::entry(key, b"made by hand", wall_secs() as i64)).unwrap();
    }

    /// Stores that many pages: `/page-0` and so on.
    pub(crate) fn fill(&self, environment: &EnvironmentDoc, count: usize) {
        for number in 0..count {
            let uri = format!("/page-{number}");
            self.store(environment, &cache_files::key(&environment.domain, &uri));
        }
    }

    /// Makes the entry of a page that much older.
    pub(crate) fn age(&self, environment: &EnvironmentDoc, uri: &str, secs: i64) {
        let cache_dir = &environment.fastcgi.as_ref().unwrap().cache_dir;
        let key = cache_files::key(&environment.domain, uri);
        let path = cache_files::path(Path::new(cache_dir), &key);
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        for at in [VALID_AT, DATE_AT] {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, at).unwrap();
            let older = i64::from_le_bytes(bytes) - secs;
            file.write_all_at(&older.to_le_bytes(), at).unwrap();
        }
    }

    /// A visitor's HEAD request.
    pub(crate) fn head(&self, environment: &EnvironmentDoc, path: &str) {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.nginx.port)).unwrap();
        let request = format!("HEAD {path} HTTP/1.0\r\nHost: {}\r\n\r\n", environment.domain);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
    }
}
