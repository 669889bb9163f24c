//! From options and files to the documents of an environment's creation and change.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::cli::args::{Executing, Fields};
use crate::cli::error::CliError;

use super::input;

type Object = Map<String, Value>;

/// What an environment shows that nobody sets: left out, so that what `show -o json` printed can
/// be given back.
const READ_ONLY: [&str; 8] =
    ["id", "site_id", "site", "state", "cache", "version", "created_at", "updated_at"];

/// The document of a new environment.
///
/// # Errors
/// [`CliError::Usage`] naming the option that is missing; whatever is wrong with the file.
pub(super) fn creation(fields: &Fields, site: &str, name: &str) -> Result<Value, CliError> {
    let mut document = document(fields)?;
    // In a creation a cache is taken away by not asking for it.
    document.retain(|_, value| !value.is_null());
    document.insert("name".to_owned(), name.into());
    for (field, option) in [("host", "--host"), ("domain", "--domain"), ("docroot", "--docroot")] {
        if !document.contains_key(field) {
            return Err(CliError::Usage(format!("a new environment needs {option}")));
        }
    }
    document.entry("kind").or_insert_with(|| "php".into());
    document.entry("user").or_insert_with(|| "www-data".into());
    if fields.from_file.is_none() && !fields.fastcgi.no_fastcgi {
        document.entry("fastcgi").or_insert_with(|| json!({}));
    }
    if let Some(Value::Object(redis)) = document.get_mut("redis") {
        redis.entry("prefix").or_insert_with(|| format!("{site}-{name}:").into());
    }
    Ok(Value::Object(document))
}

/// The document of a change.
///
/// # Errors
/// [`CliError::Usage`] if nothing is changed; whatever is wrong with the file.
pub(super) fn change(fields: &Fields, name: Option<&str>) -> Result<Value, CliError> {
    let mut document = document(fields)?;
    put(&mut document, "name", name);
    if document.is_empty() {
        return Err(CliError::Usage("name what is to change (see --help)".to_owned()));
    }
    Ok(Value::Object(document))
}

/// The file, if there is one, and what the options say over it.
fn document(fields: &Fields) -> Result<Object, CliError> {
    let mut document = match &fields.from_file {
        Some(path) => parse(&input::read(path)?, &path.display().to_string())?,
        None => Object::new(),
    };
    put(&mut document, "host", fields.host.as_deref());
    put(&mut document, "domain", fields.domain.as_deref());
    let kind = fields.kind.and_then(|kind| kind.to_possible_value());
    put(&mut document, "kind", kind.as_ref().map(|kind| kind.get_name()));
    put(&mut document, "docroot", fields.docroot.as_deref());
    put(&mut document, "user", fields.user.as_deref());
    let executor = fields.executor.map(|executor| match executor {
        Executing::Native => Value::from("native"),
        Executing::Ansible => Value::from("ansible"),
        Executing::Template => Value::Null,
    });
    put(&mut document, "executor", executor);
    part(&mut document, "nginx", |part| {
        put(part, "http_file", fields.nginx.http_file.as_deref());
        put(part, "server_file", fields.nginx.server_file.as_deref());
        put(part, "location_file", fields.nginx.location_file.as_deref());
        put(part, "probe_origin", fields.nginx.probe_origin.as_deref());
    });
    let fastcgi = &fields.fastcgi;
    part(&mut document, "fastcgi", |part| {
        put(part, "cache_dir", fastcgi.fastcgi_dir.as_deref());
        put(part, "key_format", fastcgi.fastcgi_key.as_deref());
        put(part, "zone_mib", fastcgi.fastcgi_zone_mib);
        put(part, "size_mib_max", fastcgi.fastcgi_size_mib_max);
        put(part, "inactive_secs", fastcgi.fastcgi_inactive_secs);
        put(part, "valid_secs", fastcgi.fastcgi_valid_secs);
    });
    part(&mut document, "redis", |part| {
        put(part, "url", fields.redis.redis_url.as_deref());
        put(part, "prefix", fields.redis.redis_prefix.as_deref());
        put(part, "password_file", fields.redis.redis_password_file.as_deref());
        put(part, "switch_file", fields.redis.redis_switch_file.as_deref());
    });
    part(&mut document, "health", |part| {
        put(part, "path", fields.health.health_path.as_deref());
        put(part, "status", fields.health.health_status);
        put(part, "timeout_ms", fields.health.health_timeout_ms);
    });
    for (gone, name) in [(fastcgi.no_fastcgi, "fastcgi"), (fields.redis.no_redis, "redis")] {
        if gone {
            document.insert(name.to_owned(), Value::Null);
        }
    }
    Ok(document)
}

fn put(object: &mut Object, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(name.to_owned(), value.into());
    }
}

/// Lays fields over one part of a document; a part nobody names is not made.
fn part(document: &mut Object, name: &str, fill: impl FnOnce(&mut Object)) {
    let mut said = Object::new();
    fill(&mut said);
    if said.is_empty() {
        return;
    }
    match document.get_mut(name) {
        Some(Value::Object(part)) => part.extend(said),
        Some(_) | None => {
            document.insert(name.to_owned(), Value::Object(said));
        }
    }
}

