use super::*;

fn card(name: &str) -> Card {
    let host = "host_00000000000000000000000001".parse().unwrap();
    let controllers = vec!["c.example:7443".to_owned()];
    Card { host, name: name.to_owned(), controllers, issued_at_us: None }
}

fn chain(bytes: &[&[u8]]) -> Vec<CertificateDer<'static>> {
    bytes.iter().map(|bytes| CertificateDer::from(bytes.to_vec())).collect()
}

/// An identity of that name, its files and key made out of thin air.
fn identity(name: &str) -> (Identity, Zeroizing<String>) {
    let pem = key::generate().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let identity =
        Identity { card: card(name), chain: chain(&[b"leaf"]), root: b"root".to_vec().into(), key };
    (identity, pem)
}

/// A state directory with a committed identity.
fn enrolled(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    enrolment_key(dir.path()).unwrap();
    commit_enrolment(dir.path(), &card(name), &chain(&[b"leaf"]), b"root").unwrap();
    dir
}

#[test]
fn the_key_stays_the_same_until_it_is_certified() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(matches!(load(&state), Err(IdentityError::NotEnrolled { .. })));
    let first = enrolment_key(&state).unwrap();
    assert_eq!(enrolment_key(&state).unwrap(), first);
    assert!(!is_enrolled(&state), "a key is not an identity");

    commit_enrolment(&state, &card("web-1"), &chain(&[&[1; 100], &[2; 10]]), &[3; 5]).unwrap();
    let identity = load(&state).unwrap();
    assert_eq!(identity.card, card("web-1"));
    assert_eq!(identity.chain[0].as_ref(), vec![1; 100]);
    assert_eq!((identity.chain.len(), identity.root.as_ref()), (2, &[3u8; 5][..]));
    let mode = |path: &str| fs::metadata(state.join(path)).unwrap().permissions().mode();
    assert_eq!(mode("identity/key.pem") & 0o777, 0o600);
    assert_eq!(mode("identity") & 0o777, 0o700);
    assert_ne!(enrolment_key(&state).unwrap(), first, "a new enrolment has a new key");
}

#[test]
fn a_directory_of_other_things_is_not_closed() {
    let dir = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.path(), open.clone()).unwrap();
    fs::write(dir.path().join("index.php"), "").unwrap();
    for refused in [prepare_state_dir(dir.path()), enrolment_key(dir.path()).map(drop)] {
        assert!(matches!(refused, Err(IdentityError::StateDirForeign { .. })), "{refused:?}");
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.path()), 0o755, "a directory of others was closed");
    fs::remove_file(dir.path().join("index.php")).unwrap();
    // What `doctor` leaves where it was asked before there was an identity.
    fs::create_dir(dir.path().join(RUNS_DIR)).unwrap();
    enrolment_key(dir.path()).unwrap();
    fs::set_permissions(dir.path(), open).unwrap();
    prepare_state_dir(dir.path()).unwrap();
    assert_eq!(mode(dir.path()), 0o700, "the agent's own directory is not closed");
}

#[test]
fn an_enrolment_cut_off_before_its_last_step_is_finished() {
    let dir = enrolled("old");
    let (candidate, pem) = identity("candidate");
    store_candidate(dir.path(), &candidate, &pem).unwrap();
    enrolment_key(dir.path()).unwrap();
    let next = dir.path().join(NEXT);
    write(&next.join(CHAIN), super::pem(&[9]).as_bytes()).unwrap();
    write(&next.join(ROOT), &[9]).unwrap();
    assert_eq!(load(dir.path()).unwrap().card, card("old"), "incomplete: the old one counts");
    write(&next.join(CARD), &hostler_protocol::job::write(&card("new"))).unwrap();
    let new = load(dir.path()).unwrap();
    assert_eq!(new.card, card("new"));
    assert!(load_candidate(dir.path(), &new).is_none(), "a candidate of the identity before");
}

