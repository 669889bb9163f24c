//! The three nginx files of an environment, as text. Pure: the same plan gives the same bytes.
//!
//! * the *http* file declares the cache zone (also while the cache is off: removing the zone
//!   would drop its keys) and the maps; it holds the probe secret and is not for everyone's eyes;
//! * the *server* file answers the generation probe, only to who knows the secret;
//! * the *location* file turns the cache on, or off.
//!
//! Every variable and the zone carry the environment's id, so environments never meet.
//!
//! A map that looks something up by a pattern changes what `$1` stands for in the vhost's own
//! lines, so the server file asks for all of them once, before nginx chooses a location: from then
//! on their values stand.
//!
//! What is stale may be served while it is made anew only by an entry's own window
//! ([`STALE_SECS_MAX`], or `stale-while-revalidate` from the application). With `updating` among
//! the cases of `fastcgi_cache_use_stale` a page that went away, and whose 404 is not to be stored,
//! would be served for ever.
//!
//! An error the application gives a lifetime is stored like a page. By a visitor's request only where
//! nothing is stored, but a refresh would put it over a good page: what answers in trouble
//! ([`super::verdict::is_trouble`]) is not stored for one.
//!
//! The status header. nginx drops inherited `add_header`s in any block that has one of its own,
//! so ours, put in the wrong block, would silently take a site's security headers away. It goes
//! to a block that adds headers already, or to the server if none does: [`HeaderLevel`].

use hostler_protocol::job::{AppKind, Code, EnvironmentDoc, FastcgiDoc};

use super::keys::KeyFormat;
use super::run::Failure;
use super::tracking;
use crate::host::fastcgi::entry_name;

/// Number of what is rendered; files of an older one lack what newer jobs rely on. 2: the modes
/// `past` and `refresh`, entries' own windows, keys without tracking arguments. 3: a refresh stores
/// no error.
pub const RENDERING: u32 = 3;
/// For how long a page that was made stale may be served while it is made anew, in seconds.
pub const STALE_SECS_MAX: u32 = 60;
/// Statuses the rendered files have nginx store without the application saying for how long.
pub const STORED_STATUSES: [u16; 3] = [200, 301, 302];
/// Begins the keys of entries made by probes.
pub const PROBE_KEY: &str = "hostler-probe:";

/// Which file carries the status header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderLevel {
    Http,
    Server,
    Location,
}

/// What is to be rendered.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    pub environment: &'a EnvironmentDoc,
    pub fastcgi: &'a FastcgiDoc,
    pub enabled: bool,
    pub generation: u64,
    pub secret: &'a str,
    pub header: HeaderLevel,
}

/// The three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub http: String,
    pub server: String,
    pub location: String,
}

/// Cookies, paths and the like that make a WordPress answer personal.
const WORDPRESS_COOKIES: &str = "wordpress_[a-f0-9]|wordpress_logged_in|wp-postpass|comment_author|woocommerce_items_in_cart|woocommerce_cart_hash|wp_woocommerce_session";
const WORDPRESS_URIS: &str = "^/(.*/)?(wp-admin(/|$|[?])|wp-json(/|$|[?])|wp-[a-z-]+[.]php|xmlrpc[.]php|feed(/|$|[?])|cart(/|$|[?])|checkout(/|$|[?])|my-account(/|$|[?]))|[?&](rest_route|add-to-cart)=";

/// Prefix of an environment's variables, and name of its zone.
#[must_use]
pub fn prefix(environment: &EnvironmentDoc) -> String {
    let id = environment.id.as_str();
    format!("hostler_{}", id.split_once('_').map_or(id, |(_, body)| body))
}

/// Name of an environment's zone. nginx refuses to reload when a zone of the same name moves to
/// another directory, so the directory is part of the name.
#[must_use]
pub fn zone(environment: &EnvironmentDoc, fastcgi: &FastcgiDoc) -> String {
    let directory = entry_name(fastcgi.cache_dir.as_bytes());
    format!("{}_{}", prefix(environment), &directory[..6])
}

/// Path of the generation probe.
#[must_use]
pub fn generation_path(environment: &EnvironmentDoc) -> String {
    format!("/.well-known/hostler/{}/generation", environment.id)
}

