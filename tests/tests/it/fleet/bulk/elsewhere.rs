//! Several controllers, and bundles that are in no controller's directory.

use hostler_controller::clock::Clock;
use hostler_controller::config::{Config, DesiredConfig};
use hostler_tests::servers::s3::S3;

use super::super::cluster::Cluster;
use super::super::config;
use super::*;

/// Bundles are on the disk of the controller that made them: what the session's has not, another may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_controller_is_asked_for_what_the_sessions_has_not() {
    let cluster = Cluster::new("another_controller_is_asked_for_bundles");
    let [one, two] = cluster.both().await;
    let identity = new_host(&one, "web-1").await;
    let name = store(bundles(&two), &[("file", b"content")]).await;
    applied(&two, &identity.enrolled.host, &name).await;
    assert!(bundles(&one).manifest(&name).await.is_err(), "it is on the other's disk");
    let mut way = way(&identity, Some(one.ready.agents));
    let alone = Fetcher::new(&way);
    let error = soon("an error", alone.bulk.ensure(&name)).await.unwrap_err();
    assert_eq!(error.code(), hostler_protocol::job::Code::BundleMissing, "{error:?}");
    way.controllers = vec![one.ready.agents.to_string(), two.ready.agents.to_string()];
    let fetcher = Fetcher::new(&way);
    soon("the bundle", fetcher.bulk.ensure(&name)).await.unwrap();
    assert!(fetcher.has(b"content"));
    cluster.end([one, two]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_a_bucket_gives_what_is_in_it() {
    let server = S3::start().unwrap();
    let (_dir, path) = directory();
    let bucket = Some(crate::bundles::settings(&server));
    let desired = DesiredConfig { bucket, ..DesiredConfig::default() };
    let config = Config { desired, ..config(&path) };
    let controller = Controller::start_as(config, Clock::system()).await;
    let identity = new_host(&controller, "web-1").await;
    let large = noise(11, 3 * 1024 * 1024);
    let name = store(bundles(&controller), &[("large", &large), ("small", b"small")]).await;
    applied(&controller, &identity.enrolled.host, &name).await;
    assert!(!path.join("bundles").exists(), "nothing is in the data directory");
    let fetcher = Fetcher::new(&way(&identity, Some(controller.ready.agents)));
    soon("the bundle", fetcher.bulk.ensure(&name)).await.unwrap();
    assert!(fetcher.has(&large) && fetcher.has(b"small"));
    controller.stop().await;
}
