//! Live events (SSE), resumable: what a client missed is read from the log, then it follows.
//!
//! A stream is never the truth about a job: a client that loses it reads the job again.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use hostler_protocol::id::JobId;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::ApiState;
use super::auth::Principal;
use super::extract::{Id, Params};
use super::page;
use super::problem::ApiError;
use crate::app::{App, view};
use crate::domain::decide::enqueue::missing;
use crate::store::{EventFilter, StoreError};
use crate::views;

/// Seconds after which a stream's token is looked at again.
pub(crate) const TOKEN_LOOK_SECS: u64 = 5;
/// Streams open at once; more are refused.
pub(crate) const STREAMS_MAX: usize = 512;
/// Seconds between comments that keep an idle stream open.
pub(crate) const HEARTBEAT_SECS: u64 = 15;
/// Events read from the log at once.
pub(crate) const READ_EVENTS_MAX: u32 = 200;

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Routes below `/api`.
pub(crate) fn routes() -> OpenApiRouter<Arc<ApiState>> {
    OpenApiRouter::new().routes(routes!(follow_events)).routes(routes!(follow_job))
}

/// Which events, and from where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    #[param(nullable = false, pattern = "^job_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    job: Option<String>,
    #[param(nullable = false, pattern = "^env_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    environment: Option<String>,
    #[param(nullable = false, pattern = "^host_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    host: Option<String>,
    #[param(nullable = false, pattern = "^site_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    site: Option<String>,
    /// Only those about this stack.
    #[param(nullable = false, pattern = "^stack_[0-7][0-9a-hjkmnp-tv-z]{25}$")]
    stack: Option<String>,
    /// Only events after this one; left out: only what happens from now on.
    #[param(nullable = false, minimum = 0)]
    after: Option<i64>,
}

/// From where to follow a job.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct After {
    /// Only events after this one; left out: all that are kept.
    #[param(nullable = false, minimum = 0)]
    after: Option<i64>,
}

/// Follow what happens. Each event's `id` is its sequence, its `event` the kind, its `data` an
/// `Event`. To resume, send the last sequence seen as `Last-Event-ID` or `after`.
#[utoipa::path(get, path = "/events", tag = "events",
    params(Filter, ("Last-Event-ID" = Option<i64>, Header, description = "The last sequence seen; wins over `after`.")),
    responses((status = 200, body = views::Event, content_type = "text/event-stream"),
              (status = 410, description = "The cursor is older than what is kept: read the present state, then follow anew.")))]
async fn follow_events(
    State(api): State<Arc<ApiState>>,
    Params(asked): Params<Filter>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let filter = EventFilter {
        job: page::id("job", asked.job)?,
        environment: page::id("environment", asked.environment)?,
        host: page::id("host", asked.host)?,
        site: page::id("site", asked.site)?,
        stack: page::id("stack", asked.stack)?,
    };
    let at = match cursor(&headers, asked.after)? {
        Some(after) => kept(&api.app, after).await?,
        None => api.app.store.events_bounds().await?.1,
    };
    stream(&api, Follow { app: api.app.clone(), filter, at, job: None, who })
}

/// Follow a job from its first event; the last one is `end`, its data an `EndOfStream`.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "events",
    params(("id" = inline(views::JobIdText), Path), After,
           ("Last-Event-ID" = Option<i64>, Header, description = "The last sequence seen; wins over `after`.")),
    responses((status = 200, body = views::Event, content_type = "text/event-stream"),
              (status = 410, description = "The cursor is older than what is kept: read the job, then follow anew.")))]
async fn follow_job(
    State(api): State<Arc<ApiState>>,
    Id(id): Id<JobId>,
    Params(asked): Params<After>,
    Extension(who): Extension<Principal>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if api.app.store.job(&id).await?.is_none() {
        return Err(missing("job", &id).into());
    }
    let at = match cursor(&headers, asked.after)? {
        Some(after) => kept(&api.app, after).await?,
        None => 0,
    };
    let filter = EventFilter { job: Some(id.clone()), ..EventFilter::default() };
    stream(&api, Follow { app: api.app.clone(), filter, at, job: Some(id), who })
}

fn cursor(headers: &HeaderMap, after: Option<i64>) -> Result<Option<i64>, ApiError> {
    let Some(last) = headers.get(&LAST_EVENT_ID) else {
        return match after {
            Some(after) if after < 0 => {
                Err(ApiError::field("INVALID_QUERY", "?after", "a sequence is not negative"))
            }
            after => Ok(after),
        };
    };
    let last = last.to_str().ok().and_then(|text| text.parse().ok()).filter(|seq| *seq >= 0);
    last.map(Some).ok_or_else(|| {
        let detail = "Last-Event-ID is the id of an event: a number";
        ApiError::new(StatusCode::BAD_REQUEST, "CURSOR_INVALID", detail)
    })
}

