//! The desired state read from git: cold, without a change, after one commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hostler_controller::app::desired::{Desired, Keeping, facts};
use hostler_controller::bundles::Bundles;
use hostler_controller::clock::Clock;
use hostler_controller::domain::stack::discover::{self, Discovery};
use hostler_controller::git::{Fetched, GitSettings, Mirror};

use crate::bench::clock::Watch;
use crate::bench::report::{Row, Table};
use crate::bench::rivals::git::GitCli;
use crate::bench::stacks::Stacks;
use crate::bench::stats::{Samples, median, time, times};
use crate::bench::{Res, Scale};
use crate::servers::git::{Break, GitServer, Proxy};

/// Aims: of 200 stacks, of 2,000, and of any number.
const COLD_SECS_MAX: f64 = 2.0;
const SNAPSHOT_SECS_MAX: f64 = 0.050;
const UNCHANGED_TIMES_MAX: f64 = 1.2;

pub(super) fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let sizes: &[usize] = if scale.quick { &[50, 200] } else { &[200, 2_000, 10_000] };
    let server = GitServer::https(None)?;
    let mut table = Table::new("Desired state from git over HTTPS: stacks of four files each");
    for count in sizes {
        let stacks = Stacks::create(&server, *count)?;
        let dir = dir.join(count.to_string());
        let mut sized = Sized { server: &server, stacks, dir, scale };
        sized.measure(&mut table)?;
    }
    table.note(
        "The server is nginx with `git http-backend` on the same machine, so that most of each \
         request is its work, for both sides alike. A refresh is the fetch, the discovery of all \
         stacks with every fingerprint (compose file, directory, bundle) and what is kept of each; \
         the rows in the database come after it. The snapshot is the same without the fetch, from \
         nothing. Git's commands are `git fetch --depth 1`, `git ls-tree -r`, `git archive` of the \
         compose files and `sha256sum` of them in one shell script, and `git ls-remote`. Bytes are \
         those of the TCP connection, both ways, TLS and all: ours stays open between two looks.",
    );
    if cfg!(debug_assertions) {
        table.note("**A debug build: times say nothing.**");
    }
    Ok(table)
}

/// One repository and what is measured on it.
struct Sized<'a> {
    server: &'a GitServer,
    stacks: Stacks,
    dir: PathBuf,
    scale: Scale,
}

/// A mirror and what was found in it last, as the controller has them.
struct Reader {
    mirror: Mirror,
    settings: GitSettings,
    desired: Desired,
    before: Option<Discovery>,
}

impl Reader {
    fn open(dir: &Path, settings: GitSettings) -> Res<Self> {
        let bundles = Bundles::on_disk(&dir.join("bundles"))?;
        let mirror = Mirror::open(&dir.join("mirror"), settings.clone(), Clock::system())?;
        let desired = Desired::new(Keeping::default(), bundles);
        Ok(Self { mirror, settings, desired, before: None })
    }

    /// Fetches and finds all stacks.
    fn refresh(&mut self) -> Res<Fetched> {
        let fetched = self.mirror.fetch(&AtomicBool::new(false))?;
        let before = self.before.take();
        self.before = Some(self.snapshot(&fetched.revision, before.as_ref())?);
        Ok(fetched)
    }

    fn snapshot(&self, revision: &str, before: Option<&Discovery>) -> Res<Discovery> {
        let tree = self.mirror.tree(revision, &self.settings.deploy_dir)?;
        let bounded = tree.bounded(Arc::default());
        let place = discover::Source { deploy_dir: String::new(), repository: "stacks".to_owned() };
        let found = discover::discover(&bounded, &place, &self.desired.limits(), before)?;
        let kept = facts(&self.desired, &found);
        if let Some(stack) = kept.values().find(|stack| stack.problem.is_some()) {
            return Err(format!("a stack has a problem: {:?}", stack.problem).into());
        }
        Ok(found)
    }

    fn count(&self) -> usize {
        self.before.as_ref().map_or(0, |found| found.stacks.len())
    }
}

