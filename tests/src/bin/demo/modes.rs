//! What visitors see while pages are purged under their hands, in each mode.

use std::time::Duration;

use hostler_tests::bench::Res;
use hostler_tests::bench::crowd::{Crowd, Seen};
use hostler_tests::bench::http::Visitor;
use hostler_tests::bench::stats::{Samples, time};
use hostler_tests::servers::{ServerError, write};
use hostler_tests::system::{Site, System};
use hostler_tests::teller::Teller;

const VISITORS: usize = 2;
const PAGES: usize = 3;
/// How long visitors look on after a purge.
const AFTER: Duration = Duration::from_millis(400);
/// A page that takes PHP some time.
const PAGE: &str =
    "<?php usleep(50000); echo $_SERVER['REQUEST_URI'], ' made at ', hrtime(true), \"\\n\";\n";

pub(super) fn show(teller: &Teller, system: &System) -> Result<(), ServerError> {
    teller.say("each kind of purge, of pages that take PHP 50 ms, while visitors ask for them");
    let site = Site::create(&system.controller, &system.host, "news")?;
    write(&site.docroot.join("index.php"), PAGE)?;
    let switched = site.set_caches(&system.controller, true, false)?;
    if switched["state"] != "succeeded" {
        return Err(ServerError(format!("the cache could not be switched on: {switched:#}")));
    }
    let mut lines = Vec::new();
    for mode in ["hard", "soft", "refresh"] {
        let seen = purge(teller, system, &site, mode)
            .map_err(|error| ServerError(format!("purging in mode {mode}: {error}")))?;
        let waited = seen.count("MISS") + seen.count("EXPIRED");
        if mode != "hard" && waited > 0 {
            let told = seen.told();
            return Err(ServerError(format!("mode {mode} let {waited} visitors wait: {told}")));
        }
        let samples = Samples::new(seen.secs.clone());
        lines.push(format!(
            "{mode:<9}{waited:>7}   p99 {:<9} worst {:<9} {}",
            time(samples.p99()),
            time(samples.worst()),
            seen.told()
        ));
    }
    teller.say("what the visitors saw:");
    teller.show("mode      waited   answer time                   answered from the cache how");
    for line in lines {
        teller.show(&line);
    }
    Ok(())
}

fn purge(teller: &Teller, system: &System, site: &Site, mode: &str) -> Res<Seen> {
    let uris: Vec<String> = (0..PAGES).map(|page| format!("/news-{page}/")).collect();
    let address = ([127, 0, 0, 1], system.host.nginx.port).into();
    let visitor = || Visitor::connect(address, &site.domain);
    let mut first = visitor()?;
    for uri in &uris {
        first.get(uri)?;
    }
    let crowd = Crowd::come(VISITORS, &uris, visitor)?;
    let urls: Vec<String> = uris.iter().map(|uri| site.url(uri)).collect();
    let mut arguments = vec!["cache", "purge", "news/production", "--mode", mode, "--wait"];
    for url in &urls {
        arguments.extend(["--url", url]);
    }
    teller.hostler(&system.controller, &arguments)?;
    // What is made anew behind the visitors has to be made before they leave.
    std::thread::sleep(AFTER);
    crowd.go()
}