#[test]
fn a_candidate_lies_beside_the_identity_until_it_is_committed() {
    let dir = enrolled("web-1");
    let committed = load(dir.path()).unwrap();
    assert!(load_candidate(dir.path(), &committed).is_none());
    for name in ["first", "second"] {
        let (candidate, pem) = identity(name);
        store_candidate(dir.path(), &candidate, &pem).unwrap();
        let found = load_candidate(dir.path(), &committed).unwrap();
        assert_eq!((found.card, found.key), (candidate.card, candidate.key));
    }
    assert_eq!(load(dir.path()).unwrap().card, card("web-1"), "not proven yet");
    let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
    assert_eq!(mode("identity.candidate/key.pem") & 0o777, 0o600);
    assert_eq!(mode("identity.candidate") & 0o777, 0o700);

    commit_candidate(dir.path()).unwrap();
    assert_eq!(load(dir.path()).unwrap().card, card("second"));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["identity"], "the key before is gone");
}

/// Everything below the state directory, as it is when the agent is killed now.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap().path(), to.to_owned());
        let to = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry, &to);
        } else {
            fs::copy(&entry, &to).unwrap();
        }
    }
}

/// Storing and committing a candidate step by step, cut off after each: there is always a whole
/// identity, the candidate counts only when it is complete, and it takes the place of the committed
/// one only when that was already out of the way.
#[test]
fn a_kill_between_any_two_steps_leaves_a_working_identity() {
    let dir = enrolled("committed");
    let (candidate, pem) = identity("candidate");
    let [current, new, before] = [CURRENT, CANDIDATE, BEFORE].map(|name| dir.path().join(name));
    let chain_pem = super::pem(&candidate.chain[0]);
    let card = hostler_protocol::job::write(&candidate.card);
    let steps: [(&str, &dyn Fn(), bool, &str); 9] = [
        ("before", &|| (), false, "committed"),
        ("directory", &|| private_dir(&new).unwrap(), false, "committed"),
        ("key", &|| write(&new.join(KEY), pem.as_bytes()).unwrap(), false, "committed"),
        ("chain", &|| write(&new.join(CHAIN), chain_pem.as_bytes()).unwrap(), false, "committed"),
        ("root", &|| write(&new.join(ROOT), b"root").unwrap(), false, "committed"),
        ("card", &|| write(&new.join(CARD), &card).unwrap(), true, "committed"),
        ("aside", &|| fs::rename(&current, &before).unwrap(), false, "candidate"),
        ("in place", &|| fs::rename(&new, &current).unwrap(), false, "candidate"),
        ("cleared", &|| remove(&before).unwrap(), false, "candidate"),
    ];
    for (step, act, waits, name) in steps {
        act();
        let killed = tempfile::tempdir().unwrap();
        copy(dir.path(), killed.path());
        let found = load(killed.path()).unwrap_or_else(|error| panic!("after {step}: {error}"));
        assert_eq!(found.card.name, name, "after {step}");
        assert_eq!(load_candidate(killed.path(), &found).is_some(), waits, "after {step}");
        // And the next one can be stored over whatever was left.
        let (next, pem) = identity("next");
        store_candidate(killed.path(), &next, &pem).unwrap();
        commit_candidate(killed.path()).unwrap();
        assert_eq!(load(killed.path()).unwrap().card.name, "next", "after {step}");
    }
}

#[test]
fn a_candidate_does_not_take_the_place_of_another_host_s_identity() {
    let dir = enrolled("web-1");
    let (mut candidate, pem) = identity("web-1");
    candidate.card.host = "host_00000000000000000000000002".parse().unwrap();
    store_candidate(dir.path(), &candidate, &pem).unwrap();
    let committed = load(dir.path()).unwrap();
    assert!(load_candidate(dir.path(), &committed).is_none());
    let refused = commit_candidate(dir.path());
    assert!(matches!(refused, Err(IdentityError::Replaced { .. })), "{refused:?}");
}

#[test]
fn a_damaged_candidate_is_no_candidate() {
    let dir = enrolled("web-1");
    let (candidate, pem) = identity("web-1");
    store_candidate(dir.path(), &candidate, &pem).unwrap();
    fs::write(dir.path().join(CANDIDATE).join(KEY), "rubbish").unwrap();
    assert!(load_candidate(dir.path(), &load(dir.path()).unwrap()).is_none());
}
