//! nginx with a configuration of its own: vhosts are added and reloaded like an operator would.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::tls::Tls;
use super::{
    Answer, Process, SERVER_SECS_MAX, ServerError, children, command, directory, find, free_port,
    get, is_root, wait_for, write,
};

/// A running nginx. Files: `nginx.conf`, `conf.d/*.conf` (included in `http {}`), `nginx.pid`,
/// `error.log`, `access.log`.
#[derive(Debug)]
pub struct Nginx {
    pub port: u16,
    process: Process,
    nonce: String,
    dir: tempfile::TempDir,
}

/// A PHP vhost that includes Hostler's three files, as the README tells operators to write it.
#[derive(Debug, Clone)]
pub struct Vhost<'a> {
    pub domain: &'a str,
    pub docroot: &'a Path,
    pub php_socket: &'a Path,
    /// Directory that holds (or will hold) `http.conf`, `server.conf` and `location.conf`.
    pub hostler_dir: &'a Path,
    /// Further lines of the `server {}` block.
    pub server_lines: &'a str,
    /// Further lines of the PHP `location {}` block.
    pub location_lines: &'a str,
    /// Serve it with TLS alone, there: what comes to the usual port is redirected.
    pub tls: Option<&'a Tls>,
}

impl Nginx {
    /// Starts nginx without any site; `http_lines` go into its `http {}` block.
    ///
    /// # Errors
    /// When nginx is not installed or does not come up.
    pub fn start(http_lines: &str) -> Result<Self, ServerError> {
        let dir = directory("nginx")?;
        let port = free_port()?;
        let nonce = format!("nginx-{}-{port}", std::process::id());
        let root = dir.path();
        let user = if is_root() { "user www-data;\n" } else { "" };
        let temp: String = ["client_body", "fastcgi", "proxy", "scgi", "uwsgi"]
            .iter()
            .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", root.display()))
            .collect();
        let text = format!(
            "{user}worker_processes 2;\npid {root}/nginx.pid;\nerror_log {root}/error.log notice;\n\
             events {{ worker_connections 512; }}\nhttp {{\n{temp}\
             \x20   access_log {root}/access.log;\n    default_type text/html;\n\
             \x20   server_names_hash_bucket_size 128;\n{http_lines}\n\
             \x20   server {{\n        listen 127.0.0.1:{port} default_server;\n        server_name _;\n\
             \x20       location = /.nonce {{ return 200 '{nonce}'; }}\n        location / {{ return 404; }}\n    }}\n\
             \x20   include {root}/conf.d/*.conf;\n}}\n",
            root = root.display(),
        );
        write(&root.join("nginx.conf"), &text)?;
        write(&root.join("conf.d/empty.conf"), "")?;
        let process = spawn(root)?;
        let nginx = Self { port, process, nonce, dir };
        nginx.wait_up()?;
        Ok(nginx)
    }

    fn wait_up(&self) -> Result<(), ServerError> {
        wait_for("nginx to answer", SERVER_SECS_MAX, || {
            let answer = get(self.port, "127.0.0.1", "/.nonce", &[]).ok()?;
            (answer.body == self.nonce).then_some(())
        })
        .map_err(|error| ServerError(format!("{error}\n{}", self.error_log())))
    }

