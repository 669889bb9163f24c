//! Whether an environment's document makes sense in itself.

use std::ops::RangeInclusive;

use hostler_protocol::job::{AppKind, EnvironmentDoc, FastcgiDoc, NginxDoc, RedisDoc};

use super::{Problems, redis, text};

/// Everything wrong with a document, with pointers as in the request that made it.
#[must_use]
pub fn document(doc: &EnvironmentDoc) -> Problems {
    let mut problems = Problems::default();
    problems.check("/name", text::name(&doc.name));
    problems.check("/domain", text::host_name(&doc.domain));
    problems.check("/docroot", text::path(&doc.docroot));
    problems.check("/user", text::user(&doc.user));
    nginx(&doc.nginx, &mut problems);
    if let Some(fastcgi) = &doc.fastcgi {
        self::fastcgi(fastcgi, doc, &mut problems);
    }
    if let Some(redis) = &doc.redis {
        self::redis_part(redis, doc.kind, &mut problems);
    }
    problems.check("/health/path", text::request_path(&doc.health.path));
    range("/health/status", u32::from(doc.health.status), 100..=599, &mut problems);
    range("/health/timeout_ms", doc.health.timeout_ms, 100..=60_000, &mut problems);
    problems
}

fn range(pointer: &str, value: u32, allowed: RangeInclusive<u32>, problems: &mut Problems) {
    if !allowed.contains(&value) {
        problems.add(pointer, format!("from {} to {}", allowed.start(), allowed.end()));
    }
}

fn nginx(nginx: &NginxDoc, problems: &mut Problems) {
    let files = [
        ("/nginx/http_file", &nginx.http_file),
        ("/nginx/server_file", &nginx.server_file),
        ("/nginx/location_file", &nginx.location_file),
    ];
    for (place, (pointer, file)) in files.iter().enumerate() {
        problems.check(pointer, text::file(file, ".conf"));
        if files[..place].iter().any(|(_, other)| other == file) {
            problems.add(*pointer, "the three nginx files are three different files");
        }
    }
    let origin = &nginx.probe_origin;
    let origin = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if !origin.is_some_and(hostler_protocol::join::is_address) {
        problems.add(
            "/nginx/probe_origin",
            "the probe origin is `http://` or `https://`, a host name or address, and a port, with \
             no path",
        );
    }
}

fn fastcgi(fastcgi: &FastcgiDoc, doc: &EnvironmentDoc, problems: &mut Problems) {
    let pointer = "/fastcgi/cache_dir";
    problems.check(pointer, text::path(&fastcgi.cache_dir));
    if text::nested(&fastcgi.cache_dir, &doc.docroot) {
        problems.add(pointer, "the cache directory and the docroot lie in one another");
    }
    let nginx = &doc.nginx;
    for file in [&nginx.http_file, &nginx.server_file, &nginx.location_file] {
        if text::nested(file, &fastcgi.cache_dir) {
            problems.add(pointer, "the nginx files cannot lie in the cache directory");
            break;
        }
    }
    problems.check("/fastcgi/key_format", text::key_format(&fastcgi.key_format));
    range("/fastcgi/zone_mib", fastcgi.zone_mib, 1..=1024, problems);
    range("/fastcgi/size_mib_max", fastcgi.size_mib_max, 1..=1_048_576, problems);
    range("/fastcgi/inactive_secs", fastcgi.inactive_secs, 1..=31_536_000, problems);
    range("/fastcgi/valid_secs", fastcgi.valid_secs, 1..=31_536_000, problems);
}

fn redis_part(redis: &RedisDoc, kind: AppKind, problems: &mut Problems) {
    problems.check("/redis/url", redis::server(&redis.url).map(drop));
    problems.check("/redis/prefix", redis::prefix(&redis.prefix));
    if let Some(file) = &redis.password_file {
        problems.check("/redis/password_file", text::path(file));
    }
    match (kind, &redis.switch_file) {
        (AppKind::Php, Some(file)) => {
            problems.check("/redis/switch_file", text::file(file, ".json"));
        }
        (AppKind::Php, None) => problems.add(
            "/redis/switch_file",
            "needed for kind `php`: the JSON file the application reads to learn whether to use \
             Redis",
        ),
        (AppKind::Wordpress, Some(_)) => problems.add(
            "/redis/switch_file",
            "only for kind `php`: WordPress is switched by its object-cache drop-in",
        ),
        (AppKind::Wordpress, None) => {}
    }
}
