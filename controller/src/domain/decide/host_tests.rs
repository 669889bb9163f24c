use super::*;
use crate::domain::Candidate;

const NOW: Micros = Micros(1_800_000_000_000_000);

fn snapshot() -> Snapshot {
    let mut host = Host::sample(NOW.plus_secs(100));
    host.candidate =
        Some(Candidate { key_sha256: "k2".to_owned(), certificate_expires_at: NOW.plus_secs(200) });
    Snapshot { host: Some(host), ..Snapshot::default() }
}

fn id() -> HostId {
    Host::sample(NOW).id
}

fn after(decision: &Decision<Host>) -> Snapshot {
    Snapshot { host: Some(decision.reply.clone()), ..Snapshot::default() }
}

fn banned(decision: &Decision<Host>) -> Vec<&str> {
    let keys = decision.changes.iter().filter_map(|change| {
        if let Change::BanKey(key) = change { Some(key.key_sha256.as_str()) } else { None }
    });
    keys.collect()
}

#[test]
fn an_evicted_host_is_out_and_its_keys_are_not_banned() {
    let decision = revoke(&snapshot(), &id(), Revocation::Evict, NOW).unwrap();
    let host = &decision.reply;
    assert_eq!((host.revoked_as, host.revoked_at), (Some(Revocation::Evict), Some(NOW)));
    assert!(!host.accepts("k1") && !host.accepts("k2"));
    assert!(banned(&decision).is_empty());
    assert_eq!(decision.events[0].document["as"], "evict");
    let again = revoke(&after(&decision), &id(), Revocation::Evict, NOW.plus_secs(1)).unwrap();
    assert!(again.changes.is_empty() && again.events.is_empty(), "{again:?}");
}

#[test]
fn a_ban_is_of_every_key_and_for_good() {
    let decision = revoke(&snapshot(), &id(), Revocation::Ban, NOW).unwrap();
    assert_eq!(banned(&decision), ["k1", "k2"]);
    assert_eq!(decision.events[0].document["as"], "ban");
    let less = revoke(&after(&decision), &id(), Revocation::Evict, NOW).unwrap_err();
    assert_eq!(less.code, "HOST_BANNED");
    assert!(revoke(&after(&decision), &id(), Revocation::Ban, NOW).unwrap().changes.is_empty());
}

#[test]
fn an_evicted_host_may_be_banned_and_keeps_the_time_it_was_shut_out() {
    let evicted = revoke(&snapshot(), &id(), Revocation::Evict, NOW).unwrap();
    let later = NOW.plus_secs(60);
    let decision = revoke(&after(&evicted), &id(), Revocation::Ban, later).unwrap();
    assert_eq!(decision.reply.revoked_at, Some(NOW));
    assert_eq!(banned(&decision), ["k1", "k2"], "the key it was about to have counts too");
}
