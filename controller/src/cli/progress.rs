//! How a job is shown while it runs: one moving line on a terminal, one line per step elsewhere.

use std::time::Duration;

use hostler_controller::views::{Event, Job, JobState, StepState};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;

use super::output::{Output, clean};

/// Time between two pictures of the moving line, in milliseconds.
const FRAME_MS: u64 = 120;

/// Shows a job's progress on stderr.
pub(super) struct Progress {
    out: Output,
    bar: Option<ProgressBar>,
    last: String,
}

impl Progress {
    /// Begins to show.
    pub(super) fn new(out: &Output) -> Self {
        let bar = out.is_lively().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(FRAME_MS));
            bar
        });
        Self { out: out.clone(), bar, last: String::new() }
    }

    /// A job as it was read.
    pub(super) fn job(&mut self, job: &Job) {
        if let Some(text) = state_of(job) {
            self.now(&text);
        }
    }

    /// An event of its stream.
    pub(super) fn event(&mut self, event: &Event) {
        match line_of(event) {
            Some(Line::Begun(text)) => self.begun(&text),
            Some(Line::Now(text)) => self.now(&text),
            Some(Line::Past(text)) => self.past(&text),
            None => {}
        }
    }

    /// Something about the following itself.
    pub(super) fn remark(&mut self, text: &str) {
        self.now(text);
    }

    /// Something that is over: a line that stays.
    pub(super) fn done(&mut self, text: &str) {
        self.past(text);
    }

    fn begun(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(clean(text));
        }
    }

    /// What goes on: the moving line, or a line of its own if it is new.
    fn now(&mut self, text: &str) {
        let text = clean(text);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.last != text => {
                self.out.say(&text);
                self.last = text;
            }
            None => {}
        }
    }

    /// What is over: a line that stays.
    fn past(&mut self, text: &str) {
        let text = clean(text);
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.out.say(&text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

enum Line {
    /// A step that has begun: worth the moving line, but no line of its own.
    Begun(String),
    Now(String),
    Past(String),
}

/// What a `job.progress` event says of a step.
#[derive(Debug, Deserialize)]
struct StepLine {
    step: String,
    state: StepState,
    #[serde(default)]
    message: String,
}

fn line_of(event: &Event) -> Option<Line> {
    if event.kind == "job.progress" {
        let line = StepLine::deserialize(&event.document).ok()?;
        let text = |word: &str| format!("  {word:<11} {} {}", line.step, line.message);
        return Some(match line.state {
            StepState::Started => Line::Begun(format!("{} {}", line.step, line.message)),
            StepState::Done => Line::Past(text("done")),
            StepState::Skipped => Line::Past(text("skipped")),
            StepState::Failed => Line::Past(text("failed")),
            StepState::RolledBack => Line::Past(text("rolled back")),
        });
    }
    let text = match event.kind.as_str() {
        "job.queued" => "queued",
        "job.started" => "handed to its host",
        "job.accepted" => "running on its host",
        "job.cancel_requested" => "being cancelled",
        "job.unknown" => "its host is gone; waiting until it is back and says how far it came",
        "job.retrying" => "failed; will be tried again",
        "job.held" => "held for a person",
        "job.released" => "released, queued again",
        _ => return None,
    };
    Some(Line::Now(text.to_owned()))
}

/// Says what a job that has not ended is doing.
pub(super) fn state_of(job: &Job) -> Option<String> {
    let waits: Vec<_> = job.waits_for.iter().map(|wait| wait.message.as_str()).collect();
    let because = if waits.is_empty() { String::new() } else { format!(": {}", waits.join("; ")) };
    match job.state {
        JobState::Queued => Some(format!("queued{because}")),
        JobState::Held => Some(format!("held for a person{because}")),
        JobState::Running if job.reason.as_deref() == Some("UNKNOWN") => {
            Some("its host is gone; waiting until it is back and says how far it came".to_owned())
        }
        JobState::Running => Some("running on its host".to_owned()),
        JobState::Succeeded | JobState::Failed | JobState::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use hostler_controller::views::Timestamp;
    use serde_json::json;

    use super::*;

    fn shown(kind: &str, document: serde_json::Value) -> String {
        let event = Event {
            seq: 1,
            at: Timestamp(0),
            kind: kind.to_owned(),
            site_id: None,
            environment_id: None,
            host_id: None,
            job_id: None,
            stack_id: None,
            document,
        };
        match line_of(&event) {
            Some(Line::Begun(text)) => format!("begun {text}"),
            Some(Line::Now(text)) => format!("now {text}"),
            Some(Line::Past(text)) => format!("past {text}"),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn events_become_lines_and_unknown_ones_nothing() {
        let step =
            |state: &str| json!({"step": "nginx_test", "state": state, "message": "ok", "new": 1});
        assert_eq!(shown("job.progress", step("started")), "begun nginx_test ok");
        assert_eq!(shown("job.progress", step("done")), "past   done        nginx_test ok");
        assert_eq!(shown("job.progress", step("rolled_back")), "past   rolled back nginx_test ok");
        assert_eq!(shown("job.accepted", json!({})), "now running on its host");
        assert_eq!(shown("job.progress", json!({"step": 1})), "nothing");
        assert_eq!(shown("job.something_new", json!({})), "nothing");
    }
}