/// Key of an entry made by the effect probe with that nonce, given the visitors' key.
#[must_use]
pub fn probe_key(nonce: &str, key: &str) -> String {
    format!("{PROBE_KEY}{nonce}:{key}")
}

/// Whether everything that goes into the files may stand there. The agent does not rely on its
/// controller for this: a quote or a semicolon in a path would be a directive of its own.
///
/// # Errors
/// `SPEC_INVALID`, `KEY_FORMAT_UNSUPPORTED`.
pub fn check(environment: &EnvironmentDoc, fastcgi: &FastcgiDoc) -> Result<(), Failure> {
    let path_ok = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@~,".contains(&byte))
    };
    let domain_ok = !environment.domain.is_empty()
        && environment.domain.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)
        });
    if !path_ok(&fastcgi.cache_dir) {
        let message = format!("`{}` cannot stand in an nginx configuration", fastcgi.cache_dir);
        let hint = "Use letters and digits of ASCII and `/ . _ - + @ ~ ,` in the cache directory.";
        return Err(Failure::new(Code::SpecInvalid, message).with_hint(hint));
    }
    if !domain_ok {
        let message = format!("`{}` is no lower-case host name", environment.domain);
        return Err(Failure::new(Code::SpecInvalid, message));
    }
    if fastcgi.zone_mib == 0 || fastcgi.size_mib_max == 0 || fastcgi.inactive_secs == 0 {
        return Err(Failure::new(Code::SpecInvalid, "a cache size or time is 0"));
    }
    KeyFormat::parse(&fastcgi.key_format).map(|_| ())
}

/// Renders the files.
#[must_use]
pub fn render(plan: &Plan<'_>) -> Rendered {
    Rendered { http: http(plan), server: server(plan), location: location(plan) }
}

fn head(plan: &Plan<'_>, file: &str) -> String {
    let Plan { environment, generation, .. } = plan;
    format!(
        "{} ({} {}), generation {generation}.\n# {file} Changes made here are lost.\n",
        mark(environment),
        plain(&environment.site),
        plain(&environment.name),
    )
}

/// How every file of an environment begins; what begins otherwise is not ours.
#[must_use]
pub fn mark(environment: &EnvironmentDoc) -> String {
    format!("# Written by Hostler for {}", environment.id)
}

/// Names are free text from afar: nothing but letters and digits gets onto this host.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "._- ".contains(*c)).collect()
}

fn http(plan: &Plan<'_>) -> String {
    let p = prefix(plan.environment);
    let FastcgiDoc { cache_dir, zone_mib, size_mib_max, inactive_secs, .. } = plan.fastcgi;
    let (secret, zone) = (plan.secret, zone(plan.environment, plan.fastcgi));
    let mut text = head(plan, "Include it in http {}.");
    text.push_str(&format!(
        r#"
fastcgi_cache_path {cache_dir} levels=1:2 keys_zone={zone}:{zone_mib}m inactive={inactive_secs}s max_size={size_mib_max}m use_temp_path=off;

map $http_x_hostler_probe ${p}_mode {{
    default "";
    "effect:{secret}" effect;
    "peek:{secret}" peek;
    "past:{secret}" past;
    "refresh:{secret}" refresh;
    "generation:{secret}" generation;
}}
map ${p}_mode ${p}_key {{
    default "";
    effect "{PROBE_KEY}$http_x_hostler_nonce:";
}}
map ${p}_mode ${p}_past {{
    default "";
    past 1;
    refresh 1;
}}
map "${p}_mode:$upstream_status" ${p}_unstored {{
    default "";
    "~^(?:peek|past):" 1;
    "~^refresh:(?:.*[^0-9])?(?:408|429|5[0-9][0-9])$" 1;
}}
map $http_authorization ${p}_auth {{
    default 1;
    "" "";
}}
"#
    ));
    text.push_str(&tracking::maps(&p));
    if plan.environment.kind == AppKind::Wordpress {
        text.push_str(&format!(
            r#"map $http_cookie ${p}_cookie {{
    default "";
    "~*{WORDPRESS_COOKIES}" 1;
}}
map $request_uri ${p}_uri {{
    default "";
    "~*{WORDPRESS_URIS}" 1;
}}
"#
        ));
    }
    text.push_str(&format!(
        r#"map $upstream_cache_status ${p}_status {{
    default $upstream_cache_status;
    "" OFF;
}}
"#
    ));
    if plan.header == HeaderLevel::Http {
        // Up here every site of the host would carry it: only answers for our domain do.
        let domain = plan.environment.domain.replace('.', "[.]");
        text.push_str(&format!(
            r#"map $host ${p}_here {{
    default "";
    "~^{domain}$" ${p}_status;
}}
add_header X-Hostler-Cache ${p}_here always;
"#
        ));
    }
    text
}

