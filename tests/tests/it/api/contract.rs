//! The committed contract is what the code says, and says enough.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hostler_controller::api;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn operations(contract: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in contract["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((format!("{method} {path}"), operation));
        }
    }
    assert!(all.len() > 20, "the contract has lost its routes: {}", all.len());
    all
}

#[test]
fn the_committed_contract_is_what_the_code_says() {
    let file = root().join("contracts/openapi.yaml");
    let text = serde_norway::to_string(&api::contract()).unwrap();
    let text = format!(
        "# Made from the code: UPDATE_CONTRACTS=1 cargo test -p hostler-tests --test it contract\n{text}"
    );
    if std::env::var_os("UPDATE_CONTRACTS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "contracts/openapi.yaml is not what the code says. If the change is meant, run \
         UPDATE_CONTRACTS=1 cargo test -p hostler-tests --test it contract, and read the diff."
    );
}

#[test]
fn schema_names_are_unique() {
    // Of two schemas of one name, the generator silently keeps one.
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("controller/src/views")).unwrap() {
        for line in fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let named = line.strip_prefix("pub struct ").or(line.strip_prefix("pub enum "));
            // The schemas of ids are made by a macro, a line each.
            let id = line.trim().split_once("IdText = ").map(|_| line.trim());
            let Some(rest) = named.or(id) else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            assert!(names.insert(name.clone()), "two views are named {name}; rename one");
        }
    }
    let contract = api::contract();
    for name in contract["components"]["schemas"].as_object().unwrap().keys() {
        assert!(names.contains(name), "the schema {name} is no view");
    }
}

#[test]
fn requests_refuse_what_they_do_not_know() {
    let contract = api::contract();
    let schemas = contract["components"]["schemas"].as_object().unwrap();
    let mut wanted = BTreeSet::new();
    for (_, operation) in operations(&contract) {
        collect(&operation["requestBody"], schemas, &mut wanted);
    }
    assert!(wanted.len() >= 8, "the contract has lost its requests: {wanted:?}");
    for name in wanted {
        let schema = &schemas[&name];
        // A map has keys of its own and no fields.
        let is_map = schema["properties"].is_null() && schema["additionalProperties"].is_object();
        if schema["type"] == "object" && !is_map {
            assert_eq!(schema["additionalProperties"], false, "{name} lets unknown fields pass");
        }
    }
}

/// The names of all schemas a part of the contract refers to, directly or through others.
fn collect(part: &Value, schemas: &serde_json::Map<String, Value>, into: &mut BTreeSet<String>) {
    match part {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                let name = name.rsplit('/').next().unwrap().to_owned();
                if into.insert(name.clone()) {
                    collect(&schemas[&name], schemas, into);
                }
            }
            fields.values().for_each(|value| collect(value, schemas, into));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, schemas, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_operation_says_how_it_can_fail() {
    let contract = api::contract();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&contract) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && ids.insert(id), "{name}: operationId {id:?} missing or twice");
        assert!(operation["summary"].is_string(), "{name}: no summary");
        let responses = operation["responses"].as_object().unwrap();
        let mut wanted = vec!["500"];
        // What forges send is no JSON to the server: its signature over the bytes is its key.
        let is_webhook = name.ends_with(" /api/webhook");
        if !name.ends_with("/livez") && !name.ends_with("/readyz") && !is_webhook {
            wanted.extend(["401", "403"]);
        }
        if name.contains(" /api") {
            wanted.extend(["400", "503"]);
        }
        if name.contains('{') {
            wanted.push("404");
        }
        if operation.get("requestBody").is_some() {
            wanted.push("413");
            wanted.extend((!is_webhook).then_some("415"));
        }
        for status in wanted {
            assert!(responses.contains_key(status), "{name}: does not say how {status} comes");
        }
        for (status, response) in responses {
            assert!(response["headers"]["X-Request-Id"].is_object(), "{name} {status}");
            if status.starts_with(['4', '5']) {
                assert!(
                    response["content"]["application/problem+json"].is_object(),
                    "{name} {status}"
                );
            }
        }
    }
}
