//! `hostler-agent enroll` with tokens that are no good: a clear error, and nothing of it left.

use std::io::Write as _;
use std::process::{Output, Stdio};

use hostler_protocol::join::Join;
use hostler_tests::servers::{command, directory};
use hostler_tests::system::{Controller, program};

/// Enrols with a join string; what was printed.
fn enroll(state_dir: &std::path::Path, join: &str, more: &[&str]) -> Output {
    let mut child = command(program("hostler-agent").unwrap())
        .args(["enroll", "--token-file", "-", "--state-dir"])
        .arg(state_dir)
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(join.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The host is as if it had never tried: an agent does not run, another token enrols it.
#[track_caller]
fn refused(state_dir: &std::path::Path, out: &Output, why: &str, secret: &str) {
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains(why), "{why} is not said:\n{told}");
    assert!(!told.contains(secret), "the secret is told:\n{told}");
    let run = command(program("hostler-agent").unwrap())
        .args(["run", "--state-dir"])
        .arg(state_dir)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && told.contains("not enrolled"), "{told}");
}

#[test]
fn a_token_that_is_no_good_enrols_nobody_and_says_why() {
    let (ours, other) = (Controller::start(None).unwrap(), Controller::start(None).unwrap());
    let dir = directory("enrolments").unwrap();
    let state = dir.path().join("agent");
    let join = ours.join_string("web1").unwrap();
    let secret = join.strip_prefix("hostler1.").unwrap();

    // Another controller answers where this one is said to be. It never sees the secret.
    let there = format!("127.0.0.1:{}", other.agent_port);
    let out = enroll(&state, &join, &["--controller", &there]);
    refused(&state, &out, "no controller could be reached", secret);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        told.contains("not the one the join string names"),
        "it is not said that another one answered:\n{told}"
    );
    assert!(!other.log().contains("enrolment was refused"), "{}", other.log());

    let mut parsed = Join::parse(&join).unwrap();
    // The token of another controller, and one nobody made.
    let foreign = Join::parse(&other.join_string("web1").unwrap()).unwrap();
    let stray = Join { token: foreign.token, secret: foreign.secret, ..parsed.clone() };
    refused(&state, &enroll(&state, &stray.format(), &[]), "TOKEN_INVALID", secret);
    parsed.secret[0] ^= 1;
    refused(&state, &enroll(&state, &parsed.format(), &[]), "TOKEN_INVALID", secret);
    for nonsense in ["", "hostler1.", "hostler2.abc", &join[..join.len() - 3], "x\n"] {
        refused(&state, &enroll(&state, nonsense, &[]), "join string", secret);
    }

    // None of this cost the token anything; used once, it is of no use to anybody else.
    let out = enroll(&state, &join, &[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let second = dir.path().join("second");
    let out = enroll(&second, &join, &[]);
    refused(&second, &out, "TOKEN_USED", secret);
    let hosts = ours.call("GET", "/api/hosts", None).unwrap().expect(200).unwrap();
    assert_eq!(hosts["items"].as_array().unwrap().len(), 1, "{hosts:#}");
    let again = enroll(&state, &ours.join_string("web2").unwrap(), &[]);
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(told.contains("already enrolled") && told.contains("--replace"), "{told}");
}
