//! Following several jobs, one on each host, until the last of them has ended.

use std::time::Duration;

use hostler_controller::views::{Job, JobState, StackJob};
use serde_json::Value;

use crate::cli::Context;
use crate::cli::client::view;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::follow::{Followed, follow, over};
use crate::cli::progress::Progress;

/// Milliseconds between two looks at the jobs.
const LOOK_MS: u64 = 500;
/// Looks in a row that may fail before the following does.
const FAILURES_MAX: u32 = 20;

/// How the following ended.
enum Ended {
    Settled,
    OutOfTime,
    Detached,
}

/// Follows jobs, prints each, and says by exit code how they ended, the worst of them.
pub(super) async fn follow_all(
    context: &Context,
    jobs: &[StackJob],
    limit: Option<Duration>,
) -> Result<Exit, CliError> {
    let ended = match jobs {
        // One alone is shown step by step.
        [one] => match follow(context, &one.job_id, limit).await? {
            Followed::Settled(_, _) => Ended::Settled,
            Followed::OutOfTime => Ended::OutOfTime,
            Followed::Detached => Ended::Detached,
        },
        _ => together(context, jobs, limit).await?,
    };
    let resume =
        |job: &StackJob| format!("{}: follow it: hostler job watch {}", job.host, job.job_id);
    if let Ended::Detached = ended {
        context.out.say("detached; the jobs go on");
        jobs.iter().for_each(|job| context.out.say(&resume(job)));
        return Ok(Exit::Interrupted);
    }
    let mut read = Vec::with_capacity(jobs.len());
    for job in jobs {
        let document = context.client.get(&["jobs", &job.job_id]).await?;
        read.push((job, view::<Job>(&document)?, document));
    }
    print(context, &read)?;
    for (job, state) in read.iter().map(|(job, found, _)| (job, found.state)) {
        match state {
            JobState::Held => context.out.say(&format!(
                "{}: it waits for a person: hostler job release {1}, or hostler job cancel {1}",
                job.host, job.job_id
            )),
            JobState::Queued | JobState::Running => context.out.say(&resume(job)),
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => {}
        }
    }
    if let Ended::OutOfTime = ended {
        context.out.say("waited long enough; what has not ended goes on");
    }
    Ok(worst(read.iter().map(|(_, job, _)| job.state)))
}

fn print(context: &Context, read: &[(&StackJob, Job, Value)]) -> Result<(), CliError> {
    let out = &context.out;
    if out.is_json() {
        return out.json(&read.iter().map(|(_, _, document)| document).collect::<Vec<_>>());
    }
    let texts: Vec<_> = read
        .iter()
        .map(|(on, job, _)| format!("{}: {}", on.host, draw::job_outcome(out, job)))
        .collect();
    out.text(&texts.join("\n\n"))
}

/// One that failed outweighs one that was cancelled, and that one that goes on.
fn worst(states: impl Iterator<Item = JobState>) -> Exit {
    let weight = |exit: &Exit| match exit {
        Exit::JobFailed => 3,
        Exit::JobCancelled => 2,
        Exit::Pending => 1,
        Exit::Ok
        | Exit::Failure
        | Exit::Usage
        | Exit::NotFound
        | Exit::Auth
        | Exit::Refused
        | Exit::Unreachable
        | Exit::Interrupted => 0,
    };
    states.map(Exit::of_job).max_by_key(weight).unwrap_or(Exit::Ok)
}

async fn together(
    context: &Context,
    jobs: &[StackJob],
    limit: Option<Duration>,
) -> Result<Ended, CliError> {
    tokio::select! {
        biased;
        settled = until_settled(context, jobs) => settled.map(|()| Ended::Settled),
        () = over(limit) => Ok(Ended::OutOfTime),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(CliError::Runtime)?;
            Ok(Ended::Detached)
        }
    }
}

async fn until_settled(context: &Context, jobs: &[StackJob]) -> Result<(), CliError> {
    let mut progress = Progress::new(&context.out);
    let mut open: Vec<&StackJob> = jobs.iter().collect();
    let mut failures = 0;
    loop {
        let mut left = Vec::new();
        for job in open {
            match context.client.get(&["jobs", &job.job_id]).await {
                Ok(document) => {
                    failures = 0;
                    let state = view::<Job>(&document)?.state;
                    if state.is_ended() || state == JobState::Held {
                        progress.done(&format!("{}: {}", job.host, draw::word(&state)));
                    } else {
                        left.push(job);
                    }
                }
                Err(error) if error.is_transient() && failures < FAILURES_MAX => {
                    failures += 1;
                    progress.remark(&format!("{error}; the jobs go on, asking again"));
                    left.push(job);
                }
                Err(error) => return Err(error),
            }
        }
        open = left;
        if open.is_empty() {
            return Ok(());
        }
        progress.remark(&format!("{} of {} hosts are done", jobs.len() - open.len(), jobs.len()));
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_counts() {
        let worst = |states: &[JobState]| worst(states.iter().copied());
        assert_eq!(worst(&[JobState::Succeeded, JobState::Succeeded]), Exit::Ok);
        assert_eq!(worst(&[JobState::Running, JobState::Succeeded]), Exit::Pending);
        assert_eq!(worst(&[JobState::Cancelled, JobState::Held]), Exit::JobCancelled);
        let all = [JobState::Failed, JobState::Cancelled, JobState::Succeeded];
        assert_eq!(worst(&all), Exit::JobFailed);
    }
}
