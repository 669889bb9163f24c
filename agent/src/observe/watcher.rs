//! Watching the stacks of this host, for as long as there is a session to tell.

use std::time::Duration;

use super::core::{Core, Input, Scope};
use super::look::Looker;
use super::reports::{self, Desk, Reports};
use super::tend::Tended;
use crate::steps::tools::Tools;

/// Watches this host's stacks until `tools.stop` fires or the session's end is dropped.
#[must_use]
pub fn watch(tools: Tools) -> Reports {
    let (desk, reports) = reports::pair();
    let looker = Looker::new(tools.clone());
    tokio::spawn(Watcher { tools, desk, looker, core: Core::default(), tended: None }.run());
    reports
}

struct Watcher {
    tools: Tools,
    desk: Desk,
    looker: Looker,
    core: Core,
    /// Only while there are stacks, and somebody wants to know.
    tended: Option<Tended>,
}

impl Watcher {
    async fn run(mut self) {
        let stop = self.tools.stop.clone();
        loop {
            let inputs = tokio::select! {
                () = stop.cancelled() => return,
                inputs = self.next() => inputs,
            };
            let Some(inputs) = inputs else { return };
            for input in inputs {
                self.handle(input).await;
            }
        }
    }

    /// What happens next; `None` when nobody will ever want to know.
    async fn next(&mut self) -> Option<Vec<Input>> {
        let due_ms = self.core.next_timeout();
        let now_ms = self.tools.clock.monotonic_ms();
        let wait = Duration::from_millis(due_ms.map_or(0, |due_ms| due_ms.saturating_sub(now_ms)));
        tokio::select! {
            turned = self.desk.turned() => {
                Some(vec![if turned? { Input::Online } else { Input::Offline }])
            }
            ended = self.tools.stacks.ended() => {
                ended.iter().for_each(|project| self.looker.ended(project.clone()));
                Some(ended.into_iter().map(Input::Changed).collect())
            }
            input = next(&mut self.tended) => Some(vec![input]),
            () = tokio::time::sleep(wait), if due_ms.is_some() => Some(vec![Input::Timeout]),
        }
    }

    async fn handle(&mut self, input: Input) {
        match &input {
            Input::Online => self.looker.begin_anew(),
            Input::Offline => self.tended = None,
            Input::Changed(_) | Input::Missed | Input::Timeout => {}
        }
        let clock = &self.tools.clock;
        let random = u64::from_le_bytes(clock.random());
        if let Some(scope) = self.core.handle(input, clock.monotonic_ms(), random) {
            self.look(scope).await;
        }
    }

    async fn look(&mut self, scope: Scope) {
        let looked = self.looker.look(scope).await;
        match (looked.stacks, &self.tended) {
            (true, None) => {
                let engine = self.tools.docker.engine();
                self.tended = Some(Tended::start(engine, self.tools.clock.clone()));
            }
            (false, Some(_)) => self.tended = None,
            (true, Some(_)) | (false, None) => {}
        }
        self.desk.hand(looked.documents).await;
    }
}

async fn next(tended: &mut Option<Tended>) -> Input {
    match tended {
        Some(tended) => tended.next().await,
        None => std::future::pending().await,
    }
}
