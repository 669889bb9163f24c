//! Webhooks through the API: who signed may ask for a look, nobody else.

use axum::body::Body;
use axum::http::Request;
use hostler_controller::api::Access;
use hostler_tests::system::hmac_sha256;
use serde_json::{Value, json};

use super::repository::{Kept, Looks, Repository, WEB};
use super::rig::{Answer, Rig};
use crate::store::world::World;

const SECRET: &str = "correct horse battery staple";
const OLD: &str = "the one before";
const PUSH: &str =
    r#"{"ref":"refs/heads/main","after":"abc","repository":{"default_branch":"main"}}"#;

#[test]
fn the_tests_sign_as_github_says() {
    let signed = hmac_sha256("It's a Secret to Everybody", b"Hello, World!");
    assert_eq!(signed, "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
}

async fn kept(looks: Looks, secrets: &[&str]) -> Kept {
    let repository = Repository::new();
    repository.write("web/docker-compose.yml", WEB);
    repository.commit("Begin");
    // With tokens asked for: a forge has none.
    Kept::of(World::sqlite().await, repository, looks, secrets, Access::Tokens).await
}

async fn deliver(rig: &Rig, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
    let mut request = Request::post("/api/webhook").header("host", "hooks.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    rig.send(request.body(body.into()).unwrap()).await
}

/// As GitHub sends it.
async fn github(rig: &Rig, event: &str, delivery: &str, secret: &str, body: &str) -> Answer {
    let signature = format!("sha256={}", hmac_sha256(secret, body.as_bytes()));
    let headers = [
        ("content-type", "application/json"),
        ("x-github-event", event),
        ("x-github-delivery", delivery),
        ("x-hub-signature-256", &signature),
    ];
    deliver(rig, &headers, body.to_owned()).await
}

async fn refreshes(kept: &Kept) -> usize {
    let page = hostler_controller::store::Page::first(200);
    kept.rig.app.store.refreshes(&page).await.unwrap().0.len()
}

#[tokio::test]
async fn without_a_secret_nothing_is_accepted() {
    let kept = kept(Looks::Never, &[]).await;
    let answer = github(&kept.rig, "push", "1", "", PUSH).await.expect(503);
    assert_eq!(answer.code(), "WEBHOOK_NOT_CONFIGURED");
    let answer = deliver(&kept.rig, &[], "").await.expect(503);
    assert_eq!(answer.code(), "WEBHOOK_NOT_CONFIGURED");
    assert_eq!(refreshes(&kept).await, 0);
    kept.end().await;
}

#[tokio::test]
async fn what_is_not_signed_with_the_secret_is_refused() {
    let kept = kept(Looks::Never, &[SECRET]).await;
    let good = format!("sha256={}", hmac_sha256(SECRET, PUSH.as_bytes()));
    let bad = format!("sha256={}", hmac_sha256("guessed", PUSH.as_bytes()));
    let event = ("x-github-event", "push");
    for headers in [
        vec![event],
        vec![event, ("x-hub-signature-256", bad.as_str())],
        vec![event, ("x-hub-signature-256", "sha256=zz")],
        vec![event, ("x-hub-signature-256", &good["sha256=".len()..])],
        vec![event, ("x-hub-signature-256", good.as_str()), ("x-hub-signature-256", &good)],
        vec![event, ("x-hub-signature", "sha1=5f3e")],
        vec![event, ("x-gitlab-token", "guessed")],
        // A wrong signature is not made good by another scheme's right one.
        vec![event, ("x-hub-signature-256", bad.as_str()), ("x-gitlab-token", SECRET)],
    ] {
        let answer = deliver(&kept.rig, &headers, PUSH).await.expect(401);
        assert_eq!(answer.code(), "WEBHOOK_UNVERIFIED", "{headers:?}");
        assert!(!answer.text.contains(SECRET), "a refusal tells the secret");
    }
    // Signed, but for other bytes.
    let headers = [event, ("x-hub-signature-256", good.as_str())];
    deliver(&kept.rig, &headers, format!("{PUSH} ")).await.expect(401);
    assert_eq!(refreshes(&kept).await, 0, "nobody who is not believed starts anything");
    deliver(&kept.rig, &headers, PUSH).await.expect(202);
    kept.end().await;
}

#[tokio::test]
async fn each_forge_is_believed_by_its_own_signature() {
    let kept = kept(Looks::Never, &[SECRET, OLD]).await;
    for (secret, body) in [(SECRET, PUSH), (OLD, PUSH)] {
        let bare = hmac_sha256(secret, body.as_bytes());
        let prefixed = format!("sha256={bare}");
        let bitbucket = r#"{"push":{"changes":[{"new":{"type":"branch","name":"main"}}]}}"#;
        let signed = format!("sha256={}", hmac_sha256(secret, bitbucket.as_bytes()));
        for (headers, body) in [
            (vec![("x-github-event", "push"), ("x-hub-signature-256", prefixed.as_str())], body),
            (vec![("x-gitea-event", "push"), ("x-gitea-signature", bare.as_str())], body),
            (vec![("x-forgejo-event", "push"), ("x-forgejo-signature", bare.as_str())], body),
            (vec![("x-gogs-event", "push"), ("x-gogs-signature", bare.as_str())], body),
            (vec![("x-gitlab-event", "Push Hook"), ("x-gitlab-token", secret)], body),
            (vec![("x-event-key", "repo:push"), ("x-hub-signature", signed.as_str())], bitbucket),
            (vec![("x-signature-256", bare.as_str())], body),
            (vec![("x-signature", prefixed.as_str())], body),
        ] {
            let answer = deliver(&kept.rig, &headers, body).await;
            assert_eq!(answer.status.as_u16(), 202, "{headers:?}: {}", answer.text);
            assert_eq!(answer.body["refresh"]["trigger"], "webhook", "{headers:?}");
        }
    }
    // Those that waited were replaced one by one: one look answers for all of them.
    let open = kept.rig.app.store.open_refreshes().await.unwrap();
    assert_eq!(open.len(), 1, "{open:?}");
    kept.end().await;
}

#[tokio::test]
async fn what_asks_for_nothing_is_said_to() {
    let kept = kept(Looks::Never, &[SECRET]).await;
    let ping = github(&kept.rig, "ping", "1", SECRET, r#"{"zen":"Keep it logically awesome."}"#);
    assert_eq!(ping.await.expect(200).body["status"], "pong");
    let other = PUSH.replace("refs/heads/main", "refs/heads/dev");
    let ignored = github(&kept.rig, "push", "2", SECRET, &other).await.expect(200).body;
    assert_eq!(ignored["status"], "ignored");
    assert_eq!(ignored["reason"], "refs/heads/dev moved; main is followed");
    assert_eq!(ignored["refresh"], Value::Null);
    let issue = github(&kept.rig, "issues", "3", SECRET, "{}").await.expect(200).body;
    assert_eq!(issue["status"], "ignored");
    let tag = PUSH.replace("refs/heads/main", "refs/tags/main2");
    let tag = github(&kept.rig, "push", "4", SECRET, &tag).await.expect(200).body;
    assert_eq!(tag["status"], "ignored");
    assert_eq!(refreshes(&kept).await, 0);
    // One too many does no harm, one too few does.
    github(&kept.rig, "push", "5", SECRET, "not json").await.expect(202);
    kept.end().await;
}

#[tokio::test]
async fn a_form_holds_the_same() {
    let kept = kept(Looks::Never, &[SECRET]).await;
    let body = "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fdev%22%7D";
    let signature = format!("sha256={}", hmac_sha256(SECRET, body.as_bytes()));
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-github-event", "push"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    let answer = deliver(&kept.rig, &headers, body).await.expect(200);
    assert_eq!(answer.body["reason"], "refs/heads/dev moved; main is followed");
    kept.end().await;
}

#[tokio::test]
async fn what_is_too_large_is_not_read() {
    const MAX: usize = 25 * 1024 * 1024;
    let kept = kept(Looks::Never, &[SECRET]).await;
    let said = [("content-length", "26214401"), ("x-hub-signature-256", "sha256=00")];
    let answer = deliver(&kept.rig, &said, "").await.expect(413);
    assert_eq!(answer.code(), "BODY_TOO_LARGE");
    // One that does not say how long it is.
    let pieces = (0..=MAX / 65_536).map(|_| Ok::<_, std::io::Error>(vec![b' '; 65_536]));
    let stream = Body::from_stream(futures_util::stream::iter(pieces));
    let answer = deliver(&kept.rig, &[], stream).await.expect(413);
    assert_eq!(answer.code(), "BODY_TOO_LARGE");
    // One of just the limit is read whole.
    let body = " ".repeat(MAX);
    let answer = github(&kept.rig, "push", "1", SECRET, &body).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text);
    kept.end().await;
}

#[tokio::test]
async fn a_delivery_that_comes_again_gets_its_first_answer() {
    let kept = kept(Looks::Yes, &[SECRET]).await;
    let first = github(&kept.rig, "push", "d-1", SECRET, PUSH).await.expect(202);
    let id = first.body["refresh"]["id"].as_str().unwrap().parse().unwrap();
    let at_most = std::time::Duration::from_secs(60);
    let ended = kept.rig.app.wait_for_refresh(&id, at_most).await.unwrap();
    assert!(ended.finished_at.is_some(), "{ended:?}");
    let count = refreshes(&kept).await;
    let again = github(&kept.rig, "push", "d-1", SECRET, PUSH).await.expect(200);
    assert_eq!(again.body["status"], "completed");
    assert_eq!(again.body["refresh"]["id"], json!(ended.id));
    assert_eq!(refreshes(&kept).await, count, "a delivery was served twice");
    let other = github(&kept.rig, "push", "d-2", SECRET, PUSH).await.expect(202);
    assert_ne!(other.body["refresh"]["id"], json!(ended.id));
    kept.end().await;
}

#[tokio::test]
async fn a_webhook_without_a_repository_is_told_so() {
    use hostler_controller::app::desired::{Desired, Keeping};
    use hostler_controller::bundles::Bundles;
    use hostler_controller::git::Secret;
    let place = World::sqlite().await;
    let dir = tempfile::tempdir().unwrap();
    let secrets = vec![Secret::new(SECRET.to_owned())];
    let keeping = Keeping { webhook_secrets: secrets, ..Keeping::default() };
    let desired = Desired::new(keeping, Bundles::on_disk(dir.path()).unwrap());
    let rig = Rig::over(Access::Tokens, place.store.clone(), desired);
    let answer = github(&rig, "push", "1", SECRET, PUSH).await.expect(409);
    assert_eq!(answer.code(), "GIT_NOT_CONFIGURED");
    drop(rig);
    place.end().await;
}
