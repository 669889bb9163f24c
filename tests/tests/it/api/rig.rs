//! An API over an empty SQLite database, and a client that believes no answer the contract does
//! not allow.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hostler_controller::api::{self, Access};
use hostler_controller::app::desired::Desired;
use hostler_controller::app::{App, JoinTarget};
use hostler_controller::clock::Clock;
use hostler_controller::domain::{Change, Decision, Micros, Scope};
use hostler_controller::events::Events;
use hostler_controller::store::{DatabaseUrl, Store};
use hostler_controller::templates::Templates;
use hostler_protocol::id::HostId;
use hostler_tests::rows;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

/// When everything begins.
pub(crate) const NOW: Micros = Micros(1_700_000_000_000_000);

/// One API with its database; both go with it.
pub(crate) struct Rig {
    pub(crate) app: App,
    pub(crate) router: Router,
    contract: Value,
    /// Cancelled when the rig goes.
    pub(crate) stop: CancellationToken,
    _tail: DropGuard,
    _dir: Option<tempfile::TempDir>,
}

/// An answer that the contract allows.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Null when there is no body or none in JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("(no code)")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The pointers of a problem's errors.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().unwrap();
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }

    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().unwrap()
    }

    pub(crate) fn job_id(&self) -> &str {
        self.body["job_id"].as_str().unwrap()
    }

    /// The answer itself, if it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(Access::Loopback { listen: None }).await
    }

    pub(crate) async fn with(access: Access) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(dir.path().join("hostler.db"));
        let store = Store::open(&url).await.unwrap();
        let rig = Self::over(access, store, Desired::none());
        Self { _dir: Some(dir), ..rig }
    }

    /// An API over a store that is another's, with a desired state.
    pub(crate) fn over(access: Access, store: Store, desired: Desired) -> Self {
        let clock = Clock::system();
        let app = App {
            events: Events::new(store.clone()),
            desired,
            templates: Templates::shipped().unwrap(),
            controller: clock.new_controller_id().unwrap(),
            join: Arc::new(JoinTarget {
                addresses: vec!["controller.example:7443".to_owned()],
                pin: [7; 32],
            }),
            clock,
            store,
        };
        let stop = CancellationToken::new();
        let (events, stopped) = (app.events.clone(), stop.clone());
        tokio::spawn(async move { events.tail(stopped).await });
        let router = api::router(app.clone(), access, stop.clone());
        let tail = stop.clone().drop_guard();
        Self { app, router, contract: api::contract(), stop, _tail: tail, _dir: None }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_with(method, path, &[], body).await
    }

    pub(crate) async fn call_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if headers.iter().all(|(name, _)| *name != "host") {
            request = request.header("host", "localhost");
        }
        self.send(request.body(body).unwrap()).await
    }

    /// Sends a request and holds the whole answer against the contract.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let content = parts.headers.get("content-type").map(|value| value.to_str().unwrap());
        let essence = content.unwrap_or_default().split(';').next().unwrap_or_default().to_owned();
        let body = match essence.ends_with("json") {
            true => serde_json::from_slice(&bytes).unwrap(),
            false => Value::Null,
        };
        let answer = Answer { status: parts.status, headers: parts.headers, body, text };
        self.hold(&method, &path, &essence, &answer);
        answer
    }

    /// Panics if the contract does not allow the answer.
    fn hold(&self, method: &Method, path: &str, essence: &str, answer: &Answer) {
        let what = format!("{method} {path} -> {}", answer.status);
        assert!(answer.header("x-request-id").starts_with("req_"), "{what}: no X-Request-Id");
        let Some(operation) = self.operation(method, path) else {
            let unknown = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
            let ok = unknown.contains(&answer.status) || refused.contains(&answer.status);
            assert!(ok, "{what}: not in the contract, yet it was answered");
            self.valid(&what, &json!({ "$ref": "#/components/schemas/Problem" }), &answer.body);
            return;
        };
        let response = &operation["responses"][answer.status.as_str()];
        assert!(response.is_object(), "{what}: this status is not in the contract");
        let Some(content) = response["content"].as_object() else {
            assert_eq!(answer.text, "", "{what}: the contract says nothing of a body");
            return;
        };
        let described = content.get(essence);
        let described = described.unwrap_or_else(|| panic!("{what}: no {essence} in the contract"));
        if essence.ends_with("json") {
            self.valid(&what, &described["schema"], &answer.body);
        }
    }

    fn valid(&self, what: &str, schema: &Value, body: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.contract["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let wrong: Vec<String> =
            validator.iter_errors(body).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{what}: {body} is not as the contract says: {wrong:?}");
    }

    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let paths = self.contract["paths"].as_object().unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        let found = paths.iter().find(|(template, _)| {
            let wanted: Vec<&str> = template.split('/').collect();
            let same = |(want, is): (&&str, &&str)| want.starts_with('{') || want == is;
            wanted.len() == parts.len() && wanted.iter().zip(&parts).all(same)
        });
        found.and_then(|(_, item)| item.get(method.as_str().to_lowercase()))
    }

    /// A host, as if it had enrolled; connected if asked.
    pub(crate) async fn host(&self, name: &str, connected: bool) -> HostId {
        let id = self.app.clock.new_host_id().unwrap();
        let key = name.len() + name.bytes().map(usize::from).sum::<usize>();
        let host = rows::host(id.clone(), name, &format!("{key:064x}"), NOW);
        self.write(Change::InsertHost(Box::new(host.clone()))).await;
        if connected {
            let (store, clock) = (&self.app.store, &self.app.clock);
            let opening = rows::opening(&host, &self.app.controller, clock.now());
            store.session_open(opening).await.unwrap();
        }
        id
    }

    /// Writes a row past the decisions: for states only a host can bring about.
    pub(crate) async fn write(&self, change: Change) {
        let decide = move |_: &_| {
            Ok(Decision { changes: vec![change.clone()], events: Vec::new(), reply: () })
        };
        self.app.store.transact("test", Scope::default(), decide).await.unwrap();
    }

    pub(crate) async fn site(&self, name: &str) -> String {
        self.post("/api/sites", json!({ "name": name })).await.expect(201).id().to_owned()
    }

    /// A site, a host and an environment with both caches; the environment's path.
    pub(crate) async fn environment(&self, name: &str) -> String {
        let site = self.site(name).await;
        let host = self.host(&format!("host-of-{name}"), false).await;
        let path = format!("/api/sites/{site}/environments");
        let made = self.post(&path, environment(name, host.as_str())).await.expect(201);
        format!("/api/environments/{}", made.id())
    }
}

/// A creation that is right in every field.
pub(crate) fn environment(name: &str, host: &str) -> Value {
    json!({
        "name": "production",
        "host": host,
        "domain": format!("{name}.example"),
        "kind": "php",
        "docroot": format!("/var/www/{name}"),
        "user": "www-data",
        "fastcgi": {},
        "redis": {
            "url": "redis://127.0.0.1:6379/0",
            "prefix": format!("{name}:"),
            "switch_file": format!("/var/lib/hostler/{name}.json")
        }
    })
}