impl Sized<'_> {
    fn measure(&mut self, table: &mut Table) -> Res<()> {
        let settings = self.server.settings(&self.stacks.name, "main")?;
        let rival = GitCli::new(&self.dir.join("rival"), &settings)?;
        let mut reader = self.cold(table, &settings, &rival)?;
        self.unchanged(table, &mut reader, &rival)?;
        self.one_commit(table, &mut reader, &rival)?;
        self.snapshot(table, &reader)?;
        drop(reader);
        self.bytes(table, &rival)
    }

    fn what(&self, what: &str) -> String {
        format!("{} stacks: {what}", self.stacks.count)
    }

    fn expect_all(&self, found: usize) -> Res<()> {
        if found == self.stacks.count {
            return Ok(());
        }
        Err(format!("{found} of {} stacks were found", self.stacks.count).into())
    }

    /// The last of the readers, which has all.
    fn cold(&self, table: &mut Table, settings: &GitSettings, rival: &GitCli) -> Res<Reader> {
        let (mut ours, mut theirs, mut last) = (Vec::new(), Vec::new(), None);
        for round in 0..self.scale.pick(5, 2) {
            let watch = Watch::start();
            let dir = self.dir.join(format!("cold-{round}"));
            let mut reader = Reader::open(&dir, settings.clone())?;
            reader.refresh()?;
            ours.push(watch.secs());
            self.expect_all(reader.count())?;
            last = Some(reader);
            rival.empty()?;
            let (secs, found) = rival.fetch_and_hash()?;
            self.expect_all(found)?;
            theirs.push(secs);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        let row = Row::new(self.what("cold start, fetch and snapshot"), time(ours)).against(
            format!("git fetch, ls-tree, sha256sum {}", time(theirs)),
            times(theirs / ours),
        );
        let aimed = self.stacks.count == 200;
        table.row(if aimed { row.aim("< 2 s", ours < COLD_SECS_MAX) } else { row });
        last.ok_or_else(|| "nothing was measured".into())
    }

    fn unchanged(&self, table: &mut Table, reader: &mut Reader, rival: &GitCli) -> Res<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.scale.pick(40, 3) {
            let watch = Watch::start();
            if reader.refresh()?.changed {
                return Err("something changed by itself".into());
            }
            ours.push(watch.secs());
            theirs.push(rival.ls_remote()?);
        }
        self.expect_all(reader.count())?;
        let (ours, theirs) = (median(ours), median(theirs));
        table.row(
            Row::new(self.what("refresh without a change"), time(ours))
                .against(format!("git ls-remote {}", time(theirs)), times(theirs / ours))
                .aim("≤ 1.2 × git ls-remote", ours <= UNCHANGED_TIMES_MAX * theirs),
        );
        Ok(())
    }

    fn one_commit(&mut self, table: &mut Table, reader: &mut Reader, rival: &GitCli) -> Res<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..self.scale.pick(15, 2) {
            self.stacks.change_one()?;
            let watch = Watch::start();
            if !reader.refresh()?.changed {
                return Err("a commit was not seen".into());
            }
            ours.push(watch.secs());
            self.expect_all(reader.count())?;
            let (secs, found) = rival.fetch_and_hash()?;
            self.expect_all(found)?;
            theirs.push(secs);
        }
        let reused = reader.before.as_ref().map_or(0, |found| found.reused);
        let (ours, theirs) = (Samples::new(ours), Samples::new(theirs));
        let (p50, worst) = (time(ours.p50()), time(ours.worst()));
        let ratio = theirs.p50() / ours.p50();
        table.row(
            Row::new(self.what("refresh after one commit"), format!("{p50}, worst {worst}"))
                .against(
                    format!("git fetch, ls-tree, sha256sum {}", time(theirs.p50())),
                    times(ratio),
                )
                .aim("faster", ratio > 1.0),
        );
        if reused + 1 != self.stacks.count {
            table.note(self.what(&format!("{reused} were taken from before")));
        }
        Ok(())
    }

    fn snapshot(&self, table: &mut Table, reader: &Reader) -> Res<()> {
        let revision = reader.mirror.revision().ok_or("the mirror is empty")?.revision;
        let mut took = Vec::new();
        for _ in 0..self.scale.pick(15, 2) {
            let watch = Watch::start();
            let found = reader.snapshot(&revision, None)?;
            took.push(watch.secs());
            self.expect_all(found.stacks.len())?;
        }
        let (best, p50) = (took.iter().copied().fold(f64::MAX, f64::min), median(took));
        let figures = format!("{}, best {}", time(p50), time(best));
        let row = Row::new(self.what("snapshot once the pack has landed"), figures);
        let aimed = self.stacks.count == 2_000;
        table.row(if aimed { row.aim("< 50 ms", p50 < SNAPSHOT_SECS_MAX) } else { row });
        Ok(())
    }

    fn bytes(&mut self, table: &mut Table, rival: &GitCli) -> Res<()> {
        let proxy = Proxy::start(self.server.web()?.port(), Break::Cut, u64::MAX)?;
        let url = format!("https://localhost:{}/{}.git", proxy.port, self.stacks.name);
        let rival = rival.over(&url);
        let settings = self.server.settings_of(&url, "main")?;
        let mut reader = Reader::open(&self.dir.join("bytes"), settings)?;
        reader.refresh()?;
        rival.empty()?;
        rival.fetch_and_hash()?;
        let polled = counted(&proxy, || reader.refresh().map(drop))?;
        let asked = counted(&proxy, || rival.ls_remote().map(drop))?;
        table.row(
            Row::new(self.what("bytes of a look without a change"), format!("{polled} B"))
                .against(format!("git ls-remote {asked} B"), ratio(asked, polled))
                .aim("≤ git ls-remote", polled <= asked),
        );
        self.stacks.change_one()?;
        let ours = counted(&proxy, || reader.refresh().map(drop))?;
        let theirs = counted(&proxy, || rival.fetch_and_hash().map(drop))?;
        table.row(
            Row::new(self.what("bytes of a one-file change"), format!("{ours} B"))
                .against(format!("git fetch {theirs} B"), ratio(theirs, ours)),
        );
        Ok(())
    }
}

fn counted(proxy: &Proxy, work: impl FnOnce() -> Res<()>) -> Res<u64> {
    let before = proxy.passed();
    work()?;
    Ok(proxy.passed() - before)
}

fn ratio(theirs: u64, ours: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "counts of bytes")]
    times(theirs as f64 / ours as f64)
}