fn server(plan: &Plan<'_>) -> String {
    let p = prefix(plan.environment);
    let mut text = head(plan, "Include it in the server {} of the domain.");
    text.push_str(&format!(
        r#"
location = {path} {{
    if (${p}_mode != generation) {{
        return 404;
    }}
    access_log off;
    default_type text/plain;
    return 200 "{generation}\n";
}}
"#,
        path = generation_path(plan.environment),
        generation = plan.generation,
    ));
    if plan.enabled {
        let lookups = match plan.environment.kind {
            AppKind::Php => String::new(),
            AppKind::Wordpress => format!("${p}_cookie${p}_uri"),
        };
        let page = tracking::VARIABLE;
        text.push_str(&format!("set ${p}_read \"${p}_{page}{lookups}\";\n"));
    }
    if plan.header == HeaderLevel::Server {
        text.push_str(&format!("add_header X-Hostler-Cache ${p}_status always;\n"));
    }
    text
}

fn location(plan: &Plan<'_>) -> String {
    let p = prefix(plan.environment);
    let mut text = head(plan, "Include it in the location {} that passes to PHP.");
    text.push('\n');
    if plan.enabled {
        let FastcgiDoc { key_format, valid_secs, .. } = plan.fastcgi;
        let page = format!("{p}_{}", tracking::VARIABLE);
        // A format that cannot be read is refused before anything is rendered.
        let key = KeyFormat::parse(key_format).map(|format| format.render(&page));
        let key = key.unwrap_or_default();
        let statuses = STORED_STATUSES.map(|status| status.to_string()).join(" ");
        let zone = zone(plan.environment, plan.fastcgi);
        let personal = match plan.environment.kind {
            AppKind::Php => format!("${p}_auth"),
            AppKind::Wordpress => format!("${p}_auth ${p}_cookie ${p}_uri"),
        };
        text.push_str(&format!(
            r#"fastcgi_cache {zone};
fastcgi_cache_key "${{{p}_key}}{key}";
fastcgi_cache_methods GET HEAD;
fastcgi_cache_valid {statuses} {valid_secs}s;
fastcgi_cache_use_stale error timeout invalid_header http_500 http_503;
fastcgi_cache_background_update on;
fastcgi_cache_lock on;
fastcgi_cache_bypass {personal} ${p}_past;
fastcgi_no_cache {personal} ${p}_unstored;
open_file_cache off;
"#
        ));
    } else {
        text.push_str("fastcgi_cache off;\n");
    }
    if plan.header == HeaderLevel::Location {
        text.push_str(&format!("add_header X-Hostler-Cache ${p}_status always;\n"));
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use hostler_protocol::id::EnvironmentId;
    use hostler_protocol::job::{HealthDoc, KEY_FORMAT_DEFAULT, NginxDoc};

    use super::*;

    pub(crate) fn environment(kind: AppKind) -> EnvironmentDoc {
        EnvironmentDoc {
            id: EnvironmentId::from_parts(0, [0; 10]),
            site: "shop".to_owned(),
            name: "production\n<?}".to_owned(),
            domain: "shop.test".to_owned(),
            kind,
            docroot: "/srv/shop".to_owned(),
            user: "www-data".to_owned(),
            nginx: NginxDoc {
                http_file: "/etc/nginx/hostler/shop/http.conf".to_owned(),
                server_file: "/etc/nginx/hostler/shop/server.conf".to_owned(),
                location_file: "/etc/nginx/hostler/shop/location.conf".to_owned(),
                probe_origin: "http://127.0.0.1".to_owned(),
            },
            fastcgi: Some(FastcgiDoc {
                cache_dir: "/var/cache/nginx/shop".to_owned(),
                key_format: KEY_FORMAT_DEFAULT.to_owned(),
                zone_mib: 10,
                size_mib_max: 256,
                inactive_secs: 3600,
                valid_secs: 600,
            }),
            redis: None,
            health: HealthDoc { path: "/".to_owned(), status: 200, timeout_ms: 1000 },
            executor: None,
        }
    }

    fn rendered(kind: AppKind, enabled: bool, header: HeaderLevel) -> Rendered {
        let environment = environment(kind);
        let fastcgi = environment.fastcgi.as_ref().unwrap();
        let plan = Plan {
            environment: &environment,
            fastcgi,
            enabled,
            generation: 7,
            secret: "s",
            header,
        };
        render(&plan)
    }

    #[test]
    fn the_location_file_when_on() {
        let text = rendered(AppKind::Php, true, HeaderLevel::Server).location;
        assert_eq!(
            text,
            r#"# Written by Hostler for env_00000000000000000000000000 (shop production), generation 7.
# Include it in the location {} that passes to PHP. Changes made here are lost.

fastcgi_cache hostler_00000000000000000000000000_12069b;
fastcgi_cache_key "${hostler_00000000000000000000000000_key}${scheme}${request_method}${host}${hostler_00000000000000000000000000_page}";
fastcgi_cache_methods GET HEAD;
fastcgi_cache_valid 200 301 302 600s;
fastcgi_cache_use_stale error timeout invalid_header http_500 http_503;
fastcgi_cache_background_update on;
fastcgi_cache_lock on;
fastcgi_cache_bypass $hostler_00000000000000000000000000_auth $hostler_00000000000000000000000000_past;
fastcgi_no_cache $hostler_00000000000000000000000000_auth $hostler_00000000000000000000000000_unstored;
open_file_cache off;
"#
        );
    }

    #[test]
    fn off_keeps_the_zone_and_caches_nothing() {
        let files = rendered(AppKind::Php, false, HeaderLevel::Server);
        assert!(files.location.ends_with("\nfastcgi_cache off;\n"), "{}", files.location);
        assert!(files.http.contains("keys_zone=hostler_00000000000000000000000000_12069b:10m"));
    }

    #[test]
    fn the_status_header_stands_in_exactly_one_file() {
        for header in [HeaderLevel::Http, HeaderLevel::Server, HeaderLevel::Location] {
            let Rendered { http, server, location } = rendered(AppKind::Php, true, header);
            let with = [http, server, location].map(|text| text.contains("add_header"));
            let expected = [HeaderLevel::Http, HeaderLevel::Server, HeaderLevel::Location]
                .map(|level| level == header);
            assert_eq!(with, expected, "{header:?}");
        }
    }

    #[test]
    fn only_wordpress_has_wordpress_rules() {
        let wordpress = rendered(AppKind::Wordpress, true, HeaderLevel::Server);
        assert!(wordpress.http.contains("woocommerce") && wordpress.location.contains("_cookie"));
        let php = rendered(AppKind::Php, true, HeaderLevel::Server);
        assert!(!php.http.contains("woocommerce") && !php.location.contains("_cookie"));
    }

    #[test]
    fn nothing_that_ends_a_directive_gets_in() {
        let mut bad = environment(AppKind::Php);
        let mut fastcgi = bad.fastcgi.clone().unwrap();
        assert_eq!(check(&bad, &fastcgi), Ok(()));
        fastcgi.cache_dir = "/var/cache; load_module /tmp/x".to_owned();
        assert_eq!(check(&bad, &fastcgi).unwrap_err().code(), "SPEC_INVALID");
        let fastcgi = bad.fastcgi.clone().unwrap();
        bad.domain = "a.test\"".to_owned();
        assert_eq!(check(&bad, &fastcgi).unwrap_err().code(), "SPEC_INVALID");
    }
}
