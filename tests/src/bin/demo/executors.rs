//! The same toggle by the agent itself and by a playbook.

use std::path::Path;

use hostler_tests::servers::ServerError;
use hostler_tests::system::{Site, System};
use hostler_tests::teller::Teller;
use serde_json::{Value, json};

pub(super) fn show(teller: &Teller, system: &System, site: &Site) -> Result<(), ServerError> {
    teller.say("the same toggle by the agent itself (native) and by a playbook (ansible)");
    let mut ends = Vec::new();
    for executor in ["native", "ansible"] {
        let arguments = ["env", "change", "shop/production", "--executor", executor];
        teller.quietly(&system.controller, &arguments)?;
        switch(system, site, executor, false)?;
        let job = switch(system, site, executor, true)?;
        let took: u64 = job["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s["took_us"].as_u64())
            .sum();
        teller.show(&format!("{executor}: {} ms; {}", took / 1_000, proof(&job)));
        ends.push(end_state(system, site, &job["result"]["generation"])?);
    }
    if ends.first() != ends.last() {
        return Err(ServerError(format!("the two left different files: {ends:?}")));
    }
    teller.show("both left the same nginx files, but for the number of the toggle and its secret");
    Ok(())
}

fn switch(system: &System, site: &Site, executor: &str, on: bool) -> Result<Value, ServerError> {
    let path = format!("/api/environments/{}/cache", site.environment);
    let body = json!({ "fastcgi_cache_enabled": on });
    let job = system.controller.run_job("PATCH", &path, Some(&body))?;
    if job["state"] == "succeeded" && job["executor"] == executor {
        return Ok(job);
    }
    Err(ServerError(format!("the {executor} toggle did not succeed: {job:#}")))
}

fn proof(job: &Value) -> String {
    let steps = job["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let proven = steps.iter().find(|step| step["step"] == "effect");
    proven.and_then(|step| step["message"].as_str()).unwrap_or_default().to_owned()
}

/// The three files, without what is new with every toggle: its number and its probes' secret.
fn end_state(system: &System, site: &Site, generation: &Value) -> Result<Vec<String>, ServerError> {
    let path = format!("/api/environments/{}", site.environment);
    let environment = system.controller.call("GET", &path, None)?.expect(200)?;
    let files: Result<Vec<String>, ServerError> = ["http_file", "server_file", "location_file"]
        .iter()
        .map(|name| {
            let file = environment["nginx"][name].as_str().unwrap_or_default();
            std::fs::read_to_string(Path::new(file))
                .map_err(|error| ServerError::new("reading what a toggle wrote", error))
        })
        .collect();
    let files = files?;
    let secret = files.first().and_then(|http| http.split("\"effect:").nth(1)?.split('"').next());
    let secret = secret.ok_or_else(|| ServerError("no probe secret in a toggle's files".into()))?;
    let same = |text: &String| {
        text.replace(secret, "SECRET")
            .replace(&format!("generation {generation}."), "generation N.")
            .replace(&format!("\"{generation}\\n\""), "\"N\\n\"")
    };
    Ok(files.iter().map(same).collect())
}
