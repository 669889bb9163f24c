//! Clients of the API: each request has an `Idempotency-Key` of its own and is sent until it is
//! accepted, through whatever happens.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::host::{Host, SITES};
use super::seed::Seeded;
use crate::bench::clock::Watch;
use crate::servers::ServerError;
use crate::system::request;

/// Clients at work.
const CLIENTS: usize = 24;
/// Milliseconds between two tries of one request.
const AGAIN_MS: u64 = 200;
/// Seconds one request may go on being refused for reasons that pass.
const PATIENCE_SECS: u64 = 120;
/// Of a thousand requests: switches, checks; the rest are purges.
const SWITCHES: u64 = 30;
const CHECKS: u64 = 20;
/// Of a hundred accepted requests so many are sent once more, as by a client that lost the answer.
const SENT_AGAIN: u64 = 3;
/// Tries to have nginx store a page.
const PLANTINGS: usize = 20;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Purge,
    Switch { on: bool },
    Check,
}

/// A request of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub number: usize,
    pub host: usize,
    pub site: usize,
    pub asked: Asked,
    /// From the start.
    pub at_ms: u64,
}

/// A request that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub wanted: Wanted,
    pub job: String,
    /// The entry it is to remove, and the inode that entry had.
    pub entry: Option<(PathBuf, u64)>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub accepted: Vec<Accepted>,
    /// Answers no fault excuses.
    pub wrong: Vec<String>,
    /// Requests that had to be sent more than once.
    pub sent_again: usize,
}

/// The requests of a run: `jobs` of them, spread over `secs` seconds.
#[must_use]
pub fn requests(seeded: &mut Seeded, jobs: usize, secs: u64, hosts: usize) -> Vec<Wanted> {
    let mut on = vec![true; hosts];
    let one = |number: usize| {
        let host = seeded.place(hosts);
        let drawn = seeded.range(0, 1000);
        let (site, asked) = if drawn < SWITCHES {
            on[host] = !on[host];
            (0, Asked::Switch { on: on[host] })
        } else if drawn < SWITCHES + CHECKS {
            (seeded.place(SITES), Asked::Check)
        } else {
            (1 + seeded.place(SITES - 1), Asked::Purge)
        };
        let at_ms = secs * 1000 * (number as u64) / (jobs.max(1) as u64);
        Wanted { number, host, site, asked, at_ms }
    };
    (0..jobs).map(one).collect()
}

/// The clients' common ground.
#[derive(Debug)]
pub struct Clients<'a> {
    pub ports: Vec<u16>,
    pub hosts: &'a [Target],
    pub phase: &'a str,
    pub stop: &'a AtomicBool,
    pub watch: Watch,
}

/// What a client needs of a host, apart from what the faults need of it.
#[derive(Debug)]
pub struct Target {
    pub net: std::sync::Arc<super::net::Net>,
    pub port: u16,
    pub sites: Vec<super::host::Site>,
}

impl Target {
    /// A host as clients see it.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        Self { net: host.net.clone(), port: host.nginx.port, sites: host.sites.clone() }
    }
}

