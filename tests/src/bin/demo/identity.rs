//! A host that was switched off until its certificate had ended, and comes back.

use hostler_tests::servers::ServerError;
use hostler_tests::system::{Site, System};
use hostler_tests::teller::Teller;

/// Seconds a certificate of this controller is good for.
const LIFE_SECS: u64 = 4;

pub(super) fn show(teller: &Teller) -> Result<(), ServerError> {
    teller.say(&format!(
        "another controller, whose hosts' certificates are good for {LIFE_SECS} s instead of 7 days"
    ));
    let mut system = System::start_with_certificates_of(LIFE_SECS)?;
    let first = system.controller.host("web1").unwrap_or_default();
    let renewed = system.controller.wait_host("web1", "renewed", |host| {
        host["certificate_renewed_at"].is_string() && host["key_sha256"] != first["key_sha256"]
    })?;
    teller.show(&format!(
        "renewed over the session at {}, with a new key",
        renewed["certificate_renewed_at"].as_str().unwrap_or_default()
    ));
    system.host.stop_agent();
    let off = system.controller.wait_host("web1", "off", |host| host["connected"] == false)?;
    let until = off["certificate_expires_at"].as_str().unwrap_or_default().to_owned();
    teller.say(&format!("the host is switched off; its certificate ends at {until}"));
    std::thread::sleep(std::time::Duration::from_secs(LIFE_SECS + 2));
    teller.say("past that: the host is switched on again");
    system.host.run_agent()?;
    system
        .controller
        .wait_host("web1", "back", |host| host["connected"] == true && host["recoveries"] == 1)?;
    teller.hostler(&system.controller, &["host", "show", "web1"])?;
    let site = Site::create(&system.controller, &system.host, "shop")?;
    let job = site.set_caches(&system.controller, true, false)?;
    if job["state"] != "succeeded" {
        return Err(ServerError(format!("the host does not work any more: {job:#}")));
    }
    teller.say("back by the key of its last certificate, and at work");
    Ok(())
}