/// The cursor, if all that follows it is still kept.
async fn kept(app: &App, after: i64) -> Result<i64, ApiError> {
    let (oldest, newest) = app.store.events_bounds().await?;
    if after.saturating_add(1) < oldest {
        let detail = format!(
            "events up to {} are no longer kept; read the present state, then follow from there",
            oldest.saturating_sub(1)
        );
        return Err(ApiError::new(StatusCode::GONE, "CURSOR_TOO_OLD", detail));
    }
    // A cursor from the future (another database) would wait for ever.
    Ok(after.min(newest))
}

/// Where one client's stream is.
struct Follow {
    app: App,
    filter: EventFilter,
    /// The last sequence told, or passed over.
    at: i64,
    /// The job whose end is the stream's.
    job: Option<JobId>,
    /// Who follows: a stream ends with its token.
    who: Principal,
}

/// A stream and what it has read ahead.
struct Reading {
    follow: Follow,
    ready: VecDeque<SseEvent>,
    ended: bool,
    shutdown: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

fn stream(api: &ApiState, follow: Follow) -> Result<Response, ApiError> {
    let permit = Arc::clone(&api.streams).try_acquire_owned().map_err(|_| {
        ApiError::unavailable("TOO_MANY_STREAMS", "too many streams are open; try again later")
    })?;
    let reading = Reading {
        follow,
        ready: VecDeque::new(),
        ended: false,
        shutdown: api.shutdown.clone(),
        _permit: permit,
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(HEARTBEAT_SECS));
    let mut response = Sse::new(events(reading)).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    let plain = axum::http::HeaderValue::from_static;
    headers.insert("cache-control", plain("no-cache, no-transform"));
    headers.insert("x-accel-buffering", plain("no"));
    Ok(response)
}

fn events(reading: Reading) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    futures_util::stream::unfold(reading, |mut reading| async move {
        loop {
            if let Some(event) = reading.ready.pop_front() {
                return Some((Ok(event), reading));
            }
            if reading.ended {
                return None;
            }
            if let Err(error) = read_on(&mut reading).await {
                // The client resumes by itself from the last id it saw.
                tracing::warn!(%error, "an event stream ends: the log cannot be read");
                return None;
            }
        }
    })
}

/// Reads what follows, or waits until something does.
async fn read_on(reading: &mut Reading) -> Result<(), StoreError> {
    let follow = &mut reading.follow;
    if !follow.who.may_still(&follow.app).await? {
        reading.ended = true;
        return Ok(());
    }
    let told = follow.app.events.newest();
    // Asked before the log is read: if it has ended, all its events are in the log by now.
    let ended = match &follow.job {
        Some(id) => follow.app.store.job(id).await?.filter(|job| job.state.is_ended()),
        None => None,
    };
    let events = follow.app.store.events_after(follow.at, READ_EVENTS_MAX, &follow.filter).await?;
    let whole = events.len() < READ_EVENTS_MAX as usize;
    if let Some(last) = events.last() {
        follow.at = last.seq;
    }
    let nothing = events.is_empty();
    reading.ready.extend(events.into_iter().map(|event| sse(&view::event(event))));
    if let (Some(job), true) = (ended, whole) {
        let end =
            views::EndOfStream { job_id: job.id.to_string(), state: view::job_state(job.state) };
        reading.ready.push_back(data(SseEvent::default().event("end"), &end));
        reading.ended = true;
    } else if nothing {
        // Nothing up to `told` is for this stream: it need not be read again.
        follow.at = follow.at.max(told);
        tokio::select! {
            () = follow.app.events.applied(told.saturating_add(1)) => {}
            () = tokio::time::sleep(Duration::from_secs(TOKEN_LOOK_SECS)) => {}
            // The client resumes elsewhere, from the last id it saw.
            () = reading.shutdown.cancelled() => reading.ended = true,
        }
    }
    Ok(())
}

fn sse(event: &views::Event) -> SseEvent {
    data(SseEvent::default().id(event.seq.to_string()).event(&event.kind), event)
}

/// JSON has no line breaks of its own, which is all that could fail here.
fn data(event: SseEvent, body: &impl serde::Serialize) -> SseEvent {
    event.data(serde_json::to_string(body).unwrap_or_default())
}
