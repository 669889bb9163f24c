//! nginx as it is set up by hand for a FastCGI cache: `use_stale updating`, an open file cache, and
//! Debian's purge module.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::bench::Res;
use crate::bench::http::Visitor;
use crate::servers::{Process, free_port};

use super::purge_module::{MODULE, start_nginx};

/// A running nginx in front of PHP.
#[derive(Debug)]
pub struct Stock {
    _nginx: Process,
    address: SocketAddr,
    domain: String,
    /// Where its cache is.
    pub cache: PathBuf,
}

impl Stock {
    /// Starts it in front of that pool and page.
    ///
    /// # Errors
    /// If nginx does not come up, or the module is not installed.
    pub fn start(dir: &Path, php_socket: &Path, script: &Path, domain: &str) -> Res<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let cache = dir.join("cache");
        let text = configuration(dir, &cache, php_socket, script, address);
        let nginx = start_nginx(dir, &text, address)?;
        Ok(Self { _nginx: nginx, address, domain: domain.to_owned(), cache })
    }

    /// A visitor.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn visitor(&self) -> Res<Visitor> {
        Visitor::connect(self.address, &self.domain)
    }

    /// Asks the module for the purge of a page; its HTTP status.
    ///
    /// # Errors
    /// If nobody answers.
    pub fn purge(&self, uri: &str) -> Res<u16> {
        Ok(self.visitor()?.get(&format!("/purge{uri}"))?.status)
    }

    /// Unlinks the file of a page, as plugins do that compute its path; whether it was there.
    #[must_use]
    pub fn unlink(&self, uri: &str) -> bool {
        let key = crate::bench::cache_files::key(&self.domain, uri);
        std::fs::remove_file(crate::bench::cache_files::path(&self.cache, &key)).is_ok()
    }
}

fn configuration(
    dir: &Path,
    cache: &Path,
    php_socket: &Path,
    script: &Path,
    address: SocketAddr,
) -> String {
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
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 30s;
    open_file_cache_min_uses 1;
    fastcgi_cache_path {cache} levels=1:2 keys_zone=rival:32m inactive=1d use_temp_path=off;
    fastcgi_cache_key $scheme$request_method$host$request_uri;
    server {{
        listen {address};
        keepalive_requests 1000000;
        location ~ ^/purge(/.*) {{
            fastcgi_cache_purge rival \"${{scheme}}GET$host$1$is_args$args\";
        }}
        location / {{
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME {script};
            fastcgi_pass unix:{php};
            fastcgi_cache rival;
            fastcgi_cache_valid 200 301 302 1h;
            fastcgi_cache_use_stale error timeout updating invalid_header http_500 http_503;
            fastcgi_cache_background_update on;
            fastcgi_cache_lock on;
            add_header X-Hostler-Cache $upstream_cache_status always;
        }}
    }}
}}
",
        dir = dir.display(),
        cache = cache.display(),
        script = script.display(),
        php = php_socket.display(),
    )
}
