//! The same purge and the same toggle by the agent itself and by a playbook.

use std::path::Path;

use hostler_protocol::job::{EnvironmentDoc, Executor};

use crate::bench::actions::ActionHost;
use crate::bench::process::{Descendants, cpu_secs};
use crate::bench::report::{Row, Table};
use crate::bench::stats::{Samples, time, times};
use crate::bench::{Res, Scale};

pub(super) async fn measure(dir: &Path, scale: Scale) -> Res<Table> {
    let host = ActionHost::start(dir)?;
    let site = host.site("shop").await?;
    let both = Both { host: &host, site: &site };
    let native = both.purges(Executor::Native, scale.pick(200, 5)).await?;
    let playbook = both.purges(Executor::Ansible, scale.pick(5, 1)).await?;
    let mut table = Table::new("The same job by the agent itself and by a playbook");
    let ratio = playbook.took.p50() / native.took.p50();
    table.row(
        Row::new("purge of one URL, whole action", latency(&native.took))
            .against(format!("playbook {}", latency(&playbook.took)), times(ratio))
            .aim("≤ 10 ms", native.took.p50() <= 0.010),
    );
    table.row(
        Row::new("of which processor time", time(native.cpu))
            .against(format!("playbook {}", time(playbook.cpu)), times(playbook.cpu / native.cpu)),
    );
    let told = |runs: &Runs| format!("{} programs, {} MB", runs.programs, runs.most_kb / 1_000);
    table.row(
        Row::new("programs started, and their memory at most", told(&native))
            .against(format!("playbook {}", told(&playbook)), "")
            .aim("none", native.programs == 0),
    );
    let native = both.toggles(Executor::Native, scale.pick(20, 2)).await?;
    let playbook = both.toggles(Executor::Ansible, scale.pick(3, 1)).await?;
    let ratio = playbook.p50() / native.p50();
    table.row(
        Row::new("page cache switched on, proven to serve", latency(&native))
            .against(format!("playbook {}", latency(&playbook)), times(ratio))
            .aim("≤ 300 ms", native.p50() <= 0.300),
    );
    table.note(
        "Both by the agent's own actions, in this process, on the same nginx: the same proofs, the \
         same end state, the same codes. The playbooks are the ones in `ansible/`, run by Debian's \
         ansible-core with one fork, without gathering facts. Memory is what the programs have \
         together, pages they share counted once, looked at every 10 ms.",
    );
    Ok(table)
}

fn latency(samples: &Samples) -> String {
    format!("p50 {}, worst {}", time(samples.p50()), time(samples.worst()))
}

struct Runs {
    took: Samples,
    /// Processor seconds of one run, of this process and of those it started.
    cpu: f64,
    most_kb: u64,
    /// Started in all runs.
    programs: usize,
}

struct Both<'a> {
    host: &'a ActionHost,
    site: &'a EnvironmentDoc,
}

impl Both<'_> {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred runs")]
    async fn purges(&self, executor: Executor, runs: usize) -> Res<Runs> {
        let mut visitor = self.host.visitor(self.site)?;
        let uri = |run: usize| format!("/{}-{run}/", executor.as_str());
        // One more, first, that is not counted: it reads what is read once.
        for run in 0..=runs {
            visitor.get(&uri(run))?;
            let status = visitor.get(&uri(run))?;
            if status.header("X-Hostler-Cache") != Some("HIT") {
                return Err(format!("{} is not cached: {status:?}", uri(run)).into());
            }
        }
        self.host.purge_page_by(executor, self.site, &uri(runs)).await?;
        let watch = Descendants::watch();
        let (own, theirs) = cpu_secs()?;
        let mut took = Vec::new();
        for run in 0..runs {
            took.push(self.host.purge_page_by(executor, self.site, &uri(run)).await?);
        }
        let after = cpu_secs()?;
        let (most_kb, programs) = watch.finish()?;
        let cpu = (after.0 - own + after.1 - theirs) / runs as f64;
        Ok(Runs { took: Samples::new(took), cpu, most_kb, programs })
    }

    async fn toggles(&self, executor: Executor, runs: usize) -> Res<Samples> {
        let mut took = Vec::new();
        for _ in 0..runs {
            self.host.toggle_by(executor, self.site, false).await?;
            took.push(self.host.toggle_by(executor, self.site, true).await?);
        }
        Ok(Samples::new(took))
    }
}
