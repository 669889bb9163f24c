//! Domain types as the outside reads them.

use hostler_protocol::id::{BatchId, JobId};
use hostler_protocol::job as wire;

use crate::domain::{self, Micros};
use crate::views;

/// A time as the outside reads it.
#[must_use]
pub fn time(at: Micros) -> views::Timestamp {
    views::Timestamp(at.0)
}

fn text(id: impl Into<String>) -> String {
    id.into()
}

/// A site.
#[must_use]
pub fn site(site: domain::Site) -> views::Site {
    views::Site { id: text(site.id), name: site.name, created_at: time(site.created_at) }
}

/// A host.
#[must_use]
pub fn host(host: domain::Host) -> views::Host {
    views::Host {
        id: text(host.id),
        name: host.name,
        state: match host.state {
            domain::HostState::Enrolled => views::HostState::Enrolled,
            domain::HostState::Revoked => views::HostState::Revoked,
        },
        connected: host.connected,
        key_sha256: host.key_sha256,
        certificate_expires_at: time(host.certificate_expires_at),
        certificate_renewed_at: host.certificate_renewed_at.map(time),
        recoveries: host.recoveries,
        recovered_at: host.recovered_at.map(time),
        clock_skew_ms: host.clock_skew_ms,
        agent_build: host.agent_build,
        labels: views::Labels(host.labels),
        facts: host.facts,
        last_seen_at: host.last_seen_at.map(time),
        held_at: host.held_at.map(time),
        created_at: time(host.created_at),
        revoked_at: host.revoked_at.map(time),
        revoked_as: host.revoked_as.map(|kind| match kind {
            domain::Revocation::Evict => views::Revocation::Evict,
            domain::Revocation::Ban => views::Revocation::Ban,
        }),
    }
}

/// An environment.
#[must_use]
pub fn environment(environment: domain::Environment) -> views::Environment {
    let cache = cache(&environment);
    let doc = environment.doc;
    views::Environment {
        id: text(environment.id),
        site_id: text(environment.site_id),
        site: doc.site,
        name: doc.name,
        host_id: text(environment.host_id),
        state: match environment.state {
            domain::EnvironmentState::Active => views::EnvironmentState::Active,
            domain::EnvironmentState::Failed => views::EnvironmentState::Failed,
            domain::EnvironmentState::Deleting => views::EnvironmentState::Deleting,
        },
        domain: doc.domain,
        kind: match doc.kind {
            wire::AppKind::Php => views::AppKind::Php,
            wire::AppKind::Wordpress => views::AppKind::Wordpress,
        },
        docroot: doc.docroot,
        user: doc.user,
        nginx: views::NginxSettings {
            http_file: doc.nginx.http_file,
            server_file: doc.nginx.server_file,
            location_file: doc.nginx.location_file,
            probe_origin: doc.nginx.probe_origin,
        },
        fastcgi: doc.fastcgi.map(|part| views::FastcgiSettings {
            cache_dir: part.cache_dir,
            key_format: part.key_format,
            zone_mib: part.zone_mib,
            size_mib_max: part.size_mib_max,
            inactive_secs: part.inactive_secs,
            valid_secs: part.valid_secs,
        }),
        redis: doc.redis.map(|part| views::RedisSettings {
            url: part.url,
            password_file: part.password_file,
            prefix: part.prefix,
            switch_file: part.switch_file,
        }),
        health: views::HealthSettings {
            path: doc.health.path,
            status: doc.health.status,
            timeout_ms: doc.health.timeout_ms,
        },
        executor: doc.executor.map(executor),
        labels: views::Labels(environment.labels),
        cache,
        version: environment.version,
        created_at: time(environment.created_at),
        updated_at: time(environment.updated_at),
    }
}

fn executor(executor: wire::Executor) -> views::Executor {
    match executor {
        wire::Executor::Native => views::Executor::Native,
        wire::Executor::Ansible => views::Executor::Ansible,
    }
}

/// An environment's caches.
#[must_use]
pub fn cache(environment: &domain::Environment) -> views::CacheState {
    let flags = [environment.fastcgi.as_ref(), environment.redis.as_ref()];
    views::CacheState {
        environment_id: text(environment.id.clone()),
        in_sync: flags.into_iter().flatten().all(|flag| flag.applied == Some(flag.desired)),
        fastcgi: environment.fastcgi.as_ref().map(flag),
        redis: environment.redis.as_ref().map(flag),
    }
}

fn flag(flag: &domain::CacheFlag) -> views::CacheFlag {
    let error = flag.last_error.clone().and_then(|error| serde_json::from_value(error).ok());
    views::CacheFlag {
        desired: flag.desired,
        applied: flag.applied,
        applied_at: flag.applied_at.map(time),
        last_error: error.map(job_error),
    }
}

/// An enrolment token as of `now`.
#[must_use]
pub fn enrolment_token(token: domain::EnrolmentToken, now: Micros) -> views::EnrolmentToken {
    let state = if token.used_at.is_some() {
        views::EnrolmentTokenState::Used
    } else if token.expires_at <= now {
        views::EnrolmentTokenState::Expired
    } else {
        views::EnrolmentTokenState::Waiting
    };
    views::EnrolmentToken {
        id: text(token.id),
        state,
        host_name: token.host_name,
        created_at: time(token.created_at),
        expires_at: time(token.expires_at),
        used_at: token.used_at.map(time),
        host_id: token.host_id.map(text),
    }
}