/// Reads a file's document, without what nobody sets and with host id as host.
fn parse(text: &str, what: &str) -> Result<Object, CliError> {
    let document: Value = serde_json::from_str(text)
        .map_err(|source| CliError::Json { what: what.to_owned(), source })?;
    let Value::Object(mut document) = document else {
        return Err(CliError::Usage(format!("{what} must hold one JSON object")));
    };
    document.retain(|name, _| !READ_ONLY.contains(&name.as_str()));
    if let Some(host) = document.remove("host_id") {
        document.entry("host").or_insert(host);
    }
    for part in document.values_mut().filter_map(Value::as_object_mut) {
        part.retain(|_, value| !value.is_null());
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use hostler_controller::views::{ChangeEnvironment, CreateEnvironment};

    use crate::cli::args::Fields;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        fields: Fields,
    }

    fn fields(line: &str) -> Fields {
        Line::try_parse_from(["x"].into_iter().chain(line.split_whitespace())).unwrap().fields
    }

    const ALL: &str = "--host web1 --domain shop.example --kind wordpress --docroot /var/www/shop \
        --user shop --executor ansible --http-file /h --server-file /s --location-file /l --probe-origin http://127.0.0.1:81 \
        --fastcgi-dir /c --fastcgi-key $host$request_uri --fastcgi-zone-mib 1 --fastcgi-size-mib-max 2 \
        --fastcgi-inactive-secs 3 --fastcgi-valid-secs 4 --redis-url redis://127.0.0.1 --redis-prefix p: \
        --redis-password-file /p --redis-switch-file /w --health-path /up --health-status 204 \
        --health-timeout-ms 500";

    #[test]
    fn every_field_has_an_option() {
        let document = creation(&fields(ALL), "shop", "production").unwrap();
        let read: CreateEnvironment = serde_json::from_value(document.clone()).unwrap();
        // Whatever was left out would be missing here: the view leaves out what is not there.
        assert_eq!(json!(read), document);
        let views = [json!(read.nginx), json!(read.fastcgi), json!(read.redis), json!(read.health)];
        assert_eq!(views.map(|view| view.as_object().unwrap().len()), [4, 6, 4, 3]);
    }

    #[test]
    fn a_new_environment_has_helpful_defaults() {
        let line = "--host web1 --domain shop.example --docroot /srv --redis-url unix:///r.sock";
        let document = creation(&fields(line), "shop", "production").unwrap();
        assert_eq!(
            document,
            json!({
                "name": "production", "host": "web1", "domain": "shop.example", "docroot": "/srv",
                "kind": "php", "user": "www-data", "fastcgi": {},
                "redis": {"url": "unix:///r.sock", "prefix": "shop-production:"},
            })
        );
    }

    #[test]
    fn what_is_missing_is_named_by_its_option() {
        let error = creation(&fields("--host web1 --domain x"), "shop", "production").unwrap_err();
        assert_eq!(error.to_string(), "a new environment needs --docroot");
        assert!(change(&fields(""), None).is_err(), "a change of nothing should be refused");
    }

    #[test]
    fn a_change_takes_caches_away_by_null() {
        let document = change(&fields("--no-redis --fastcgi-valid-secs 60"), Some("live")).unwrap();
        assert_eq!(document, json!({"name": "live", "redis": null, "fastcgi": {"valid_secs": 60}}));
        let read: ChangeEnvironment = serde_json::from_value(document).unwrap();
        assert_eq!(read.redis, Some(None));
    }

    #[test]
    fn the_executor_is_chosen_or_left_to_the_template() {
        let chosen = |line: &str| change(&fields(line), None).unwrap();
        assert_eq!(chosen("--executor ansible"), json!({ "executor": "ansible" }));
        assert_eq!(chosen("--executor template"), json!({ "executor": null }));
        let line = "--host h --domain d --docroot /d --executor template";
        let document = creation(&fields(line), "shop", "production").unwrap();
        assert_eq!(document.get("executor"), None);
    }

    #[test]
    fn what_show_printed_can_be_given_back() {
        let shown = r#"{"id": "env_1", "site": "shop", "site_id": "site_1", "name": "staging",
            "host_id": "host_1", "state": "active", "version": 3, "cache": {}, "domain": "x",
            "redis": null, "nginx": {"http_file": "/h"},
            "fastcgi": {"cache_dir": "/c", "zone_mib": null}}"#;
        let read = parse(shown, "file").unwrap();
        assert_eq!(
            Value::Object(read),
            json!({"name": "staging", "host": "host_1", "domain": "x", "redis": null,
                "nginx": {"http_file": "/h"}, "fastcgi": {"cache_dir": "/c"}})
        );
        assert!(parse("[]", "file").is_err() && parse("{", "file").is_err());
    }
}
