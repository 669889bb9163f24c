//! A scan of all headers as one would write it in C: one thread, one small read per file. Compiled
//! when the benchmark runs.

use std::path::{Path, PathBuf};

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::process::run;
use crate::servers::{command, write};

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static unsigned long entries, matching, unlinked;

static void file(int dir, const char *name, const char *part, int removing) {
    unsigned char head[513];
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t length = pread(fd, head, 512, 0);
    close(fd);
    uint64_t version;
    if (length < 343) return;
    memcpy(&version, head, 8);
    if (version != 5 || memcmp(head + 336, "\nKEY: ", 6)) return;
    head[length] = 0;
    entries++;
    char *end = strchr((char *)head + 342, '\n');
    if (end) *end = 0;
    if (!*part || !strstr((char *)head + 342, part)) return;
    matching++;
    if (removing && unlinkat(dir, name, 0) == 0) unlinked++;
}

static void walk(int at, const char *name, int depth, const char *part, int removing) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return;
    DIR *dir = fdopendir(fd);
    if (!dir) { close(fd); return; }
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        if (entry->d_name[0] == '.') continue;
        if (depth < 2) walk(fd, entry->d_name, depth + 1, part, removing);
        else file(fd, entry->d_name, part, removing);
    }
    closedir(dir);
}

int main(int count, char **words) {
    if (count != 4) return 2;
    walk(AT_FDCWD, words[1], 0, words[2], words[3][0] == 'r');
    printf("%lu %lu %lu\n", entries, matching, unlinked);
    return 0;
}
"#;

/// The compiled program.
#[derive(Debug)]
pub struct HeaderScan(PathBuf);

impl HeaderScan {
    /// Compiles it in `dir`.
    ///
    /// # Errors
    /// If there is no compiler.
    pub fn compile(dir: &Path) -> Res<Self> {
        let (source, program) = (dir.join("header_scan.c"), dir.join("header_scan"));
        write(&source, SOURCE)?;
        run(command("cc").args(["-O2", "-o"]).arg(&program).arg(&source))?;
        Ok(Self(program))
    }

    /// Reads all headers; seconds, and how many entries there were.
    ///
    /// # Errors
    /// If it fails.
    pub fn count(&self, cache: &Path) -> Res<(f64, u64)> {
        self.run(cache, "", false).map(|(secs, entries, _)| (secs, entries))
    }

    /// Reads all headers and unlinks the entries whose key has that part; seconds, and how many.
    ///
    /// # Errors
    /// If it fails.
    pub fn remove(&self, cache: &Path, part: &str) -> Res<(f64, u64)> {
        self.run(cache, part, true).map(|(secs, _, removed)| (secs, removed))
    }

    fn run(&self, cache: &Path, part: &str, removing: bool) -> Res<(f64, u64, u64)> {
        let watch = Watch::start();
        let output = run(command(&self.0).arg(cache).arg(part).arg(if removing {
            "remove"
        } else {
            "count"
        }))?;
        let secs = watch.secs();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut figures = text.split_whitespace().map(|word| word.parse::<u64>());
        match (figures.next(), figures.next(), figures.next()) {
            (Some(Ok(entries)), Some(Ok(_)), Some(Ok(removed))) => Ok((secs, entries, removed)),
            _ => Err(format!("header_scan printed {text}").into()),
        }
    }
}
