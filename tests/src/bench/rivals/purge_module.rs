//! The `ngx_cache_purge` module, as Debian packages it, asked over HTTP.

use std::net::SocketAddr;
use std::path::Path;

use crate::bench::Res;
use crate::bench::clock::Watch;
use crate::bench::http::Visitor;
use crate::servers::{Process, SERVER_SECS_MAX, command, free_port, is_root, wait_for, write};

pub(super) const MODULE: &str = "/usr/lib/nginx/modules/ngx_http_cache_purge_module.so";

/// An nginx with the module over one cache directory, and without a backend: what it serves can
/// only come from the cache.
#[derive(Debug)]
pub struct PurgeModule {
    _nginx: Process,
    address: SocketAddr,
    domain: String,
}

fn configuration(dir: &Path, cache: &Path, address: SocketAddr) -> String {
    let (dir, cache) = (dir.display(), cache.display());
    format!(
        "load_module {MODULE};
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    fastcgi_cache_path {cache} levels=1:2 keys_zone=rival:32m inactive=1d use_temp_path=off;
    fastcgi_cache_key $scheme$request_method$host$request_uri;
    server {{
        listen {address};
        keepalive_requests 1000000;
        location ~ ^/purge(/.*) {{
            fastcgi_cache_purge rival \"${{scheme}}GET$host$1\";
        }}
        location / {{
            fastcgi_pass unix:{dir}/nobody.sock;
            fastcgi_cache rival;
            add_header X-Cache $upstream_cache_status;
        }}
    }}
}}
"
    )
}

/// Starts an nginx of that configuration and waits until it listens.
///
/// # Errors
/// If it does not come up: with what it said.
pub(super) fn start_nginx(dir: &Path, text: &str, address: SocketAddr) -> Res<Process> {
    let file = dir.join("nginx.conf");
    write(&file, text)?;
    let log = dir.join("nginx.out");
    let user = if is_root() { "daemon off; user www-data;" } else { "daemon off;" };
    let mut start = command("/usr/sbin/nginx");
    start.arg("-p").arg(dir).arg("-c").arg(&file).args(["-g", user]);
    let nginx = Process::start("nginx", &mut start, &log)?;
    let up =
        wait_for("a rival nginx", SERVER_SECS_MAX, || std::net::TcpStream::connect(address).ok());
    up.map_err(|e| format!("{e}: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
    Ok(nginx)
}

impl PurgeModule {
    /// Starts it.
    ///
    /// # Errors
    /// If nginx does not come up, or the module is not installed.
    pub fn start(dir: &Path, cache: &Path, domain: &str) -> Res<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let nginx = start_nginx(dir, &configuration(dir, cache, address), address)?;
        Ok(Self { _nginx: nginx, address, domain: domain.to_owned() })
    }

    /// A visitor of this server.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn visitor(&self) -> Res<Visitor> {
        Visitor::connect(self.address, &self.domain)
    }

    /// Asks for the purge of one page that is in the cache; says how many seconds that took.
    ///
    /// # Errors
    /// If the page was no hit before, or the module did not purge it.
    pub fn purge_one(&self, visitor: &mut Visitor, uri: &str) -> Res<f64> {
        let before = visitor.get(uri)?;
        if before.header("X-Cache") != Some("HIT") {
            return Err(format!("{uri} was {:?} before the purge", before.header("X-Cache")).into());
        }
        let watch = Watch::start();
        let answer = visitor.get(&format!("/purge{uri}"))?;
        let secs = watch.secs();
        if answer.status != 200 {
            return Err(format!("the module answered {} for {uri}", answer.status).into());
        }
        Ok(secs)
    }
}