/// Items of a list inside a request that a list of jobs shows.
const ROW_ITEMS_MAX: usize = 20;

/// A job as a list shows it: without its result, steps and output, and not every URL it names.
#[must_use]
pub fn job_row(job: domain::Job, executor: wire::Executor) -> views::Job {
    let mut row = self::job(job, executor, Around::default());
    row.result = None;
    row.steps = Vec::new();
    if let Some(error) = &mut row.error {
        error.output_tail = None;
    }
    let fields = row.request.as_object_mut().into_iter().flat_map(|fields| fields.values_mut());
    for list in fields.filter_map(serde_json::Value::as_array_mut) {
        list.truncate(ROW_ITEMS_MAX);
    }
    row
}

/// What is to be said of a job that does not stand in its row.
#[derive(Debug, Default)]
pub struct Around {
    pub waits_for: Vec<views::WaitsFor>,
    pub children: Vec<JobId>,
    pub batch: Option<BatchId>,
}

/// A job with all there is to say.
#[must_use]
pub fn job(job: domain::Job, executor: wire::Executor, around: Around) -> views::Job {
    let Around { waits_for, children, batch } = around;
    let outcome: Option<wire::Outcome> =
        job.outcome.and_then(|outcome| serde_json::from_value(outcome).ok());
    let (error, result, steps) = match outcome {
        None => (None, None, Vec::new()),
        Some(outcome) => (outcome.error, outcome.result, outcome.steps),
    };
    views::Job {
        id: text(job.id),
        job_type: job_type(job.job_type),
        state: job_state(job.state),
        reason: job.reason,
        template: job.template,
        host_id: text(job.host_id),
        site_id: job.site_id.map(text),
        environment_id: job.environment_id.map(text),
        stack_id: job.stack_id.map(text),
        priority: job.priority,
        executor: self::executor(executor),
        request: job.request,
        attempt: job.attempt,
        failures: job.failures,
        crashes: job.crashes,
        timeout_secs: job.timeout_secs,
        run_after: time(job.run_after),
        expires_at: time(job.expires_at),
        created_at: time(job.created_at),
        started_at: job.started_at.map(time),
        accepted_at: job.accepted_at.map(time),
        cancel_requested_at: job.cancel_requested_at.map(time),
        finished_at: job.finished_at.map(time),
        error: error.map(job_error),
        result: result.filter(serde_json::Value::is_object),
        steps: steps.into_iter().map(step).collect(),
        waits_for,
        request_id: job.request_id.map(text),
        retry_of: job.retry_of.map(text),
        parent_id: job.parent_id.map(text),
        batch_id: batch.map(text),
        children: children.into_iter().map(text).collect(),
    }
}

/// A job's type.
#[must_use]
pub fn job_type(job_type: wire::JobType) -> views::JobType {
    match job_type {
        wire::JobType::EnvCacheToggle => views::JobType::EnvCacheToggle,
        wire::JobType::CachePurge => views::JobType::CachePurge,
        wire::JobType::EnvCheck => views::JobType::EnvCheck,
        wire::JobType::EnvDelete => views::JobType::EnvDelete,
        wire::JobType::CacheWarm => views::JobType::CacheWarm,
        wire::JobType::CacheFacts => views::JobType::CacheFacts,
        wire::JobType::CacheExplain => views::JobType::CacheExplain,
        wire::JobType::StackSync => views::JobType::StackSync,
        wire::JobType::StackDown => views::JobType::StackDown,
        wire::JobType::StackPlan => views::JobType::StackPlan,
    }
}

/// A job's state.
#[must_use]
pub fn job_state(state: domain::JobState) -> views::JobState {
    match state {
        domain::JobState::Queued => views::JobState::Queued,
        domain::JobState::Running => views::JobState::Running,
        domain::JobState::Held => views::JobState::Held,
        domain::JobState::Succeeded => views::JobState::Succeeded,
        domain::JobState::Failed => views::JobState::Failed,
        domain::JobState::Cancelled => views::JobState::Cancelled,
    }
}

/// Why an attempt did not succeed.
#[must_use]
pub fn job_error(error: wire::JobError) -> views::JobError {
    views::JobError {
        code: error.code,
        message: error.message,
        retry: match error.retry {
            wire::Retry::Never => views::Retry::Never,
            wire::Retry::Later => views::Retry::Later,
            wire::Retry::AtOnce => views::Retry::AtOnce,
        },
        step: error.step,
        command: error.command,
        exit_status: error.exit_status,
        output_tail: error.output_tail,
        hint: error.hint,
    }
}

fn step(step: wire::StepReport) -> views::JobStep {
    views::JobStep {
        step: step.step,
        state: match step.state {
            wire::StepState::Started => views::StepState::Started,
            wire::StepState::Done => views::StepState::Done,
            wire::StepState::Skipped => views::StepState::Skipped,
            wire::StepState::Failed => views::StepState::Failed,
            wire::StepState::RolledBack => views::StepState::RolledBack,
        },
        message: step.message,
        took_us: step.took_us,
    }
}

/// An event.
#[must_use]
pub fn event(event: domain::Event) -> views::Event {
    let (seq, event) = (event.seq, event.event);
    views::Event {
        seq,
        at: time(event.at),
        kind: event.kind.as_str().to_owned(),
        site_id: event.subject.site.map(text),
        environment_id: event.subject.environment.map(text),
        host_id: event.subject.host.map(text),
        job_id: event.subject.job.map(text),
        stack_id: event.subject.stack.map(text),
        document: event.document,
    }
}
