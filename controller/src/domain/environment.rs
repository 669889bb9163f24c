//! An environment: one deployment of a site on one host, with its caches' desired and applied
//! states.

use hostler_protocol::id::{EnvironmentId, HostId, SiteId};
use hostler_protocol::job::EnvironmentDoc;

use super::{Labels, Micros};

/// What state an environment is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvironmentState {
    Active,
    /// Something could not be put right; only a reset helps.
    Failed,
    /// Its removal waits or runs; the row goes when the host has confirmed.
    Deleting,
}

/// What can happen to an environment's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnvironmentEvent {
    DeleteRequested,
    Broke,
    Reset,
}

impl EnvironmentState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Failed, Self::Deleting];

    /// The state's stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// The state after an event, or `None` where the event cannot happen.
    #[must_use]
    pub fn apply(self, event: EnvironmentEvent) -> Option<Self> {
        match (self, event) {
            (Self::Active | Self::Failed, EnvironmentEvent::DeleteRequested) => {
                Some(Self::Deleting)
            }
            (Self::Active, EnvironmentEvent::Broke) => Some(Self::Failed),
            (Self::Failed, EnvironmentEvent::Reset) => Some(Self::Active),
            (Self::Deleting, _)
            | (Self::Active, EnvironmentEvent::Reset)
            | (Self::Failed, EnvironmentEvent::Broke) => None,
        }
    }
}

/// One cache of an environment: what should be, what is, and what went wrong last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFlag {
    pub desired: bool,
    /// `None` until a toggle has proven a state.
    pub applied: Option<bool>,
    pub applied_at: Option<Micros>,
    /// The last toggle's error as a JSON `JobError`; cleared by the next success.
    pub last_error: Option<serde_json::Value>,
}

/// One deployment of a site on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    pub id: EnvironmentId,
    pub site_id: SiteId,
    pub host_id: HostId,
    pub state: EnvironmentState,
    /// Everything the agent is told; its `id`, `site` and `name` repeat this row's.
    pub doc: EnvironmentDoc,
    /// Present exactly when `doc.fastcgi` is.
    pub fastcgi: Option<CacheFlag>,
    /// Present exactly when `doc.redis` is.
    pub redis: Option<CacheFlag>,
    /// What people call it; its host is never told.
    pub labels: Labels,
    /// Grows by one with each change of this row; a change names the version it was decided on.
    pub version: i64,
    pub created_at: Micros,
    pub updated_at: Micros,
}

/// Where an environment's Redis is, so that two environments that share a server can be told:
/// `host:port` in lower case, or `unix:/path`. `None` if the URL is neither.
#[must_use]
pub fn redis_server(url: &str) -> Option<String> {
    if let Some(path) = url.strip_prefix("unix://") {
        return path.starts_with('/').then(|| format!("unix:{path}"));
    }
    let rest = url.strip_prefix("redis://").or_else(|| url.strip_prefix("rediss://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    if place.is_empty() {
        return None;
    }
    let has_port = place.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !port.is_empty()
            && port.bytes().all(|c| c.is_ascii_digit())
            && (!host.contains(':') || host.ends_with(']'))
    });
    let place = place.to_ascii_lowercase();
    Some(if has_port { place } else { format!("{place}:6379") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_server_has_one_name() {
        for (url, server) in [
            ("redis://10.0.0.5", Some("10.0.0.5:6379")),
            ("redis://app@Cache.Example:6380/3", Some("cache.example:6380")),
            ("redis://[::1]:6379/0", Some("[::1]:6379")),
            ("redis://[fd00::2]", Some("[fd00::2]:6379")),
            ("unix:///run/redis.sock", Some("unix:/run/redis.sock")),
            ("http://cache", None),
            ("redis://", None),
        ] {
            assert_eq!(redis_server(url).as_deref(), server, "{url}");
        }
    }

    #[test]
    fn all_pairs_of_state_and_event_are_decided() {
        use EnvironmentEvent::{Broke, DeleteRequested, Reset};
        use EnvironmentState::{Active, Deleting, Failed};
        let allowed = [
            (Active, DeleteRequested, Deleting),
            (Active, Broke, Failed),
            (Failed, DeleteRequested, Deleting),
            (Failed, Reset, Active),
        ];
        for state in EnvironmentState::ALL {
            for event in [DeleteRequested, Broke, Reset] {
                let expected = allowed.iter().find(|(from, on, _)| (*from, *on) == (state, event));
                assert_eq!(
                    state.apply(event),
                    expected.map(|(_, _, to)| *to),
                    "{state:?} {event:?}"
                );
            }
            assert_eq!(EnvironmentState::parse(state.as_str()), Some(state));
        }
    }
}
