//! The HTTP client: one method per kind of request, problems turned into errors.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use hostler_controller::views::Problem;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Certificate, Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::GlobalArgs;
use super::error::CliError;
use super::output::Output;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 4096;
/// Bound on connecting, in seconds.
const CONNECT_SECS_MAX: u64 = 10;
/// Rows asked for at a time: the most a page may have.
const PAGE_ROWS: usize = 200;

/// A client of one controller.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    timeout: Duration,
}

impl Client {
    /// Reads the token, looks at the server's address, and sets up TLS if it is `https`.
    pub(super) fn new(args: &GlobalArgs, out: &Output) -> Result<Self, CliError> {
        let base = parse_server(&args.server)?;
        let token = token(args.token_file.as_deref())?;
        let loopback = is_loopback(&base);
        if token.is_some() && base.scheme() == "http" && !loopback {
            out.say("warning: the token travels unencrypted; use an https server");
        }
        // An error means that a provider is installed already: then that one serves.
        rustls::crypto::ring::default_provider().install_default().ok();
        let timeout = Duration::from_secs(args.timeout);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("hostler/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(Duration::from_secs(CONNECT_SECS_MAX)));
        if loopback {
            builder = builder.no_proxy();
        }
        if let Some(path) = &args.ca_file {
            builder = builder.tls_certs_only(certificates(path)?);
        } else if base.scheme() == "http" {
            // Spares the reading of every certificate of the system.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(CliError::Client)?;
        Ok(Self { http, base, token, timeout })
    }

    /// The server's address, for messages.
    pub(super) fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Reads one document, asked for with a query.
    pub(super) async fn get_with(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Value, CliError> {
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.answer(self.request(Method::GET, self.url(path, &query))).await
    }

    /// Reads one document.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, CliError> {
        self.answer(self.request(Method::GET, self.url(path, &[]))).await
    }

    /// Reads the rows of a list, page by page, at most `rows_max`.
    pub(super) async fn list(
        &self,
        path: &[&str],
        filter: &[(&str, &str)],
        rows_max: usize,
    ) -> Result<Vec<Value>, CliError> {
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        while rows.len() < rows_max {
            let limit = (rows_max - rows.len()).min(PAGE_ROWS).to_string();
            let mut query = filter.to_vec();
            query.push(("limit", &limit));
            if let Some(after) = &after {
                query.push(("after", after));
            }
            let page = self.answer(self.request(Method::GET, self.url(path, &query))).await?;
            let page: RawPage = view(&page)?;
            let empty = page.items.is_empty();
            rows.extend(page.items);
            after = page.next;
            if after.is_none() || empty {
                break;
            }
        }
        Ok(rows)
    }

    /// Sends a request that changes something; an empty answer is null.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> Result<Value, CliError> {
        let mut request = self.request(method, self.url(path, &[]));
        if let Some(body) = body {
            request = request.json(body);
        }
        if let Some(key) = idempotency_key {
            let key = HeaderValue::from_str(key).map_err(|_| {
                CliError::Usage("--idempotency-key takes visible ASCII characters".to_owned())
            })?;
            request = request.header("idempotency-key", key);
        }
        self.answer(request).await
    }

    /// Sends a request that queues a job and asks the controller to answer when it has ended, at
    /// most `wait_secs` from now: the job, or what [`Client::send`] answers.
    pub(super) async fn ask(&self, path: &[&str], wait_secs: u64) -> Result<Value, CliError> {
        let request = self
            .request(Method::POST, self.url(path, &[]))
            .header("prefer", format!("wait={wait_secs}"))
            .timeout(self.timeout + Duration::from_secs(wait_secs));
        self.answer(request).await
    }

    /// Opens the event stream of a job, behind the event with the id `after`.
    pub(super) async fn job_events(
        &self,
        job_id: &str,
        after: Option<&str>,
    ) -> Result<Response, CliError> {
        let url = self.url(&["jobs", job_id, "events"], &[]);
        let mut request = self.authorised(self.http.get(url)).header(ACCEPT, "text/event-stream");
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let sent = tokio::time::timeout(self.timeout, request.send());
        let response = sent.await.map_err(|_| self.timed_out())?.map_err(|e| self.failed(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.authorised(self.http.request(method, url))
            .header(ACCEPT, "application/json, application/problem+json")
            .timeout(self.timeout)
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token),
            None => request,
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = self.body(response).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(CliError::Answer)
    }

    async fn refusal(&self, response: Response) -> CliError {
        let status = response.status().as_u16();
        match self.body(response).await {
            Ok(body) => match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => CliError::Problem(Box::new(problem)),
                Err(_) => CliError::Status { status },
            },
            Err(error) => error,
        }
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, CliError> {
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(|error| self.failed(error))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(CliError::AnswerTooLong { limit_bytes: ANSWER_BYTES_MAX });
            }
        }
        Ok(body)
    }

