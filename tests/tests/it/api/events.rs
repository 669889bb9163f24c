//! Event streams: resumable, in order, and with a clear answer where they cannot be.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt as _;
use hostler_controller::api::Access;
use hostler_controller::domain::ApiScope;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::jobs::{World, succeeded};
use super::rig::Rig;

/// One event of a stream.
#[derive(Debug)]
pub(super) struct Told {
    id: Option<i64>,
    pub(super) kind: String,
    pub(super) data: Value,
}

/// Reads events until `enough` says so or the stream ends.
pub(super) async fn read(
    rig: &Rig,
    path: &str,
    last: Option<i64>,
    enough: impl Fn(&[Told]) -> bool,
) -> Vec<Told> {
    let mut request = Request::get(path).header("host", "localhost");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = rig.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let (mut text, mut told) = (String::new(), Vec::new());
    let reading = async {
        while !enough(&told) {
            let Some(chunk) = body.next().await else { break };
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                told.extend(parse(event));
                text = rest.to_owned();
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(in_time.is_ok(), "the stream told only {told:?}");
    told
}

fn parse(event: &str) -> Option<Told> {
    let field = |name: &str| {
        event.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim_start()))
    };
    Some(Told {
        id: field("id:").map(|id| id.parse().unwrap()),
        kind: field("event:")?.to_owned(),
        data: serde_json::from_str(field("data:")?).unwrap(),
    })
}

fn kinds(told: &[Told]) -> Vec<&str> {
    told.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn a_job_is_followed_from_its_first_event_to_its_end() {
    let world = World::new().await;
    let job = world.purge().await;
    let path = format!("/api/jobs/{}/events", job.job_id());
    let working = async {
        let running = world.claim().await.remove(0);
        world.settle(&running, succeeded(json!({}))).await;
    };
    let (told, ()) = tokio::join!(read(&world.rig, &path, None, |_| false), working);
    assert_eq!(kinds(&told), ["job.queued", "job.started", "job.succeeded", "end"]);
    let last = told.last().unwrap();
    assert_eq!(last.data, json!({ "job_id": job.job_id(), "state": "succeeded" }));
    assert_eq!(last.id, None, "the end is no event of the log");
    for event in &told[..3] {
        assert_eq!(event.data["seq"], event.id.unwrap());
        assert_eq!(event.data["job_id"], job.job_id());
    }
    let rest = read(&world.rig, &path, told[1].id, |_| false).await;
    assert_eq!(kinds(&rest), ["job.succeeded", "end"], "a resumed stream tells what was missed");
    let after = format!("{path}?after={}", told[2].id.unwrap());
    assert_eq!(kinds(&read(&world.rig, &after, None, |_| false).await), ["end"]);
}

#[tokio::test]
async fn everything_is_followed_from_now_on_or_from_a_cursor() {
    let world = World::new().await;
    let path = "/api/events?after=0";
    let past = read(&world.rig, path, None, |told| told.len() >= 3).await;
    assert_eq!(past[0].id, Some(1));
    assert!(kinds(&past).contains(&"site.created"), "{past:?}");
    let filtered = format!("/api/events?after=0&host={}", world.host);
    let environment = read(&world.rig, &filtered, None, |told| told.len() >= 2).await;
    assert!(environment.iter().all(|event| event.data["host_id"] == world.host.as_str()));
    let working = async {
        // The stream tells only what comes after it has begun: keep making events until it does.
        loop {
            world.purge().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let live = tokio::select! {
        told = read(&world.rig, "/api/events", None, |told| told.len() >= 2) => told,
        () = working => Vec::new(),
    };
    assert_eq!(live[0].kind, "job.queued");
    assert_eq!(live[1].id, live[0].id.map(|seq| seq + 1), "an event was left out");
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_is_gone() {
    let world = World::new().await;
    for _ in 0..5 {
        world.purge().await;
    }
    let app = &world.rig.app;
    let (_, newest) = app.store.events_bounds().await.unwrap();
    let later = app.clock.now().plus_secs(3600);
    app.store.prune_events(later, 2, 1000).await.unwrap();
    let (oldest, _) = app.store.events_bounds().await.unwrap();
    assert!(oldest > 2, "nothing was pruned");
    let answer = world.rig.get("/api/events?after=1").await.expect(410);
    assert_eq!(answer.code(), "CURSOR_TOO_OLD");
    let path = format!("/api/events?after={}", oldest - 1);
    let told = read(&world.rig, &path, None, |told| !told.is_empty()).await;
    assert_eq!(told[0].id, Some(oldest));
    assert!(told[0].id <= Some(newest));
}

#[tokio::test]
async fn cursors_and_jobs_that_make_no_sense_are_refused() {
    let world = World::new().await;
    for path in ["/api/events?after=-1", "/api/events?after=x", "/api/events?odd=1"] {
        world.rig.get(path).await.expect(400);
    }
    let headers = [("last-event-id", "x")];
    let answer = world.rig.call_with(axum::http::Method::GET, "/api/events", &headers, None).await;
    assert_eq!(answer.expect(400).code(), "CURSOR_INVALID");
    world.rig.get("/api/jobs/job_00000000000000000000000000/events").await.expect(404);
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let rig = Rig::with(Access::Tokens).await;
    let made = rig.app.create_api_token("t".into(), ApiScope::Read, None).await.unwrap();
    let request = Request::get("/api/events")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", made.1))
        .body(Body::empty())
        .unwrap();
    let response = rig.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let mut body = response.into_body().into_data_stream();
    rig.app.revoke_api_token(made.0.id).await.unwrap();
    let ends = async { while body.next().await.is_some() {} };
    let in_time = tokio::time::timeout(Duration::from_secs(20), ends).await;
    assert!(in_time.is_ok(), "the stream outlives its token");
}
