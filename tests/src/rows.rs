//! Rows as tests and benchmarks need them.

use hostler_controller::domain::{Host, HostState, Micros};
use hostler_controller::store::Opening;
use hostler_protocol::id::{BootId, ControllerId, HostId};
use serde_json::json;

/// A host as if it had enrolled, of which nothing has been seen yet.
#[must_use]
pub fn host(id: HostId, name: &str, key_sha256: &str, now: Micros) -> Host {
    const YEARS_SECS: u64 = 10 * 365 * 86_400;
    Host {
        id,
        name: name.to_owned(),
        state: HostState::Enrolled,
        key_sha256: key_sha256.to_owned(),
        certificate_expires_at: now.plus_secs(YEARS_SECS),
        candidate: None,
        certificate_renewed_at: None,
        recoveries: 0,
        recovered_at: None,
        clock_skew_ms: None,
        facts: json!({}),
        labels: std::collections::BTreeMap::new(),
        agent_build: None,
        last_seen_at: None,
        connected: false,
        held_at: None,
        created_at: now,
        revoked_at: None,
        revoked_as: None,
    }
}

/// A session of a host that begins, shown by its committed key.
#[must_use]
pub fn opening(host: &Host, controller: &ControllerId, now: Micros) -> Opening {
    Opening {
        host: host.id.clone(),
        controller: controller.clone(),
        key_sha256: host.key_sha256.clone(),
        certificate_expires_at: host.certificate_expires_at,
        facts: json!({ "os": "test" }),
        build: "test".to_owned(),
        clock_skew_ms: 0,
        boot: BootId::from_parts(1, [0; 10]),
        welcomed: None,
        now,
    }
}
