//! `make demo`: the main job on the embedded default, against real nginx, PHP-FPM and Redis on
//! loopback; then what visitors see of each kind of purge, the same toggle by both executors, and a
//! host that comes back after its certificate has ended. Everything it starts has its own directory
//! and ports and ends with it.

mod executors;
mod identity;
mod modes;

use std::io::IsTerminal;
use std::process::ExitCode;

use hostler_tests::servers::ServerError;
use hostler_tests::system::{Controller, Host, Site, System};
use hostler_tests::teller::{Teller, complain};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let teller = Teller::begin();
    match run(&teller) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("the demo failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(teller: &Teller) -> Result<(), ServerError> {
    teller.say("starting nginx, PHP-FPM, Redis and a controller with its embedded database");
    let controller = Controller::start(None)?;
    let mut host = Host::start("web1")?;
    teller.say("a one-time token; the host makes its own key and enrols with it");
    host.enrol(&controller)?;
    host.run_agent()?;
    controller.wait_connected("web1")?;
    let system = System { host, controller };
    teller.say("host web1 is connected over mutual-TLS QUIC");

    let site = Site::create(&system.controller, &system.host, "shop")?;
    teller.say(&format!("site shop: {}/ through nginx and PHP", site.url("")));
    status(teller, &site, "before the cache is on")?;

    teller.say("switching both caches on: PATCH /api/environments/…/cache");
    let job = site.set_caches(&system.controller, true, true)?;
    proofs(teller, &job)?;
    status(teller, &site, "the first visitor")?;
    status(teller, &site, "the second visitor")?;

    let mut redis = system.host.redis.connect()?;
    for key in ["shop:post:1", "shop:post:2", "other:post:1"] {
        set(&mut redis, key)?;
    }
    teller.say("purging one URL: POST /api/environments/…/cache/purge");
    let purge = json!({ "urls": [site.url("/")] });
    let job = site.purge(&system.controller, Some(&purge))?;
    proofs(teller, &job)?;
    status(teller, &site, "after the purge")?;
    status(teller, &site, "and again")?;

    teller.say("purging everything, by the command line");
    teller.hostler(&system.controller, &["cache", "purge", "shop/production", "--wait"])?;
    status(teller, &site, "after the purge")?;
    status(teller, &site, "and again")?;
    let left: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut redis)
        .map_err(|error| ServerError::new("reading redis", error))?;
    teller.say(&format!("left in Redis: {left:?} (the neighbour's key)"));
    if left != ["other:post:1"] {
        return Err(ServerError("the purge took the wrong Redis keys".to_owned()));
    }
    modes::show(teller, &system)?;
    executors::show(teller, &system, &site)?;
    identity::show(teller)?;
    stay(teller, &system, &site)?;
    teller.say("done; stopping everything");
    Ok(())
}

fn set(redis: &mut redis::Connection, key: &str) -> Result<(), ServerError> {
    redis::cmd("SET")
        .arg(key)
        .arg("object")
        .query(redis)
        .map_err(|error| ServerError::new("filling redis", error))
}

fn status(teller: &Teller, site: &Site, who: &str) -> Result<(), ServerError> {
    let answer = site.get("/")?;
    let cache = answer.header("X-Hostler-Cache").unwrap_or("no cache configured");
    teller.say(&format!("{who}: {} {cache}  {}", answer.status, answer.body.trim()));
    Ok(())
}

/// Prints a job's result and times; a job that did not succeed ends the demo.
fn proofs(teller: &Teller, job: &Value) -> Result<(), ServerError> {
    if job["state"] != "succeeded" {
        return Err(ServerError(format!("the job did not succeed: {job:#}")));
    }
    let shown = json!({
        "id": job["id"], "state": job["state"], "attempt": job["attempt"],
        "created_at": job["created_at"], "finished_at": job["finished_at"],
        "result": job["result"],
    });
    teller.show(&format!("{shown:#}"));
    Ok(())
}

/// In a terminal the demo stays up until it is interrupted.
fn stay(teller: &Teller, system: &System, site: &Site) -> Result<(), ServerError> {
    let unattended = std::env::var_os("CI").is_some() || !std::io::stdout().is_terminal();
    if unattended {
        return Ok(());
    }
    let api = system.controller.api_port;
    teller.say(&format!("it stays up until Ctrl-C. Look at http://127.0.0.1:{api}/"));
    teller.show(&format!("export HOSTLER_SERVER=http://127.0.0.1:{api}"));
    teller.show("target/debug/hostler job list");
    teller.show("target/debug/hostler cache show shop/production");
    let nginx = system.host.nginx.port;
    teller.show(&format!("curl -i -H 'Host: {}' http://127.0.0.1:{nginx}/", site.domain));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ServerError::new("waiting for Ctrl-C", error))?;
    runtime
        .block_on(tokio::signal::ctrl_c())
        .map_err(|error| ServerError::new("waiting for Ctrl-C", error))
}