impl Clients<'_> {
    /// Sends all requests at their times; ends when they are accepted or, once `stop` is set, when
    /// those already begun are.
    #[must_use]
    pub fn send(&self, wanted: &[Wanted], seeded: &mut Seeded) -> Seen {
        let next = AtomicUsize::new(0);
        let seen = Mutex::new(Seen::default());
        let streams: Vec<Seeded> = (0..CLIENTS).map(|_| seeded.fork()).collect();
        std::thread::scope(|scope| {
            for mut seeded in streams {
                let (next, seen) = (&next, &seen);
                scope.spawn(move || {
                    while let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if !self.wait_until(wanted.at_ms) {
                            return;
                        }
                        self.one(*wanted, &mut seeded, seen);
                    }
                });
            }
        });
        seen.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// False once the run is over.
    fn wait_until(&self, at_ms: u64) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let now_ms = u64::try_from(self.watch.elapsed().as_millis()).unwrap_or(u64::MAX);
            if now_ms >= at_ms {
                return true;
            }
            std::thread::sleep(Duration::from_millis((at_ms - now_ms).min(50)));
        }
    }

    fn one(&self, wanted: Wanted, seeded: &mut Seeded, seen: &Mutex<Seen>) {
        let mut told = Seen::default();
        let done = self.planted(&wanted).and_then(|entry| {
            let (job, tries) = self.accepted(&wanted, seeded)?;
            told.sent_again += usize::from(tries > 1);
            if seeded.percent(SENT_AGAIN) {
                let (same, _) = self.accepted(&wanted, seeded)?;
                if same != job {
                    told.wrong.push(format!("one key made two jobs: {job} and {same}"));
                }
            }
            Ok(Accepted { wanted, job, entry })
        });
        match done {
            Ok(accepted) => told.accepted.push(accepted),
            Err(error) => told.wrong.push(format!("request {}: {error}", wanted.number)),
        }
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.accepted.append(&mut told.accepted);
        seen.wrong.append(&mut told.wrong);
        seen.sent_again += told.sent_again;
    }

    /// Has nginx store the page that the request is to purge.
    fn planted(&self, wanted: &Wanted) -> Result<Option<(PathBuf, u64)>, ServerError> {
        use std::os::unix::fs::MetadataExt as _;
        if wanted.asked != Asked::Purge {
            return Ok(None);
        }
        let (target, path) = (&self.hosts[wanted.host], page(wanted.number));
        let site = &target.sites[wanted.site];
        let entry = site.entry(&path);
        let mut last = String::new();
        for _ in 0..PLANTINGS {
            let get = || crate::servers::get(target.port, &site.domain, &path, &[]);
            let answer = target.net.within(get)?;
            if let Ok(stored) = std::fs::metadata(&entry) {
                return Ok(Some((entry, stored.ino())));
            }
            last = format!("{answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(ServerError(format!("nginx does not store {}{path}: {last}", site.domain)))
    }

    /// Sends a request until it is accepted; the job, and how often it was sent.
    fn accepted(
        &self,
        wanted: &Wanted,
        seeded: &mut Seeded,
    ) -> Result<(String, usize), ServerError> {
        let site = &self.hosts[wanted.host].sites[wanted.site];
        let environment = format!("/api/environments/{}", site.environment);
        let (method, path, body) = match wanted.asked {
            Asked::Purge => {
                let url = format!("http://{}{}", site.domain, page(wanted.number));
                ("POST", format!("{environment}/cache/purge"), Some(json!({ "urls": [url] })))
            }
            Asked::Switch { on } => {
                let body = json!({ "fastcgi_cache_enabled": on });
                ("PATCH", format!("{environment}/cache"), Some(body))
            }
            Asked::Check => ("POST", format!("{environment}/check"), None::<Value>),
        };
        let key = format!("{}-{}", self.phase, wanted.number);
        let (watch, mut tries, mut last) = (Watch::start(), 0, String::new());
        while watch.elapsed() < Duration::from_secs(PATIENCE_SECS) {
            tries += 1;
            let port = self.ports[seeded.place(self.ports.len())];
            let headers = [("Idempotency-Key", key.as_str())];
            match request(port, method, &path, &headers, body.as_ref()) {
                Ok(reply) if reply.status == 202 => {
                    let job = reply.json()["job_id"].as_str().unwrap_or_default().to_owned();
                    return Ok((job, tries));
                }
                // What passes by itself: the database is away.
                Ok(reply) if reply.status == 503 => last = reply.text,
                Ok(reply) => {
                    return Err(ServerError(format!("{}: {}", reply.status, reply.text)));
                }
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(AGAIN_MS));
        }
        Err(ServerError(format!("not accepted within {PATIENCE_SECS} s: {last}")))
    }
}

/// The page of a purge, its own.
fn page(number: usize) -> String {
    format!("/page-{number}/")
}