    /// The error of a request that got no whole answer.
    pub(super) fn failed(&self, error: reqwest::Error) -> CliError {
        let server = self.server().to_owned();
        // Its own text names the address, which we say ourselves.
        let error = error.without_url();
        match tls_error(&error) {
            Some(rustls::Error::InvalidCertificate(_)) => {
                return CliError::Untrusted { server, source: error };
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                return CliError::NotTls { server, source: error };
            }
            Some(_) | None => {}
        }
        if error.is_connect() {
            CliError::Unreachable { server, source: error }
        } else if error.is_timeout() {
            self.timed_out()
        } else {
            CliError::Broken { server, source: error }
        }
    }

    fn timed_out(&self) -> CliError {
        CliError::TimedOut { server: self.server().to_owned(), secs: self.timeout.as_secs() }
    }
}

/// What went wrong in TLS, if that is what it was.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An IO error is silent about what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(wrapped) = wrapped
            && let Some(found) = tls_error(wrapped)
        {
            return Some(found);
        }
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// One page of any list.
#[derive(serde::Deserialize)]
struct RawPage {
    items: Vec<Value>,
    next: Option<String>,
}

/// Reads a document as one of the API's types.
pub(super) fn view<T: DeserializeOwned>(document: &Value) -> Result<T, CliError> {
    T::deserialize(document).map_err(CliError::Answer)
}

fn parse_server(server: &str) -> Result<Url, CliError> {
    let wrong = |why: &str| CliError::Usage(format!("--server: {why}"));
    let url = Url::parse(server).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong("must be an http:// or https:// address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("takes no user or password; use HOSTLER_TOKEN or --token-file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("takes no `?` and no `#`"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The `Authorization` header: from the file, else from `HOSTLER_TOKEN`.
fn token(file: Option<&Path>) -> Result<Option<HeaderValue>, CliError> {
    let (text, from) = match file {
        Some(path) => (read_file(path)?, path.display().to_string()),
        None => match std::env::var("HOSTLER_TOKEN") {
            Ok(text) if !text.trim().is_empty() => (text, "HOSTLER_TOKEN".to_owned()),
            Ok(_) | Err(_) => return Ok(None),
        },
    };
    let token = text.lines().next().unwrap_or_default().trim();
    let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !visible {
        return Err(CliError::Usage(format!("{from} holds no token")));
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| CliError::Usage(format!("{from} holds no token")))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, CliError> {
    let unusable = || CliError::Usage(format!("{} holds no certificates in PEM", path.display()));
    let found =
        Certificate::from_pem_bundle(read_file(path)?.as_bytes()).map_err(|_| unusable())?;
    if found.is_empty() { Err(unusable()) } else { Ok(found) }
}

fn read_file(path: &Path) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|source| CliError::ReadFile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_are_looked_at() {
        for good in ["http://127.0.0.1:7460", "https://ops.example/hostler/", "http://[::1]:80"] {
            assert!(parse_server(good).is_ok(), "{good} should be usable");
        }
        for bad in ["127.0.0.1:7460", "ftp://x", "http://a:b@host", "http://host/?x=1", ""] {
            let error = parse_server(bad).unwrap_err();
            assert_eq!(error.exit().code(), 2, "{bad} should be refused as a usage error");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://[::1]", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
