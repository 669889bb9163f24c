//! A real agent process, killed at each step of a renewal by a controller that decides the step:
//! whatever it had on disk then is a working identity, and the same one the controller knows.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use hostler_agent::clock::Clock;
use hostler_agent::identity;

use crate::controller::{Controller, Peer};
use crate::renewal::enrolled;

/// The agent's program, killed without warning when it is dropped.
struct Program(Child);

impl Program {
    #[expect(clippy::disallowed_methods, reason = "the test kills a real process")]
    fn start(state_dir: &Path) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_hostler-agent"))
            .arg("run")
            .arg("--state-dir")
            .arg(state_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// How far a renewal comes before the kill.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Step {
    Welcomed,
    Asked,
    Answered,
    Stored,
    Shown,
    Proven,
    Committed,
}

const STEPS: [Step; 7] = [
    Step::Welcomed,
    Step::Asked,
    Step::Answered,
    Step::Stored,
    Step::Shown,
    Step::Proven,
    Step::Committed,
];

/// What the controller knows: the committed key, and the one that may become it.
struct Known {
    committed: Vec<u8>,
    candidate: Option<Vec<u8>>,
}

impl Known {
    /// Welcomes a session if its key is known, as a controller does.
    async fn admit(&mut self, mut peer: Peer, epoch: u64) -> Option<Peer> {
        let key = peer.key();
        if self.candidate.as_ref() == Some(&key) {
            self.committed = key;
            self.candidate = None;
        } else if self.committed != key {
            peer.refuse();
            return None;
        }
        peer.welcome_all(2, epoch).await;
        Some(peer)
    }

    async fn session(&mut self, controller: &Controller, epoch: u64) -> Peer {
        loop {
            let peer = controller.next_session().await;
            if let Some(peer) = self.admit(peer, epoch).await {
                return peer;
            }
        }
    }
}

fn exists(dir: &Path, name: &str) -> bool {
    dir.join("identity.candidate").join(name).exists()
}

async fn until(what: &str, there: impl Fn() -> bool) {
    let waited = async {
        while !there() {
            tokio::task::yield_now().await;
        }
    };
    crate::controller::soon(what, waited).await;
}

/// Takes an agent to a step of its renewal; it is killed there.
async fn run_to(step: Step, controller: &Controller, known: &mut Known, dir: &Path) {
    let program = Program::start(dir);
    let mut peer = known.session(controller, 1).await;
    if step == Step::Welcomed {
        return drop(program);
    }
    let (csr, key) = peer.renew().await;
    if step == Step::Asked {
        return drop(program);
    }
    known.candidate = Some(key);
    peer.renewed(controller.chain(&csr, 8)).await;
    if step == Step::Answered {
        return drop(program);
    }
    until("the candidate", || exists(dir, "identity.json")).await;
    if step == Step::Stored {
        return drop(program);
    }
    let peer = controller.next_session().await;
    if step == Step::Shown {
        return drop(program);
    }
    // Committed here: from now on only the new key counts.
    let peer = known.admit(peer, 2).await;
    assert!(peer.is_some(), "the candidate was shown");
    if step == Step::Committed {
        until("the commit", || !dir.join("identity.candidate").exists()).await;
    }
    drop(program);
}

#[tokio::test]
async fn an_agent_killed_at_any_step_of_a_renewal_comes_back_and_renews() {
    for step in STEPS {
        let controller = Controller::start();
        let dir = enrolled(&controller, 8, Clock::system()).await;
        let leaf = identity::load(dir.path()).unwrap().chain[0].to_vec();
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let committed = parsed.tbs_certificate.subject_pki.raw.to_vec();
        let mut known = Known { committed, candidate: None };
        run_to(step, &controller, &mut known, dir.path()).await;

        let program = Program::start(dir.path());
        let mut peer = known.session(&controller, 3).await;
        // And the next renewal goes all the way.
        if peer.key() != known.committed {
            peer = known.session(&controller, 4).await;
        }
        loop {
            let (csr, key) = peer.renew().await;
            known.candidate = Some(key.clone());
            peer.renewed(controller.chain(&csr, 3600)).await;
            peer = known.session(&controller, 5).await;
            if peer.key() == key {
                break;
            }
        }
        until("the commit", || !dir.path().join("identity.candidate").exists()).await;
        drop(program);
        let now = identity::load(dir.path()).unwrap().chain[0].to_vec();
        let (_, parsed) = x509_parser::parse_x509_certificate(&now).unwrap();
        assert_eq!(parsed.tbs_certificate.subject_pki.raw, known.committed, "after {step:?}");
    }
}
