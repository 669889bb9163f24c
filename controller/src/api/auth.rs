//! Who asks, and whether they may: the one place that authenticates.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use hostler_protocol::id::ApiTokenId;

use super::problem::ApiError;
use crate::app::{App, ShownToken};
use crate::domain::ApiScope;
use crate::store::StoreError;

/// Who may use the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Whoever reaches this loopback listener, by a loopback name: the `Host` and `Origin` checks
    /// keep web pages from driving it. `None`: any port (there is no listener yet).
    Loopback { listen: Option<SocketAddr> },
    /// Whoever reaches it: explicitly insecure. Only `Origin` is checked against `Host`.
    Insecure,
    /// Bearers of an API token.
    Tokens,
    /// The same; but whoever reaches it may ask for a refresh, and read refreshes and stacks.
    TokensBesidesDesiredState,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// An API token's id, or `local`.
    pub name: String,
    pub scope: ApiScope,
}

impl Principal {
    /// Whether whoever was let in may still be there: their token was not revoked and has not
    /// expired since.
    ///
    /// # Errors
    /// [`StoreError`] when the token cannot be read.
    pub(crate) async fn may_still(&self, app: &App) -> Result<bool, StoreError> {
        match self.name.parse::<ApiTokenId>() {
            Ok(token) => app.token_holds(&token).await,
            // `local`: let in by where the request came from.
            Err(_) => Ok(true),
        }
    }
}

/// Paths that answer anybody; a webhook's signature is its key.
pub(crate) const OPEN_PATHS: [&str; 3] = ["/livez", "/readyz", super::webhook::ROUTE];

/// What a route needs; an unknown one needs the most.
#[must_use]
pub(crate) fn scope_needed(method: &Method, route: &str) -> ApiScope {
    let of_environment = "/api/environments/{id}/";
    let operates = |rest: &str| {
        rest == "check"
            || rest.strip_prefix("cache").is_some_and(|r| r.is_empty() || r.starts_with('/'))
    };
    if method == Method::GET || method == Method::HEAD {
        ApiScope::Read
    } else if route.starts_with("/api/jobs/")
        || route.starts_with("/api/batches")
        || route.starts_with("/api/stacks/")
        || route == "/api/refresh"
        || route.strip_prefix(of_environment).is_some_and(operates)
    {
        ApiScope::Operate
    } else {
        ApiScope::Admin
    }
}

/// Says who asks, or why they may not. `route` is the pattern of the route that matched.
///
/// # Errors
/// 401 without a valid token, 403 without the scope or for a foreign host or origin, 503 when the
/// tokens cannot be read.
pub(crate) async fn authenticate(
    app: &App,
    access: &Access,
    method: &Method,
    route: &str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Principal, ApiError> {
    let local = Principal { name: "local".to_owned(), scope: ApiScope::Admin };
    if OPEN_PATHS.contains(&route) {
        return Ok(local);
    }
    let principal = match access {
        Access::Loopback { listen } => {
            let host = host(uri, headers)?;
            local_host(&host, *listen)?;
            same_origin(&host, headers)?;
            local
        }
        Access::Insecure => {
            same_origin(&host(uri, headers)?, headers)?;
            local
        }
        Access::TokensBesidesDesiredState
            if is_of_desired_state(method, route) && !headers.contains_key(AUTHORIZATION) =>
        {
            same_origin(&host(uri, headers)?, headers)?;
            Principal { name: "anybody".to_owned(), scope: ApiScope::Operate }
        }
        Access::Tokens | Access::TokensBesidesDesiredState => bearer(app, headers).await?,
    };
    let needed = scope_needed(method, route);
    if principal.scope < needed {
        let detail = format!("this needs a token of scope `{}`", needed.as_str());
        return Err(ApiError::new(StatusCode::FORBIDDEN, "SCOPE_MISSING", detail));
    }
    Ok(principal)
}

/// Whether a route asks for a refresh, or reads refreshes or stacks.
fn is_of_desired_state(method: &Method, route: &str) -> bool {
    let read = ["/", "/api/refresh-status", "/api/refreshes", "/api/refreshes/{id}", "/api/stacks"];
    match *method {
        Method::GET | Method::HEAD => read.contains(&route) || route == "/api/stacks/{id}",
        Method::POST => route == "/api/refresh",
        _ => false,
    }
}

async fn bearer(app: &App, headers: &HeaderMap) -> Result<Principal, ApiError> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(text), None) = (shown.next(), shown.next()) else {
        return Err(ApiError::unauthenticated(
            "send an API token as `Authorization: Bearer hst_…`",
        ));
    };
    // One answer for all that is wrong with a token: who guesses learns nothing.
    let invalid = || {
        ApiError::unauthenticated(
            "the API token is unknown, expired or revoked; is it copied whole?",
        )
    };
    let text = text.to_str().map_err(|_| invalid())?;
    let (scheme, text) = text.split_once(' ').ok_or_else(invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid());
    }
    let shown = ShownToken::parse(text.trim()).ok_or_else(invalid)?;
    let token = app.token_shown(&shown).await?.ok_or_else(invalid)?;
    Ok(Principal { name: token.id.into(), scope: token.scope })
}

