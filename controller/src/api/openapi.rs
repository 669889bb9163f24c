//! The contract: what utoipa gathers from the handlers, completed with what is true of every
//! route (problem details, the request's id, who may ask).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::openapi::{ContentBuilder, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses, OpenApi};

use super::extract::BODY_BYTES_MAX;
use super::problem::PROBLEM_TYPE;
use crate::views;

/// Schemas no handler names directly.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hostler",
        description = "Looks after hosts with an agent: the caches of their sites, and the compose \
                       stacks a git repository says they run. What changes a host is a job: the \
                       answer is 202 with its id, and the job says how it went.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(views::Problem, views::JobAccepted, views::EndOfStream)),
    tags(
        (name = "sites", description = "Names that group environments."),
        (name = "environments", description = "Deployments of a site, each on one host."),
        (name = "caches", description = "What should be cached, what is, and purges."),
        (name = "jobs", description = "Units of work on a host."),
        (name = "batches", description = "One request for many environments, a job each."),
        (name = "stacks", description = "Compose projects as the config repository says, and looks at it."),
        (name = "events", description = "Everything that happened, live and resumable."),
        (name = "hosts", description = "Machines with an agent."),
        (name = "enrolment", description = "How a new host is let in."),
        (name = "service", description = "The controller itself."),
    )
)]
pub(crate) struct Base;

/// Headers of every request that makes a job.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by `Making`; here they are only described")]
pub(crate) struct JobHeaders {
    /// The same key with the same request gives the same job, for a day.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^([!#-~]+|\x22[!#-~]+\x22)$"
    )]
    idempotency_key: Option<String>,
    /// `wait=N`: answer when the job has ended, at most N (60) seconds from now.
    #[param(rename = "Prefer", nullable = false, example = "wait=1")]
    prefer: Option<String>,
}

/// The header of a request that must not be carried out twice.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by `Making`; here it is only described")]
pub(crate) struct KeyHeader {
    /// The same key with the same request gives the same answer.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^([!#-~]+|\x22[!#-~]+\x22)$"
    )]
    idempotency_key: Option<String>,
}

/// Answers of every request that makes a job.
pub(crate) struct JobAnswers;

impl IntoResponses for JobAnswers {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let answer = |description: &str, schema: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
            let header = |description: &str| {
                HeaderBuilder::new()
                    .description(Some(description))
                    .schema(Some(utoipa::openapi::schema::Object::with_type(
                        utoipa::openapi::schema::Type::String,
                    )))
                    .build()
            };
            ResponseBuilder::new()
                .description(description)
                .content("application/json", content)
                .header("Location", header("Where the job is."))
                .header("Idempotent-Replayed", header("`true`: the job of an earlier request."))
        };
        let queued = answer("The job is queued.", "JobAccepted").build();
        let ended = answer("The job has ended within the time the client waited.", "Job").build();
        BTreeMap::from([("202".to_owned(), queued.into()), ("200".to_owned(), ended.into())])
    }
}

/// The whole contract.
#[must_use]
pub(crate) fn complete(generated: &utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(generated).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token (`hostler-controller api-token create`). On a loopback \
                            listener none is needed."
        }
    });
    document["security"] = json!([{}, { "bearer": [] }]);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, operations) in paths {
            for (method, operation) in operations.as_object_mut().into_iter().flatten() {
                complete_operation(path, method, operation);
            }
        }
    }
    document
}

fn complete_operation(path: &str, method: &str, operation: &mut Value) {
    let has_body = operation.get("requestBody").is_some();
    let mut general = vec![("500", "A defect of the controller.")];
    let is_webhook = path == super::webhook::ROUTE;
    if ["/livez", "/readyz"].contains(&path) || is_webhook {
        operation["security"] = json!([]);
    } else {
        general.push(("401", "The API token is missing, unknown, expired or revoked."));
        general.push(("403", "The token's scope does not suffice, or a foreign host or origin."));
    }
    if path != "/livez" && path != "/openapi.json" {
        general.push(("503", "The database cannot be used now; `Retry-After` says when to try."));
    }
    if path.starts_with("/api") {
        general.push(("400", "Something in the request is wrong; `errors` says what and where."));
    }
    if path.contains('{') {
        general.push(("404", "There is no such thing."));
    }
    if path.starts_with("/api")
        && operation["operationId"] != Value::Null
        && has_body
        && !is_webhook
    {
        general.push(("415", "The body is not `application/json`."));
    }
    // Those that want no body read it all the same, to refuse what would be ignored.
    if method != "get" {
        general.push(("413", TOO_LARGE));
    }
    if names_idempotency(operation) {
        general.push(("422", "The `Idempotency-Key` was used for another request."));
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, description) in general {
        responses.entry(status).or_insert_with(|| json!({ "description": description }));
    }
    for (status, response) in responses {
        complete_response(status, response);
    }
}

const TOO_LARGE: &str = "The body is larger than 1 MiB.";
const _: () = assert!(BODY_BYTES_MAX == 1024 * 1024, "say the limit in TOO_LARGE");

fn names_idempotency(operation: &Value) -> bool {
    let parameters = operation["parameters"].as_array();
    parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "Idempotency-Key"))
}

fn complete_response(status: &str, response: &mut Value) {
    let id = json!({
        "description": "The request's id, as in the controller's log.",
        "required": true,
        "schema": { "$ref": "#/components/schemas/RequestIdText" }
    });
    response["headers"]["X-Request-Id"] = id;
    if response["description"] == "" {
        response["description"] = json!("Done.");
    }
    if status.starts_with(['4', '5']) {
        response["content"] = json!({
            PROBLEM_TYPE: { "schema": { "$ref": "#/components/schemas/Problem" } }
        });
    }
}