    /// Stops it as an operator would.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again after [`Nginx::stop`], with the configuration as it is now.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn run(&mut self) -> Result<(), ServerError> {
        self.process = spawn(self.dir.path())?;
        self.wait_up()
    }

    /// The directory of this nginx.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How an agent on this "host" runs nginx.
    ///
    /// # Errors
    /// When nginx is not installed.
    pub fn command_line(&self) -> Result<Vec<String>, ServerError> {
        let root = self.dir.path().to_string_lossy().into_owned();
        Ok(vec![
            binary()?.to_string_lossy().into_owned(),
            "-p".to_owned(),
            root,
            "-c".to_owned(),
            "nginx.conf".to_owned(),
            "-e".to_owned(),
            self.dir.path().join("error.log").to_string_lossy().into_owned(),
        ])
    }

    /// Where its master's process id stands.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.dir.path().join("nginx.pid")
    }

    /// What it has logged at `notice` and above.
    #[must_use]
    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("error.log")).unwrap_or_default()
    }

    /// Writes a vhost file, without reloading.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_conf(&self, name: &str, text: &str) -> Result<(), ServerError> {
        write(&self.dir.path().join("conf.d").join(name), text)
    }

    /// Adds a PHP vhost and reloads. Hostler's files are included by glob, so that the vhost is
    /// right before they exist.
    ///
    /// # Errors
    /// When the vhost does not come to life.
    pub fn add_vhost(&self, vhost: &Vhost<'_>) -> Result<(), ServerError> {
        self.write_vhost(vhost)?;
        self.reload_and_wait()?;
        let domain = vhost.domain;
        wait_for(&format!("vhost {domain}"), SERVER_SECS_MAX, || {
            let answer = get(self.port, domain, "/.vhost", &[]).ok()?;
            (answer.body == *domain).then_some(())
        })
        .map_err(|error| ServerError(format!("{error}\n{}", self.error_log())))
    }

    /// Writes a PHP vhost's file, for the next reload.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_vhost(&self, vhost: &Vhost<'_>) -> Result<(), ServerError> {
        let Vhost { domain, docroot, php_socket, hostler_dir, server_lines, location_lines, tls } =
            vhost;
        let plain = format!("listen 127.0.0.1:{};", self.port);
        let (listen, redirect) = match tls {
            None => (plain, String::new()),
            Some(tls) => (
                tls.lines(),
                format!(
                    "server {{\n    {plain}\n    server_name {domain};\n\
                     \x20   location = /.vhost {{ return 200 '{domain}'; }}\n\
                     \x20   location / {{ return 301 https://$host$request_uri; }}\n}}\n"
                ),
            ),
        };
        let text = format!(
            "{redirect}include {hostler}/http*.conf;\nserver {{\n    {listen}\n    server_name {domain};\n\
             \x20   root {docroot};\n    index index.php;\n    include {hostler}/server*.conf;\n{server_lines}\n\
             \x20   location / {{ try_files $uri $uri/ /index.php?$args; }}\n\
             \x20   location ~ \\.php$ {{\n        include {hostler}/location*.conf;\n{location_lines}\n\
             \x20       include /etc/nginx/fastcgi_params;\n\
             \x20       fastcgi_param SCRIPT_FILENAME $realpath_root$fastcgi_script_name;\n\
             \x20       fastcgi_pass unix:{php};\n    }}\n    location = /.vhost {{ return 200 '{domain}'; }}\n}}\n",
            hostler = hostler_dir.display(),
            docroot = docroot.display(),
            php = php_socket.display(),
        );
        self.write_conf(&format!("{domain}.conf"), &text)
    }

    /// Tells the master to read its configuration again.
    pub fn reload(&self) {
        self.process.signal(Signal::HUP);
    }

    /// The same, and waits until no worker of before takes connections any more: until then a
    /// request may still be answered by the configuration of before.
    ///
    /// # Errors
    /// When the old workers stay.
    pub fn reload_and_wait(&self) -> Result<(), ServerError> {
        let before = children(self.process.pid());
        self.reload();
        wait_for("nginx's old workers to stop accepting", SERVER_SECS_MAX, || {
            before.iter().all(|pid| is_gone_or_leaving(*pid)).then_some(())
        })
    }

    /// A visitor's request.
    ///
    /// # Errors
    /// When nginx does not answer.
    pub fn get(&self, host: &str, path: &str) -> Result<Answer, ServerError> {
        get(self.port, host, path, &[])
    }
}

fn spawn(root: &Path) -> Result<Process, ServerError> {
    let mut start = command(binary()?);
    start.args(["-p", &root.to_string_lossy(), "-c", "nginx.conf", "-g", "daemon off;"]);
    start.arg("-e").arg(root.join("error.log"));
    Process::start("nginx", &mut start, &root.join("stderr.log"))
}

/// Whether a worker has ended, or has been told to: it then closes its listening sockets at once
/// and only finishes the requests it has.
fn is_gone_or_leaving(pid: u32) -> bool {
    match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(title) => title.is_empty() || String::from_utf8_lossy(&title).contains("shutting down"),
        Err(_) => true,
    }
}

fn binary() -> Result<PathBuf, ServerError> {
    find("/usr/sbin", "nginx")
        .ok_or_else(|| ServerError("nginx is missing: run tests/setup/debian.sh".to_owned()))
}
