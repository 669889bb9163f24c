//! The wire format, pinned: one example of every message, byte for byte.
//!
//! `contracts/wire/*.hex` are what older and newer builds agree on. A difference here is a change
//! of the protocol: messages are only ever added. Run with `UPDATE_CONTRACTS=1` to write files
//! for new messages (and read the diff: an existing file must not change).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use hostler_protocol::bulk::{Answer, Ask};
use hostler_protocol::codec::{self, Decoder};
use hostler_protocol::id::{BootId, ControllerId, EnrolmentTokenId, HostId, JobId};
use hostler_protocol::message::{
    AttemptRef, Challenge, EnrolRequest, Enrolled, Hello, RecoverProof, RecoverRequest, Renewed,
    ToAgent, ToController, Verdict, Welcome,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/wire")
}

fn attempt(n: u8) -> AttemptRef {
    AttemptRef { job: JobId::from_parts(1_700_000_000_000, [n; 10]), attempt: u32::from(n) * 100 }
}

fn to_controller() -> Vec<(&'static str, ToController)> {
    vec![
        (
            "hello",
            ToController::Hello(Hello {
                version_min: 1,
                version_max: 300,
                build: "0.1.0".to_owned(),
                boot: BootId::from_parts(1_700_000_000_000, [9; 10]),
                clock_us: -1_700_000_000_000_000,
                running: vec![attempt(1)],
                unacknowledged: vec![attempt(2), attempt(3)],
                facts: br#"{"arch":"x86_64"}"#.to_vec(),
            }),
        ),
        ("heartbeat", ToController::Heartbeat { sequence: 70_000, running: vec![attempt(1)] }),
        ("accepted", ToController::Accepted { attempt: attempt(1) }),
        ("rejected", ToController::Rejected { attempt: attempt(1), error: b"{}".to_vec() }),
        (
            "progress",
            ToController::Progress { attempt: attempt(1), sequence: 250, document: b"{}".to_vec() },
        ),
        (
            "finished",
            ToController::Finished { attempt: attempt(1), outcome: br#"{"state":1}"#.to_vec() },
        ),
        (
            "enrol",
            ToController::Enrol(EnrolRequest {
                version_min: 1,
                version_max: 1,
                token: EnrolmentTokenId::from_parts(5, [5; 10]),
                secret: vec![0xaa; 32],
                csr: vec![0x30, 0x82],
                hostname: "web-1.example".to_owned(),
                facts: b"{}".to_vec(),
            }),
        ),
        ("goodbye", ToController::Goodbye { reason: "the agent stops".to_owned() }),
        ("renew", ToController::Renew { csr: vec![0x30, 0x82] }),
        (
            "recover",
            ToController::Recover(RecoverRequest {
                version_min: 1,
                version_max: 300,
                host: HostId::from_parts(5, [5; 10]),
            }),
        ),
        (
            "prove",
            ToController::Prove(RecoverProof {
                public_key: vec![0x30, 0x59],
                signature: vec![0x30, 0x45],
                csr: vec![0x30, 0x82],
            }),
        ),
        ("observed", ToController::Observed { document: br#"{"stacks":[]}"#.to_vec() }),
    ]
}

fn to_agent() -> Vec<(&'static str, ToAgent)> {
    vec![
        (
            "welcome",
            ToAgent::Welcome(Welcome {
                version: 1,
                controller: ControllerId::from_parts(5, [5; 10]),
                epoch: u64::MAX,
                verdicts: vec![
                    (attempt(1), Verdict::Continue),
                    (attempt(2), Verdict::Cancel),
                    (attempt(3), Verdict::Stale),
                ],
            }),
        ),
        ("refused", ToAgent::Refused { code: "VERSION".to_owned(), message: "upgrade".to_owned() }),
        ("heartbeat_ack", ToAgent::HeartbeatAck { sequence: 70_000 }),
        ("run", ToAgent::Run { attempt: attempt(1), timeout_secs: 600, spec: b"{}".to_vec() }),
        ("cancel", ToAgent::Cancel { attempt: attempt(1) }),
        ("ack", ToAgent::Ack { attempt: attempt(1) }),
        ("drain", ToAgent::Drain { retry_after_ms: 2500 }),
        (
            "enrolled",
            ToAgent::Enrolled(Enrolled {
                host: HostId::from_parts(5, [5; 10]),
                name: "web-1".to_owned(),
                chain: vec![vec![1, 2, 3], vec![4]],
                root: vec![5, 6],
            }),
        ),
        (
            "enrol_refused",
            ToAgent::EnrolRefused { code: "TOKEN_USED".to_owned(), message: "used".to_owned() },
        ),
        ("renewed", ToAgent::Renewed(Renewed { chain: vec![vec![1, 2, 3], vec![4]] })),
        (
            "renew_refused",
            ToAgent::RenewRefused { code: "KEY_REUSED".to_owned(), message: "used".to_owned() },
        ),
        (
            "challenge",
            ToAgent::Challenge(Challenge {
                nonce: vec![0xbb; 32],
                clock_us: 1_700_000_000_000_000,
            }),
        ),
    ]
}

fn bulk_ask() -> Vec<(&'static str, Ask)> {
    let bundle = "ab".repeat(32);
    vec![
        ("manifest", Ask::Manifest { bundle: bundle.clone(), offset: 0 }),
        ("blob", Ask::Blob { bundle, sha256: "cd".repeat(32), offset: 70_000 }),
    ]
}

fn bulk_answer() -> Vec<(&'static str, Answer)> {
    let (code, message) = ("NOT_FOUND".to_owned(), "there is none".to_owned());
    vec![
        ("found", Answer::Found { bytes: 67_108_864 }),
        ("refused", Answer::Refused { code, message }),
    ]
}

/// Every variant, by position: a new one does not compile until it has a place, and an example.
fn place_of_controller_message(message: &ToController) -> usize {
    match message {
        ToController::Hello(_) => 0,
        ToController::Heartbeat { .. } => 1,
        ToController::Accepted { .. } => 2,
        ToController::Rejected { .. } => 3,
        ToController::Progress { .. } => 4,
        ToController::Finished { .. } => 5,
        ToController::Enrol(_) => 6,
        ToController::Goodbye { .. } => 7,
        ToController::Renew { .. } => 8,
        ToController::Recover(_) => 9,
        ToController::Prove(_) => 10,
        ToController::Observed { .. } => 11,
    }
}

fn place_of_agent_message(message: &ToAgent) -> usize {
    match message {
        ToAgent::Welcome(_) => 0,
        ToAgent::Refused { .. } => 1,
        ToAgent::HeartbeatAck { .. } => 2,
        ToAgent::Run { .. } => 3,
        ToAgent::Cancel { .. } => 4,
        ToAgent::Ack { .. } => 5,
        ToAgent::Drain { .. } => 6,
        ToAgent::Enrolled(_) => 7,
        ToAgent::EnrolRefused { .. } => 8,
        ToAgent::Renewed(_) => 9,
        ToAgent::RenewRefused { .. } => 10,
        ToAgent::Challenge(_) => 11,
    }
}

fn place_of_ask(ask: &Ask) -> usize {
    match ask {
        Ask::Manifest { .. } => 0,
        Ask::Blob { .. } => 1,
    }
}

fn place_of_answer(answer: &Answer) -> usize {
    match answer {
        Answer::Found { .. } => 0,
        Answer::Refused { .. } => 1,
    }
}

/// Bytes as lines of 32 in hex.
fn lines(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| hex::encode(line) + "\n").collect()
}

fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    side: &str,
    examples: Vec<(&'static str, T)>,
    place: impl Fn(&T) -> usize,
) {
    let update = std::env::var_os("UPDATE_CONTRACTS").is_some();
    for (expected_place, (name, message)) in examples.iter().enumerate() {
        assert_eq!(place(message), expected_place, "the example of {name} stands out of order");
        let frame = codec::encode(message).unwrap();
        let file = directory().join(format!("{side}.{name}.hex"));
        if update {
            std::fs::write(&file, lines(&frame)).unwrap();
        }
        let pinned = std::fs::read_to_string(&file).unwrap_or_else(|error| {
            panic!("{}: {error}; a new message needs UPDATE_CONTRACTS=1 once", file.display())
        });
        let bytes = hex::decode(pinned.replace('\n', "")).unwrap();
        assert_eq!(
            lines(&frame),
            pinned,
            "{side} {name} is encoded differently than before: old and new builds would not \
             understand each other; add a new message instead"
        );
        let mut decoder = Decoder::new();
        decoder.ingest(&bytes);
        let payload = decoder.next_payload().unwrap().expect("a whole frame");
        assert_eq!(usize::from(payload[0]), expected_place, "{name} has another number");
        assert_eq!(&codec::decode::<T>(&payload).unwrap(), message);
        assert_eq!(decoder.finish(), Ok(()));
    }
}

#[test]
fn messages_to_the_controller_keep_their_bytes() {
    check("to_controller", to_controller(), place_of_controller_message);
}

#[test]
fn messages_to_the_agent_keep_their_bytes() {
    check("to_agent", to_agent(), place_of_agent_message);
}

#[test]
fn questions_for_bundles_and_their_answers_keep_their_bytes() {
    check("bulk_ask", bulk_ask(), place_of_ask);
    check("bulk_answer", bulk_answer(), place_of_answer);
}

#[test]
fn every_pinned_file_belongs_to_a_message() {
    let known: Vec<String> = to_controller()
        .iter()
        .map(|(name, _)| format!("to_controller.{name}.hex"))
        .chain(to_agent().iter().map(|(name, _)| format!("to_agent.{name}.hex")))
        .chain(bulk_ask().iter().map(|(name, _)| format!("bulk_ask.{name}.hex")))
        .chain(bulk_answer().iter().map(|(name, _)| format!("bulk_answer.{name}.hex")))
        .collect();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "contracts/wire/{name} belongs to no message");
    }
}
