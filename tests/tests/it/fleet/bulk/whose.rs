//! A host gets what its own rows name, and nothing else.

use hostler_agent::steps::bundle::BundleError;
use hostler_controller::domain::JobState;
use hostler_controller::views::Revocation;
use hostler_protocol::ALPN_BULK;
use hostler_protocol::bulk::code;
use hostler_protocol::message::close;
use quinn::ConnectionError;

use super::super::agent::{close_code, connect, hello, session};
use super::*;

/// Waits until a connection with a blob on its way is closed. The word with the code is one packet
/// and may be lost among those; who asks after the controller has forgotten the connection is told
/// by a reset that there is none.
async fn cut_off(connection: &Connection) {
    let error = soon("the controller to close", connection.closed()).await;
    if !matches!(error, ConnectionError::Reset) {
        assert_eq!(close_code(connection).await, u64::from(close::REVOKED), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_cannot_read_anothers_bundle() {
    let depot = Depot::new().await;
    let own = depot.bundle(&[("file", b"its own"), ("both", b"shared")]).await;
    let other = new_host(&depot.controller, "web-2").await;
    let theirs =
        store(bundles(&depot.controller), &[("file", b"theirs"), ("both", b"shared")]).await;
    applied(&depot.controller, &other.enrolled.host, &theirs).await;
    let fetcher = depot.fetcher();
    let refusal = soon("a refusal", fetcher.bulk.ensure(&theirs)).await.unwrap_err();
    assert!(matches!(&refusal, BundleError::Missing { .. }), "{refusal:?}");
    // By hand too, and under the name of the bundle it may have.
    let connection = depot.dial().await;
    let blob = |bundle: &str, content: &[u8]| Ask::Blob {
        bundle: bundle.to_owned(),
        sha256: sha256_hex(content),
        offset: 0,
    };
    for (bundle, content, may) in [
        (&own, &b"its own"[..], true),
        (&own, b"shared", true),
        (&own, b"theirs", false),
        (&theirs, b"theirs", false),
        (&theirs, b"shared", false),
    ] {
        let (answer, _) = ask(&connection, &blob(bundle, content)).await;
        match may {
            true => assert_eq!(answer, Answer::Found { bytes: content.len() as u64 }),
            false => assert_eq!(refused(&answer), code::NOT_FOUND, "{content:?}"),
        }
    }
    // What there is, and is another's, is answered as what there is not.
    let nothing = "0".repeat(64);
    let (of_other, _) = ask(&connection, &Ask::Manifest { bundle: theirs, offset: 0 }).await;
    let (of_nobody, _) = ask(&connection, &Ask::Manifest { bundle: nothing, offset: 0 }).await;
    assert_eq!(of_other, of_nobody);
    connection.close(close::DONE.into(), b"");
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_job_names_a_bundle_until_it_ends() {
    let depot = Depot::new().await;
    let bundle = store(bundles(&depot.controller), &[("file", b"new")]).await;
    let other = new_host(&depot.controller, "web-2").await;
    let job = sync_job(&depot.controller, depot.host(), &bundle).await;
    let may = async |host: &HostId| {
        depot.controller.app().store.is_bundle_of(&bundle, host).await.unwrap()
    };
    assert!(may(depot.host()).await, "its job waits");
    assert!(!may(&other.enrolled.host).await, "the job is not that host's");
    let fetcher = depot.fetcher();
    soon("the bundle", fetcher.bulk.ensure(&bundle)).await.unwrap();
    depot.controller.app().cancel_job(job.clone()).await.unwrap();
    let ended = depot.controller.until(&job, "cancelled", |job| job.state == JobState::Cancelled);
    ended.await;
    assert!(!may(depot.host()).await, "nobody needs it for anything");
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_host_gets_nothing_more() {
    let depot = Depot::new().await;
    let large = noise(5, 8 * 1024 * 1024);
    let bundle = depot.bundle(&[("large", &large)]).await;
    let live = session(&depot.controller, &depot.identity, hello(&[], &[])).await;
    let connection = depot.dial().await;
    let wanted = Ask::Blob { bundle: bundle.clone(), sha256: sha256_hex(&large), offset: 0 };
    let (answer, _receive) = ask(&connection, &wanted).await;
    assert_eq!(answer, Answer::Found { bytes: large.len() as u64 });
    // In the middle of a blob, which nobody reads.
    depot.controller.revoke(depot.host(), Revocation::Evict).await;
    cut_off(&connection).await;
    assert_eq!(close_code(&live.connection).await, u64::from(close::REVOKED));
    let again = depot.dial().await;
    assert_eq!(close_code(&again).await, u64::from(close::UNAUTHENTICATED));
    // The agent does not go on trying: a person has to see to that.
    let fetcher = depot.fetcher();
    let refusal = soon("a refusal", fetcher.bulk.ensure(&bundle)).await.unwrap_err();
    assert!(matches!(&refusal, BundleError::Unreachable { .. }), "{refusal:?}");
    assert_eq!(refusal.code(), hostler_protocol::job::Code::BundleUnreachable);
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_certificate_no_bundles() {
    let depot = Depot::new().await;
    let (to, pin) = (depot.controller.ready.agents, depot.controller.app().join.pin);
    let connection = connect(to, pin, ALPN_BULK, None).await.unwrap();
    assert_eq!(close_code(&connection).await, u64::from(close::UNAUTHENTICATED));
    depot.controller.stop().await;
}
