//! What a request says of an environment, and the document it makes: of defaults for a new one,
//! of what is there for a change.

use hostler_protocol::id::EnvironmentId;
use hostler_protocol::job::{
    AppKind, EnvironmentDoc, Executor, FastcgiDoc, HealthDoc, KEY_FORMAT_DEFAULT, NginxDoc,
    RedisDoc,
};

use crate::domain::LabelChanges;

/// A part that may be left as it is, taken away, or set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Part<T> {
    #[default]
    Keep,
    Remove,
    Set(T),
}

/// What a request says of an environment; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    pub name: Option<String>,
    pub domain: Option<String>,
    pub kind: Option<AppKind>,
    pub docroot: Option<String>,
    pub user: Option<String>,
    pub nginx: NginxDraft,
    pub fastcgi: Part<FastcgiDraft>,
    pub redis: Part<RedisDraft>,
    pub health: HealthDraft,
    pub executor: Part<Executor>,
    pub labels: LabelChanges,
}

/// As [`NginxDoc`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NginxDraft {
    pub http_file: Option<String>,
    pub server_file: Option<String>,
    pub location_file: Option<String>,
    pub probe_origin: Option<String>,
}

/// As [`FastcgiDoc`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FastcgiDraft {
    pub cache_dir: Option<String>,
    pub key_format: Option<String>,
    pub zone_mib: Option<u32>,
    pub size_mib_max: Option<u32>,
    pub inactive_secs: Option<u32>,
    pub valid_secs: Option<u32>,
}

/// As [`RedisDoc`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisDraft {
    pub url: Option<String>,
    pub password_file: Option<String>,
    pub prefix: Option<String>,
    pub switch_file: Option<String>,
}

/// As [`HealthDoc`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HealthDraft {
    pub path: Option<String>,
    pub status: Option<u16>,
    pub timeout_ms: Option<u32>,
}

/// What a new environment of that site and name is before its request says anything.
#[must_use]
pub fn defaults(id: EnvironmentId, site: &str, name: &str) -> EnvironmentDoc {
    let file = |kind: &str| format!("/etc/nginx/hostler/{site}-{name}/{kind}.conf");
    EnvironmentDoc {
        id,
        site: site.to_owned(),
        name: name.to_owned(),
        domain: String::new(),
        kind: AppKind::Php,
        docroot: String::new(),
        user: String::new(),
        nginx: NginxDoc {
            http_file: file("http"),
            server_file: file("server"),
            location_file: file("location"),
            probe_origin: "http://127.0.0.1:80".to_owned(),
        },
        fastcgi: None,
        redis: None,
        health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 5000 },
        executor: None,
    }
}

fn fastcgi_defaults(site: &str, name: &str) -> FastcgiDoc {
    FastcgiDoc {
        cache_dir: format!("/var/cache/nginx/hostler/{site}-{name}"),
        key_format: KEY_FORMAT_DEFAULT.to_owned(),
        zone_mib: 10,
        size_mib_max: 1024,
        inactive_secs: 86_400,
        valid_secs: 3600,
    }
}

fn set<T: Clone>(place: &mut T, said: Option<&T>) {
    if let Some(said) = said {
        place.clone_from(said);
    }
}

/// The document after the draft.
#[must_use]
pub fn apply(draft: &Draft, mut doc: EnvironmentDoc) -> EnvironmentDoc {
    set(&mut doc.name, draft.name.as_ref());
    set(&mut doc.domain, draft.domain.as_ref());
    set(&mut doc.kind, draft.kind.as_ref());
    set(&mut doc.docroot, draft.docroot.as_ref());
    set(&mut doc.user, draft.user.as_ref());
    set(&mut doc.nginx.http_file, draft.nginx.http_file.as_ref());
    set(&mut doc.nginx.server_file, draft.nginx.server_file.as_ref());
    set(&mut doc.nginx.location_file, draft.nginx.location_file.as_ref());
    set(&mut doc.nginx.probe_origin, draft.nginx.probe_origin.as_ref());
    set(&mut doc.health.path, draft.health.path.as_ref());
    set(&mut doc.health.status, draft.health.status.as_ref());
    set(&mut doc.health.timeout_ms, draft.health.timeout_ms.as_ref());
    match &draft.fastcgi {
        Part::Keep => {}
        Part::Remove => doc.fastcgi = None,
        Part::Set(said) => {
            let base = doc.fastcgi.take();
            let base = base.unwrap_or_else(|| fastcgi_defaults(&doc.site, &doc.name));
            doc.fastcgi = Some(apply_fastcgi(said, base));
        }
    }
    match &draft.redis {
        Part::Keep => {}
        Part::Remove => doc.redis = None,
        Part::Set(said) => doc.redis = Some(apply_redis(said, doc.redis.take())),
    }
    match draft.executor {
        Part::Keep => {}
        Part::Remove => doc.executor = None,
        Part::Set(said) => doc.executor = Some(said),
    }
    doc
}

fn apply_fastcgi(said: &FastcgiDraft, mut part: FastcgiDoc) -> FastcgiDoc {
    set(&mut part.cache_dir, said.cache_dir.as_ref());
    set(&mut part.key_format, said.key_format.as_ref());
    set(&mut part.zone_mib, said.zone_mib.as_ref());
    set(&mut part.size_mib_max, said.size_mib_max.as_ref());
    set(&mut part.inactive_secs, said.inactive_secs.as_ref());
    set(&mut part.valid_secs, said.valid_secs.as_ref());
    part
}

/// A new one without a URL or prefix gets empty ones, which validation then names.
fn apply_redis(said: &RedisDraft, before: Option<RedisDoc>) -> RedisDoc {
    let before = before.unwrap_or(RedisDoc {
        url: String::new(),
        password_file: None,
        prefix: String::new(),
        switch_file: None,
    });
    RedisDoc {
        url: said.url.clone().unwrap_or(before.url),
        password_file: said.password_file.clone().or(before.password_file),
        prefix: said.prefix.clone().unwrap_or(before.prefix),
        switch_file: said.switch_file.clone().or(before.switch_file),
    }
}
