//! A host of the chaos: a network of its own, nginx, an agent, and three sites.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::disk::Disk;
use super::net::Net;
use super::service::Service;
use crate::bench::cache_files;
use crate::servers::nginx::{Nginx, Vhost};
use crate::servers::{Answer, Process, ServerError, command, write};
use crate::system::program;

/// Sites of a host: one is switched on and off, in the others pages are purged.
pub const SITES: usize = 3;
/// MiB of a small state directory: the journal holds back 8 and wants 8 more to be free.
const SMALL_DISK_MIB: u64 = 48;

/// Pages of the first site take a while: its jobs are long enough to be cut off in the middle.
const SLOW_PAGE: &str = "<?php\nusleep(500000);\necho 'made at ', hrtime(true), \"\\n\";\n";
const PAGE: &str = "<?php\necho $_SERVER['REQUEST_URI'], ' made at ', hrtime(true), \"\\n\";\n";

/// A site with its one environment.
#[derive(Debug, Clone)]
pub struct Site {
    pub name: String,
    pub domain: String,
    /// The environment's id, once the controller knows it.
    pub environment: String,
    pub cache_dir: PathBuf,
    root: PathBuf,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub net: Arc<Net>,
    pub nginx: Nginx,
    pub agent: Service,
    pub sites: Vec<Site>,
    /// Where its agent's state is, if that is a small file system of its own.
    pub disk: Option<Disk>,
    dir: PathBuf,
}

/// What a host is made with.
#[derive(Debug, Clone)]
pub struct Making<'a> {
    pub number: usize,
    pub dir: &'a Path,
    pub logs: &'a Path,
    pub php_socket: &'a Path,
    /// Where its agent finds controllers, `host:port`.
    pub controllers: Vec<String>,
    pub small_disk: bool,
}

impl Host {
    /// Starts its nginx and writes what its agent needs; the agent does not run yet.
    ///
    /// # Errors
    /// When a part does not come up.
    pub fn make(net: Net, making: &Making<'_>) -> Result<Self, ServerError> {
        let name = format!("host-{:02}", making.number);
        let (net, dir) = (Arc::new(net), making.dir.join(&name));
        let nginx = net.within(|| Nginx::start(""))??;
        let sites = (0..SITES).map(|number| site(&name, number, &dir, &nginx)).collect::<Vec<_>>();
        std::fs::create_dir_all(nginx.dir().join("cache"))
            .map_err(|error| ServerError::new("making the caches' directory", error))?;
        for (number, site) in sites.iter().enumerate() {
            let page = if number == 0 { SLOW_PAGE } else { PAGE };
            write(&site.root.join("public/index.php"), page)?;
            std::fs::create_dir_all(site.root.join("nginx"))
                .map_err(|error| ServerError::new("making a site's directory", error))?;
            nginx.write_vhost(&Vhost {
                domain: &site.domain,
                docroot: &site.root.join("public"),
                php_socket: making.php_socket,
                hostler_dir: &site.root.join("nginx"),
                server_lines: "",
                location_lines: "",
                tls: None,
            })?;
        }
        nginx.reload_and_wait()?;
        let state = dir.join("agent");
        let disk = match making.small_disk {
            true => Some(Disk::make(&dir.join("agent.img"), &state, SMALL_DISK_MIB)?),
            false => None,
        };
        write(&dir.join("policy.toml"), &policy(&dir, &nginx)?)?;
        write(&dir.join("agent.toml"), &format!("controllers = {:?}\n", making.controllers))?;
        let log = making.logs.join(format!("{name}.log"));
        let agent = agent(&name, &net, &dir, log)?;
        Ok(Self { name, net, nginx, agent, sites, disk, dir })
    }

    /// Gives the host its identity.
    ///
    /// # Errors
    /// What `hostler-agent enroll` printed.
    pub fn enrol(&self, join: &str) -> Result<(), ServerError> {
        let token = self.dir.join("token");
        write(&token, join)?;
        let mut enroll = command(program("hostler-agent")?);
        enroll.args(["enroll", "--token-file"]).arg(&token);
        enroll.arg("--state-dir").arg(self.dir.join("agent"));
        let out = self.net.within(|| enroll.output())?;
        let out = out.map_err(|error| ServerError::new("running hostler-agent enroll", error))?;
        match out.status.success() {
            true => Ok(()),
            false => Err(ServerError::new("enrolment", String::from_utf8_lossy(&out.stderr))),
        }
    }

    /// What the API is told of a site's environment.
    #[must_use]
    pub fn body(&self, site: &Site) -> Value {
        json!({
            "name": "production",
            "host": self.name,
            "domain": site.domain,
            "kind": "php",
            "docroot": site.root.join("public"),
            "user": "www-data",
            "nginx": {
                "http_file": site.root.join("nginx/http.conf"),
                "server_file": site.root.join("nginx/server.conf"),
                "location_file": site.root.join("nginx/location.conf"),
                "probe_origin": format!("http://127.0.0.1:{}", self.nginx.port),
            },
            "fastcgi": { "cache_dir": site.cache_dir },
        })
    }

    /// A visitor's request, on the host itself.
    ///
    /// # Errors
    /// When nginx does not answer.
    pub fn get(&self, site: &Site, path: &str) -> Result<Answer, ServerError> {
        self.net.within(|| self.nginx.get(&site.domain, path))?
    }
}

impl Site {
    /// Where the entry of a page lies.
    #[must_use]
    pub fn entry(&self, path: &str) -> PathBuf {
        cache_files::path(&self.cache_dir, &cache_files::key(&self.domain, path))
    }
}

fn site(host: &str, number: usize, dir: &Path, nginx: &Nginx) -> Site {
    let name = format!("{host}-{number}");
    Site {
        domain: format!("{name}.test"),
        environment: String::new(),
        cache_dir: nginx.dir().join("cache").join(&name),
        root: dir.join("sites").join(&name),
        name,
    }
}

fn policy(dir: &Path, nginx: &Nginx) -> Result<String, ServerError> {
    Ok(format!(
        "roots = [{:?}, {:?}]\nnginx_command = {:?}\nnginx_pid_file = {:?}\nnginx_error_log = {:?}\n",
        dir.join("sites"),
        nginx.dir(),
        nginx.command_line()?,
        nginx.pid_file(),
        nginx.dir().join("error.log"),
    ))
}

fn agent(name: &str, net: &Arc<Net>, dir: &Path, log: PathBuf) -> Result<Service, ServerError> {
    let program = program("hostler-agent")?;
    let (net, dir, name, into) = (net.clone(), dir.to_owned(), name.to_owned(), log.clone());
    let start = {
        let name = name.clone();
        move || {
            let mut start = command(&program);
            start.args(["run", "--log-format", "json", "--state-dir"]).arg(dir.join("agent"));
            start.arg("--policy").arg(dir.join("policy.toml"));
            start.arg("--config").arg(dir.join("agent.toml"));
            net.within(|| Process::start(&name, &mut start, &into))?
        }
    };
    Ok(Service::new(name, log, Box::new(start)))
}
