use super::*;

const NOW: Micros = Micros(1_800_000_000_000_000);

fn id(number: u8) -> HostId {
    HostId::from_parts(1, [number; 10])
}

/// An enrolled host of key `k1` whose certificate ends `left_secs` from now.
fn host(left_secs: i64) -> Host {
    Host::sample(Micros(NOW.0 + left_secs * 1_000_000))
}

fn snapshot(host: Host) -> Snapshot {
    Snapshot { host: Some(host), ..Snapshot::default() }
}

fn asked(key: &str, new_key: &str) -> Renew {
    Renew {
        host: id(1),
        key_sha256: key.to_owned(),
        new_key_sha256: new_key.to_owned(),
        certificate_expires_at: NOW.plus_secs(7 * 86_400),
    }
}

fn candidate(decision: &Decision<Host>) -> Option<&str> {
    let [Change::UpdateHost(written)] = &decision.changes[..] else {
        panic!("one row is written: {decision:?}");
    };
    assert_eq!(**written, decision.reply);
    written.candidate.as_ref().map(|candidate| candidate.key_sha256.as_str())
}

#[test]
fn a_new_key_is_a_candidate_beside_the_committed_one() {
    let decision = renew(&snapshot(host(100)), &asked("k1", "k2"), NOW).unwrap();
    assert_eq!(candidate(&decision), Some("k2"));
    let host = &decision.reply;
    assert!(host.accepts("k1") && host.accepts("k2") && !host.accepts("k3"));
    assert_eq!((host.recoveries, decision.events.len()), (0, 0));

    // The answer was lost: the same key again, or another one in its place.
    for key in ["k2", "k3"] {
        let decision = renew(&snapshot(host.clone()), &asked("k1", key), NOW).unwrap();
        assert_eq!(candidate(&decision), Some(key));
        assert_eq!(decision.reply.accepts("k2"), key == "k2", "there is one candidate");
    }
}

#[test]
fn a_return_is_counted_and_told_once_for_each_key() {
    let first = recover(&snapshot(host(-10)), &asked("k1", "k2"), NOW).unwrap();
    assert_eq!(candidate(&first), Some("k2"));
    assert_eq!((first.reply.recoveries, first.reply.recovered_at), (1, Some(NOW)));
    assert_eq!(first.events[0].kind, EventKind::HostRecovered);
    assert_eq!(first.events[0].document["recoveries"], 1);
    let again = recover(&snapshot(first.reply.clone()), &asked("k1", "k2"), NOW).unwrap();
    assert_eq!((again.reply.recoveries, again.events.len()), (1, 0));
    let other = recover(&snapshot(first.reply), &asked("k1", "k3"), NOW).unwrap();
    assert_eq!((other.reply.recoveries, other.events.len()), (2, 1));
}

#[test]
fn who_may_not_come_back_is_told_why() {
    let day = 86_400;
    let revoked = |kind| Host {
        state: HostState::Revoked,
        revoked_at: Some(NOW),
        revoked_as: Some(kind),
        ..host(-day)
    };
    let late = -(i64::try_from(RETURN_SECS_MAX).unwrap());
    let cases = [
        (Snapshot::default(), asked("k1", "k2"), "HOST_UNKNOWN"),
        (snapshot(host(-day)), asked("k9", "k2"), "HOST_UNKNOWN"),
        (snapshot(revoked(Revocation::Evict)), asked("k1", "k2"), "HOST_REVOKED"),
        (snapshot(revoked(Revocation::Ban)), asked("k1", "k2"), "HOST_BANNED"),
        (snapshot(revoked(Revocation::Ban)), asked("k9", "k2"), "HOST_UNKNOWN"),
        (snapshot(host(late - 1)), asked("k1", "k2"), "RETURN_TOO_LATE"),
        (snapshot(host(day)), asked("k1", "k2"), "CERTIFICATE_VALID"),
        (snapshot(host(-day)), asked("k1", "k1"), "KEY_REUSED"),
        (Snapshot { key_banned: true, ..snapshot(host(-day)) }, asked("k1", "k2"), "KEY_BANNED"),
        (
            Snapshot { key_holder: Some(id(2)), ..snapshot(host(-day)) },
            asked("k1", "k2"),
            "KEY_TAKEN",
        ),
    ];
    for (snapshot, asked, code) in cases {
        assert_eq!(recover(&snapshot, &asked, NOW).unwrap_err().code, code);
        if code != "CERTIFICATE_VALID" {
            assert_eq!(renew(&snapshot, &asked, NOW).unwrap_err().code, code);
        }
    }
    recover(&snapshot(host(late)), &asked("k1", "k2"), NOW).expect("the last day counts");
    let ahead = snapshot(host(7 * day + 301));
    recover(&ahead, &asked("k1", "k2"), NOW).expect("it does not hold for another second");
    let newest = recover(&snapshot(host(7 * day)), &asked("k1", "k2"), NOW);
    assert_eq!(newest.unwrap_err().code, "CERTIFICATE_VALID");
    let own = Snapshot { key_holder: Some(id(1)), ..snapshot(host(-day)) };
    recover(&own, &asked("k1", "k2"), NOW).expect("its own candidate is no stranger's");
}

#[test]
fn a_candidate_key_proves_nothing_until_it_is_committed() {
    let mut waiting = host(-10);
    waiting.candidate =
        Some(Candidate { key_sha256: "k2".to_owned(), certificate_expires_at: NOW });
    let refusal = recover(&snapshot(waiting), &asked("k2", "k3"), NOW).unwrap_err();
    assert_eq!(refusal.code, "HOST_UNKNOWN");
}
