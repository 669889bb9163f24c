//! Damage on the controller's disk, and peers that do not keep to the protocol.

use hostler_agent::steps::bundle::BundleError;
use hostler_protocol::bulk::{IDLE_SECS, STREAMS_MAX, code, reset};
use hostler_protocol::job::Code;
use hostler_protocol::message::close;
use quinn::{ConnectionError, ReadError, VarInt};

use super::super::agent::close_code;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_damaged_on_the_controller_is_refused_and_said() {
    let depot = Depot::new().await;
    let files: [(&str, &[u8]); 2] = [("damaged", b"0123456789"), ("sound", b"sound")];
    let bundle = depot.bundle(&files).await;
    let sha256 = sha256_hex(b"0123456789");
    std::fs::write(depot.blob(&sha256), b"012345678X").unwrap();
    let fetcher = depot.fetcher();
    let error = soon("an error", fetcher.bulk.ensure(&bundle)).await.unwrap_err();
    assert!(matches!(&error, BundleError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(&sha256), "it says what is damaged: {error}");
    assert_eq!(error.code().retry(), hostler_protocol::job::Retry::Later);
    assert!(fetcher.has(b"sound"), "what was sound has come");
    assert!(!fetcher.bulk.blob(&sha256).exists());
    assert!(depot.path.join("bundles/damaged").join(&sha256).exists(), "it is set aside");
    // By hand the first answer says it.
    store(bundles(&depot.controller), &files).await;
    std::fs::write(depot.blob(&sha256), b"012345678X").unwrap();
    let connection = depot.dial().await;
    let wanted = Ask::Blob { bundle: bundle.clone(), sha256, offset: 0 };
    assert_eq!(refused(&ask(&connection, &wanted).await.0), code::DAMAGED);
    assert_eq!(refused(&ask(&connection, &wanted).await.0), code::NOT_FOUND);
    // Made anew, it is fetched, and only it.
    store(bundles(&depot.controller), &files).await;
    soon("the bundle", fetcher.bulk.ensure(&bundle)).await.unwrap();
    assert!(fetcher.has(b"0123456789"));
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_there_is_not_is_said_at_once_and_may_be_tried_again() {
    let depot = Depot::new().await;
    let gone = "a".repeat(64);
    applied(&depot.controller, depot.host(), &gone).await;
    let fetcher = depot.fetcher();
    for name in [gone.as_str(), "no digest", ""] {
        let error = soon("an error", fetcher.bulk.ensure(name)).await.unwrap_err();
        assert_eq!(error.code(), Code::BundleMissing, "{error:?}");
    }
    // Nobody is there at all.
    depot.controller.stop().await;
    let error = fetcher.bulk.ensure(&gone).await.unwrap_err();
    assert_eq!(error.code(), Code::BundleUnreachable, "{error:?}");
    assert_eq!(error.code().retry(), hostler_protocol::job::Retry::Later);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_make_no_sense_are_refused_and_harm_nobody() {
    let depot = Depot::new().await;
    let bundle = depot.bundle(&[("file", b"content")]).await;
    let connection = depot.dial().await;
    let of = |bundle: &str, sha256: &str, offset| Ask::Blob {
        bundle: bundle.to_owned(),
        sha256: sha256.to_owned(),
        offset,
    };
    let sha256 = sha256_hex(b"content");
    for (asked, expected) in [
        (of(&bundle, "../../root.key", 0), code::INVALID),
        (of("../pki", &sha256, 0), code::INVALID),
        (of(&bundle, &sha256, 8), code::INVALID),
        (Ask::Manifest { bundle: bundle.clone(), offset: u64::MAX }, code::INVALID),
        (Ask::Manifest { bundle: String::new(), offset: 0 }, code::INVALID),
    ] {
        assert_eq!(refused(&ask(&connection, &asked).await.0), expected, "{asked:?}");
    }
    // No frame, too large a frame, another message, half a frame: the stream is reset, no more.
    for bytes in [&[0, 0, 0, 0][..], &[0, 1, 0, 0], &[0, 0, 0, 1, 99], &[0, 0, 0, 9, 1]] {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let read = soon("a reset", receive.read_to_end(100)).await;
        let Err(quinn::ReadToEndError::Read(ReadError::Reset(code))) = read else {
            panic!("{bytes:?} was answered: {read:?}");
        };
        assert_eq!(code, VarInt::from_u32(reset::BROKEN));
    }
    // From the middle, and from the very end.
    for offset in [3, 7] {
        let (answer, mut rest) = ask(&connection, &of(&bundle, &sha256, offset)).await;
        assert_eq!(answer, Answer::Found { bytes: 7 });
        let from = usize::try_from(offset).unwrap();
        assert_eq!(rest.read_to_end(100).await.unwrap(), b"content"[from..]);
    }
    depot.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_answered_on_a_few_streams_at_once_and_on_two_connections() {
    let depot = Depot::new().await;
    // More than the windows hold: an answer that nobody reads does not end.
    let large = noise(6, 8 * 1024 * 1024);
    let bundle = depot.bundle(&[("large", &large), ("small", b"small")]).await;
    let connection = depot.dial().await;
    let of = |content: &[u8]| Ask::Blob {
        bundle: bundle.clone(),
        sha256: sha256_hex(content),
        offset: 0,
    };
    let mut unread = Vec::new();
    for _ in 0..STREAMS_MAX {
        unread.push(ask(&connection, &of(&large)).await);
    }
    let one_more = of(b"small");
    let waiting = ask(&connection, &one_more);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(500), waiting).await;
    assert!(waited.is_err(), "one more was answered than may be");
    unread.pop();
    let (answer, _) = ask(&connection, &of(b"small")).await;
    assert_eq!(answer, Answer::Found { bytes: 5 });
    // The oldest of three connections gives way.
    let second = depot.dial().await;
    ask(&second, &of(b"small")).await;
    let third = depot.dial().await;
    assert_eq!(close_code(&connection).await, u64::from(close::REPLACED));
    ask(&third, &of(b"small")).await;
    ask(&second, &of(b"small")).await;
    // And what is not used is not held open.
    let idle = std::time::Duration::from_secs(IDLE_SECS + 15);
    let ended = tokio::time::timeout(idle, third.closed()).await.expect("it must not stay");
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(closed)
        if closed.error_code == VarInt::from_u32(close::DONE)),
        "{ended:?}"
    );
    depot.controller.stop().await;
}
