//! A request that queues a job and what happens after it: print its id, or follow it to its end.

use hostler_controller::views::{Job, JobAccepted, JobState};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::Context;
use crate::cli::args::{Wait, WaitArgs};
use crate::cli::client::view;
use crate::cli::draw;
use crate::cli::error::CliError;
use crate::cli::exit::Exit;
use crate::cli::follow::{Followed, follow};

const FOLLOW: &str = "follow it: hostler job watch";

/// Sends a request that queues a job and follows that as far as is asked for.
pub(super) async fn request(
    context: &Context,
    method: Method,
    path: &[&str],
    body: Option<impl Serialize>,
    wait: &WaitArgs,
    default: Wait,
) -> Result<Exit, CliError> {
    let body = body.map(|body| json!(body));
    let key = wait.idempotency_key.as_deref();
    let answer = context.client.send(method, path, body.as_ref(), key).await?;
    queued(context, &answer, wait.or(default)).await
}

/// Goes on with the answer of a request that queued, changed or released a job.
pub(super) async fn queued(
    context: &Context,
    answer: &Value,
    wait: Wait,
) -> Result<Exit, CliError> {
    let (job_id, ended) = match view::<JobAccepted>(answer) {
        Ok(accepted) => (accepted.job_id, false),
        // Some requests answer with the job itself.
        Err(_) => view::<Job>(answer).map(|job| (job.id, job.state.is_ended()))?,
    };
    match wait {
        Wait::Follow(limit) => watch(context, &job_id, limit).await,
        Wait::No => {
            if context.out.is_json() {
                context.out.json(&json!({ "job_id": job_id }))?;
            } else {
                context.out.text(&job_id)?;
            }
            let next = if ended { "look at it: hostler job show" } else { FOLLOW };
            context.out.say(&format!("{next} {job_id}"));
            Ok(Exit::Ok)
        }
    }
}

/// Follows a job, prints it, and says by exit code how it ended.
pub(super) async fn watch(
    context: &Context,
    job_id: &str,
    limit: Option<std::time::Duration>,
) -> Result<Exit, CliError> {
    let resume = format!("{FOLLOW} {job_id}");
    match follow(context, job_id, limit).await {
        Ok(Followed::Settled(job, document)) => settled(context, &job, &document),
        Ok(Followed::OutOfTime) => {
            // It may have ended in the very last moment.
            let document = context.client.get(&["jobs", job_id]).await?;
            let job: Job = view(&document)?;
            if !job.state.is_ended() {
                context.out.say(&format!("waited long enough; the job goes on\n{resume}"));
            }
            settled(context, &job, &document)
        }
        Ok(Followed::Detached) => {
            context.out.say(&format!("detached; the job goes on\n{resume}"));
            Ok(Exit::Interrupted)
        }
        Err(error) => {
            if error.is_transient() {
                context.out.say(&format!("lost sight of the job, which goes on\n{resume}"));
            }
            Err(error)
        }
    }
}

fn settled(context: &Context, job: &Job, document: &Value) -> Result<Exit, CliError> {
    if context.out.is_json() {
        context.out.json(document)?;
    } else {
        context.out.text(&draw::job_outcome(&context.out, job))?;
    }
    for child in &job.children {
        context.out.say(&format!("it is followed by another job: hostler job watch {child}"));
    }
    if job.state == JobState::Held {
        context.out.say(&format!(
            "it waits for a person: hostler job release {0}, or hostler job cancel {0}",
            job.id
        ));
    }
    let exit = Exit::of_job(job.state);
    // A check that ran has succeeded as a job, whatever it found.
    if exit == Exit::Ok && draw::found_errors(job) { Ok(Exit::Failure) } else { Ok(exit) }
}
