//! A small PHP site on a host, known to the controller as an environment.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::controller::Controller;
use super::host::Host;
use crate::servers::nginx::Vhost;
use crate::servers::tls::Tls;
use crate::servers::{Answer, ServerError, write};

/// Every page says when it was made, so that a cached one shows; Redis is used when the switch
/// file says so.
const PAGE: &str = "<?php\nif (isset($_GET['vary'])) header('Vary: X-Variant');\n\
    if (isset($_GET['slow'])) usleep((int) $_GET['slow'] * 1000);\n\
    echo $_SERVER['REQUEST_URI'], ' made at ', hrtime(true), \"\\n\";\n";

/// How a site differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct SiteOptions {
    /// Lines of the `server {}` block.
    pub server_lines: String,
    /// Lines of the PHP `location {}` block.
    pub location_lines: String,
    /// Served with TLS alone.
    pub tls: bool,
}

/// A site with one environment, `production`.
#[derive(Debug)]
pub struct Site {
    pub domain: String,
    pub environment: String,
    pub docroot: PathBuf,
    pub cache_dir: PathBuf,
    /// The prefix of its Redis keys.
    pub prefix: String,
    port: u16,
    tls: Option<Tls>,
}

impl Site {
    /// Makes a site called `name` on the host, with both caches, off at first.
    ///
    /// # Errors
    /// When nginx does not serve it or the API refuses it.
    pub fn create(controller: &Controller, host: &Host, name: &str) -> Result<Self, ServerError> {
        Self::create_with(controller, host, name, &SiteOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// When nginx does not serve it or the API refuses it.
    pub fn create_with(
        controller: &Controller,
        host: &Host,
        name: &str,
        options: &SiteOptions,
    ) -> Result<Self, ServerError> {
        let root = host.dir().join("sites").join(name);
        let site = Self {
            domain: format!("{name}.test"),
            environment: String::new(),
            docroot: root.join("public"),
            cache_dir: host.nginx.dir().join("cache").join(name),
            prefix: format!("{name}:"),
            port: host.nginx.port,
            tls: options.tls.then(|| Tls::self_signed(&root, name)).transpose()?,
        };
        write(&site.docroot.join("index.php"), PAGE)?;
        std::fs::create_dir_all(host.nginx.dir().join("cache"))
            .and_then(|()| std::fs::create_dir_all(root.join("nginx")))
            .map_err(|error| ServerError::new("making the site's directories", error))?;
        host.nginx.add_vhost(&Vhost {
            domain: &site.domain,
            docroot: &site.docroot,
            php_socket: &host.php.socket,
            hostler_dir: &root.join("nginx"),
            server_lines: &options.server_lines,
            location_lines: &options.location_lines,
            tls: site.tls.as_ref(),
        })?;
        let made =
            controller.call("POST", "/api/sites", Some(&json!({ "name": name })))?.expect(201)?;
        let path = format!("/api/sites/{}/environments", made["id"].as_str().unwrap_or_default());
        let body = site.body(host, &root);
        let made = controller.call("POST", &path, Some(&body))?.expect(201)?;
        Ok(Self { environment: made["id"].as_str().unwrap_or_default().to_owned(), ..site })
    }

    fn body(&self, host: &Host, root: &Path) -> Value {
        json!({
            "name": "production",
            "host": host.name,
            "domain": self.domain,
            "kind": "php",
            "docroot": self.docroot,
            "user": "www-data",
            "nginx": {
                "http_file": root.join("nginx/http.conf"),
                "server_file": root.join("nginx/server.conf"),
                "location_file": root.join("nginx/location.conf"),
                "probe_origin": match &self.tls {
                    Some(tls) => format!("https://127.0.0.1:{}", tls.port),
                    None => format!("http://127.0.0.1:{}", self.port),
                },
            },
            "fastcgi": { "cache_dir": self.cache_dir },
            "redis": {
                "url": format!("redis://127.0.0.1:{}/0", host.redis.port),
                "password_file": host.password_file(),
                "prefix": self.prefix,
                "switch_file": root.join("redis.json"),
            },
        })
    }

    /// A URL of this site as visitors write it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.domain)
    }

    /// A visitor's request, without TLS.
    ///
    /// # Errors
    /// When nginx does not answer.
    pub fn get(&self, path: &str) -> Result<Answer, ServerError> {
        crate::servers::get(self.port, &self.domain, path, &[])
    }

    /// What nginx's cache had to say to a visitor's request (`HIT`, `MISS`).
    ///
    /// # Errors
    /// When nginx does not answer.
    pub fn cache_status(&self, path: &str) -> Result<String, ServerError> {
        let status = match &self.tls {
            Some(tls) => {
                tokio::runtime::Runtime::new()
                    .map_err(|error| ServerError::new("starting a runtime", error))?
                    .block_on(tls.get(&self.domain, path))?
                    .cache
            }
            None => self.get(path)?.header("X-Hostler-Cache").map(str::to_owned),
        };
        Ok(status.unwrap_or_else(|| "none".to_owned()))
    }

    /// Switches both caches and waits for the job's end.
    ///
    /// # Errors
    /// When the request is refused or the job does not end.
    pub fn set_caches(
        &self,
        controller: &Controller,
        fastcgi: bool,
        redis: bool,
    ) -> Result<Value, ServerError> {
        let body = json!({ "fastcgi_cache_enabled": fastcgi, "redis_cache_enabled": redis });
        let path = format!("/api/environments/{}/cache", self.environment);
        controller.run_job("PATCH", &path, Some(&body))
    }

    /// Purges and waits for the job's end; `None` purges everything.
    ///
    /// # Errors
    /// When the request is refused or the job does not end.
    pub fn purge(
        &self,
        controller: &Controller,
        body: Option<&Value>,
    ) -> Result<Value, ServerError> {
        let path = format!("/api/environments/{}/cache/purge", self.environment);
        controller.run_job("POST", &path, body)
    }
}
