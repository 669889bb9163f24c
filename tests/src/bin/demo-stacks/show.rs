//! What is shown: the whole system, and what can be asked of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostler_tests::servers::docker::DockerServer;
use hostler_tests::servers::{ServerError, instant, wait_for};
use hostler_tests::system::StackSystem;
use hostler_tests::teller::Teller;
use serde_json::{Value, json};

use super::repository::{HOSTS, LABEL, rack};
use super::stop::Stop;

/// The longest anything here may take, in seconds.
pub(crate) const SECS_MAX: u64 = 200;
/// Between two questions to the controller, which has to answer for all stacks each time.
const ASK_AGAIN: Duration = Duration::from_millis(20);

pub(crate) struct Show<'a> {
    pub(crate) system: StackSystem,
    pub(crate) teller: &'a Teller,
    pub(crate) stop: &'a Stop,
}

/// Containers of all engines by id, each with the time it was started.
pub(crate) type Running = BTreeMap<String, String>;

impl<'a> Show<'a> {
    pub(crate) fn start(teller: &'a Teller, stop: &'a Stop) -> Result<Self, ServerError> {
        teller.say(&format!("starting {HOSTS} Docker Engines, each in namespaces of its own"));
        let mut engines = Vec::new();
        for _ in 0..HOSTS {
            stop.check()?;
            engines.push(Arc::new(DockerServer::start()?));
        }
        stop.check()?;
        teller.say(
            "a git repository, a controller that looks at it, and an agent beside each engine",
        );
        let readme = [("README.md", "What runs here.\n")];
        let system = StackSystem::start(None, engines, &readme)?;
        for (n, host) in system.hosts.iter().enumerate() {
            let found = system.controller.host(&host.name).unwrap_or_default();
            let path = format!("/api/hosts/{}", found["id"].as_str().unwrap_or_default());
            let labels = json!({ "labels": { LABEL: rack(n) } });
            system.controller.call("PATCH", &path, Some(&labels))?.expect(200)?;
        }
        Ok(Self { system, teller, stop })
    }

    /// Asks again and again until the answer is there, or the demo is interrupted.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        mut ask: impl FnMut() -> Result<Option<T>, ServerError>,
    ) -> Result<T, ServerError> {
        wait_for(what, SECS_MAX, || {
            let answer = self.stop.check().and_then(|()| ask()).transpose();
            if answer.is_none() {
                std::thread::sleep(ASK_AGAIN);
            }
            answer
        })?
    }

    /// Runs the command line and shows what it says, the first lines of it if that is much.
    pub(crate) fn hostler(&self, arguments: &[&str], lines_max: usize) -> Result<(), ServerError> {
        let told = self.quietly(arguments)?;
        let lines: Vec<&str> = told.lines().collect();
        let shown = if lines.len() > lines_max.saturating_add(1) { lines_max } else { lines.len() };
        self.teller.show(&lines[..shown].join("\n"));
        if shown < lines.len() {
            self.teller.show(&format!("… and {} more lines", lines.len() - shown));
        }
        Ok(())
    }

    /// Runs the command line; what it says is given back.
    pub(crate) fn quietly(&self, arguments: &[&str]) -> Result<String, ServerError> {
        self.stop.check()?;
        self.teller.quietly(&self.system.controller, arguments)
    }

    /// Pushes what was changed and tells the controller; when that began, and the commit.
    pub(crate) fn push(&mut self, message: &str) -> Result<(Instant, String), ServerError> {
        self.stop.check()?;
        let began = instant();
        let told = self.system.push(message)?;
        if told.status != 202 {
            return Err(ServerError(format!("the webhook got {}: {}", told.status, told.text)));
        }
        Ok((began, self.system.work.git(&["rev-parse", "HEAD"])?))
    }

    /// Every stack of the list, page after page.
    pub(crate) fn stacks(&self) -> Result<Vec<Value>, ServerError> {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/stacks?limit=200{after}");
            let page = self.system.controller.call("GET", &path, None)?.expect(200)?;
            all.extend(page["items"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(all),
            }
        }
    }

    /// Waits until a stack is what that commit says; how long that took.
    pub(crate) fn synced(
        &self,
        path: &str,
        (began, revision): &(Instant, String),
    ) -> Result<(Value, Duration), ServerError> {
        let stack = self.until(&format!("{path} to be synced"), || {
            let stack = self.system.stack(path)?;
            Ok(stack.filter(|stack| is_synced(stack) && stack["revision"] == *revision))
        })?;
        Ok((stack, began.elapsed()))
    }

    /// What runs on all engines.
    pub(crate) fn running(&self) -> Result<Running, ServerError> {
        let mut all = Running::new();
        for host in &self.system.hosts {
            let ids = host.engine.docker(&["ps", "--quiet", "--no-trunc"])?;
            let form = ["inspect", "--format", "{{.Id}} {{.State.StartedAt}}"];
            let inspect: Vec<&str> = form.into_iter().chain(ids.split_whitespace()).collect();
            if inspect.len() == form.len() {
                continue;
            }
            let told = host.engine.docker(&inspect)?;
            let pairs = told.lines().filter_map(|line| line.split_once(' '));
            all.extend(pairs.map(|(id, at)| (id.to_owned(), at.to_owned())));
        }
        Ok(all)
    }
}

/// Whether a stack runs everywhere as it should.
pub(crate) fn is_synced(stack: &Value) -> bool {
    stack["status"] == "synced" && stack["out_of_sync"] == false
}

/// An error, unless it is as the demo says.
pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), ServerError> {
    if holds { Ok(()) } else { Err(ServerError(otherwise())) }
}