/// The host a request is for, as `host` or `host:port`, lower case.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<String, ApiError> {
    let mut named = headers.get_all(HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok().map(str::to_ascii_lowercase),
        (None, _) => uri.authority().map(|authority| authority.as_str().to_ascii_lowercase()),
        (Some(_), Some(_)) => None,
    };
    host.ok_or_else(|| foreign_host("the request needs one Host header"))
}

fn foreign_host(detail: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "FOREIGN_HOST", detail)
}

/// Whether the host is a name of this machine's loopback, with the port we listen on: any other
/// name may be one that an attacker's DNS points here.
fn local_host(host: &str, listen: Option<SocketAddr>) -> Result<(), ApiError> {
    let (name, port) = split_port(host);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let local = name == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let port_ok = listen.is_none_or(|listen| port.unwrap_or(80) == listen.port());
    if local && port_ok {
        return Ok(());
    }
    Err(foreign_host(
        "without API tokens only requests for localhost are answered; address the controller by \
         its loopback address, or let it ask for tokens",
    ))
}

fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port.parse().unwrap_or(0))),
        Some(_) | None => (host, None),
    }
}

/// A browser that sends an `Origin` must be showing a page of ours.
fn same_origin(host: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    for origin in headers.get_all(ORIGIN) {
        let ours = origin.to_str().ok().and_then(|origin| {
            let origin = origin.to_ascii_lowercase();
            let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            place.map(|place| place == host)
        });
        if ours != Some(true) {
            let detail = "the request comes from a page of another origin";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen() -> Option<SocketAddr> {
        Some(SocketAddr::from(([127, 0, 0, 1], 8080)))
    }

    #[test]
    fn only_loopback_names_with_our_port_are_local() {
        for good in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9:8080"] {
            assert!(local_host(good, listen()).is_ok(), "{good}");
        }
        for bad in [
            "localhost",
            "localhost:80",
            "127.0.0.1:81",
            "evil.example:8080",
            "10.0.0.1:8080",
            "",
            "localhost.evil.example:8080",
            "localhost:x",
            "[::2]:8080",
        ] {
            assert!(local_host(bad, listen()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_must_be_ours() {
        let check = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, origin.parse().unwrap());
            same_origin("localhost:8080", &headers)
        };
        assert!(same_origin("localhost:8080", &HeaderMap::new()).is_ok());
        assert!(check("http://localhost:8080").is_ok());
        for bad in ["null", "http://evil.example", "http://localhost:8081", "localhost:8080"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_write_needs_more_than_read() {
        let needed = |method: Method, route: &str| scope_needed(&method, route);
        assert_eq!(needed(Method::GET, "/api/jobs/{id}"), ApiScope::Read);
        assert_eq!(needed(Method::POST, "/api/jobs/{id}/cancel"), ApiScope::Operate);
        assert_eq!(needed(Method::PATCH, "/api/environments/{id}/cache"), ApiScope::Operate);
        for end in ["purge", "reconcile", "warm", "facts", "explain"] {
            let route = format!("/api/environments/{{id}}/cache/{end}");
            assert_eq!(needed(Method::POST, &route), ApiScope::Operate, "{route}");
        }
        assert_eq!(needed(Method::POST, "/api/batches"), ApiScope::Operate);
        assert_eq!(needed(Method::POST, "/api/batches/{id}/cancel"), ApiScope::Operate);
        assert_eq!(needed(Method::PATCH, "/api/environments/{id}"), ApiScope::Admin);
        assert_eq!(needed(Method::POST, "/api/environments/{id}/check"), ApiScope::Operate);
        assert_eq!(needed(Method::DELETE, "/api/environments/{id}"), ApiScope::Admin);
        assert_eq!(needed(Method::POST, "/api/enrolment-tokens"), ApiScope::Admin);
        assert_eq!(needed(Method::POST, "/unknown"), ApiScope::Admin);
    }
}
