//! `git http-backend` behind nginx and fcgiwrap.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::nginx::Nginx;
use super::super::tls::Tls;
use super::super::{
    Process, SERVER_SECS_MAX, ServerError, command, directory, find, wait_for, write,
};
use super::work::{git, output};

/// A web server that speaks git.
#[derive(Debug)]
pub struct Https {
    pub(super) ca: PathBuf,
    pub(super) user: Option<(String, String)>,
    tls: Tls,
    // nginx stops before the program it passes requests to.
    nginx: Nginx,
    _wrap: Process,
    dir: tempfile::TempDir,
}

/// One request in the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Method and path with query.
    pub what: String,
    pub status: u16,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Https {
    pub(super) fn start(root: &Path, user: Option<(&str, &str)>) -> Result<Self, ServerError> {
        let dir = directory("git-web")?;
        let (tls, ca) = Tls::signed(dir.path(), &["localhost", "127.0.0.1"])?;
        let log = dir.path().join("git.log");
        let format = "log_format git '$request_method $request_uri $status $bytes_sent $request_length';\n\
             client_max_body_size 0;\nlarge_client_header_buffers 4 32k;\n";
        let nginx = Nginx::start(format)?;
        let socket = dir.path().join("fcgi.sock");
        let wrap = wrap(dir.path(), &socket)?;
        let server = server(root, dir.path(), &tls, &socket, &log, user)?;
        nginx.write_conf("git.conf", &server)?;
        nginx.reload_and_wait()?;
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let web = Self { ca, user, tls, nginx, _wrap: wrap, dir };
        web.wait_up()?;
        Ok(web)
    }

    fn wait_up(&self) -> Result<(), ServerError> {
        wait_for("nginx to listen with TLS", SERVER_SECS_MAX, || {
            std::net::TcpStream::connect(("127.0.0.1", self.tls.port)).ok()
        })
        .map(drop)
        .map_err(|error| ServerError(format!("{error}\n{}", self.nginx.error_log())))
    }

    /// Its TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.tls.port
    }

    /// The certificate it is trusted by.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// Closes the connections that nobody uses just now, as servers do after a while.
    ///
    /// # Errors
    /// When nginx keeps them.
    pub fn close_idle(&self) -> Result<(), ServerError> {
        self.nginx.reload_and_wait()
    }

    /// Every request that has been answered so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let text = std::fs::read_to_string(self.dir.path().join("git.log")).unwrap_or_default();
        text.lines().filter_map(asked).collect()
    }

    /// The same once there are so many: nginx logs a request a moment after its answer is there.
    ///
    /// # Errors
    /// When they stay fewer.
    pub fn asked_once_there_are(&self, count: usize) -> Result<Vec<Asked>, ServerError> {
        wait_for(&format!("{count} requests in the log"), SERVER_SECS_MAX, || {
            Some(self.asked()).filter(|asked| asked.len() >= count)
        })
    }

    /// What nginx, git and everything between them have complained about.
    #[must_use]
    pub fn error_log(&self) -> String {
        self.nginx.error_log()
    }
}

fn asked(line: &str) -> Option<Asked> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, uri, status, sent, received] = words.as_slice() else { return None };
    Some(Asked {
        what: format!("{method} {uri}"),
        status: status.parse().ok()?,
        bytes_sent: sent.parse().ok()?,
        bytes_received: received.parse().ok()?,
    })
}

fn wrap(dir: &Path, socket: &Path) -> Result<Process, ServerError> {
    let program = find("/usr/sbin", "fcgiwrap")
        .ok_or_else(|| ServerError("fcgiwrap is missing: run tests/setup/debian.sh".to_owned()))?;
    let mut start = command(program);
    start.arg("-f").arg("-s").arg(format!("unix:{}", socket.display()));
    let process = Process::start("fcgiwrap", &mut start, &dir.join("fcgiwrap.log"))?;
    wait_for("fcgiwrap's socket", SERVER_SECS_MAX, || socket.exists().then_some(()))?;
    // nginx's workers are another user's.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o777))
        .map_err(|error| ServerError::new("opening fcgiwrap's socket", error))?;
    Ok(process)
}

/// The server block. Repositories below `/v1/` are served without protocol version 2, those below
/// `/moved/` have moved here, and those below `/away/` to another origin.
fn server(
    root: &Path,
    dir: &Path,
    tls: &Tls,
    socket: &Path,
    log: &Path,
    user: Option<(&str, &str)>,
) -> Result<String, ServerError> {
    let programs = output(git(dir).arg("--exec-path"))?;
    let backend = format!("{}/git-http-backend", String::from_utf8_lossy(&programs).trim());
    let lock = match user {
        None => String::new(),
        Some((name, password)) => {
            let file = dir.join("users");
            write(&file, &format!("{name}:{{PLAIN}}{password}\n"))?;
            format!("    auth_basic git;\n    auth_basic_user_file {};\n", file.display())
        }
    };
    let parameters = [
        ("SCRIPT_FILENAME", backend.as_str()),
        ("GIT_PROJECT_ROOT", &root.to_string_lossy()),
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("HOME", "/nonexistent"),
        ("PATH_INFO", "/$1"),
    ]
    .map(|(name, value)| format!("        fastcgi_param {name} {value};\n"))
    .concat();
    let pass = format!(
        "        include /etc/nginx/fastcgi_params;\n{parameters}\
         \x20       fastcgi_buffering off;\n        fastcgi_pass unix:{};\n",
        socket.display()
    );
    Ok(format!(
        "server {{\n    {}\n    server_name localhost;\n    access_log {} git;\n{lock}\
         \x20   location ~ ^/moved/(.*)$ {{ return 301 https://$http_host/$1$is_args$args; }}\n\
         \x20   location ~ ^/away/(.*)$ {{ return 301 https://127.0.0.1:$server_port/$1$is_args$args; }}\n\
         \x20   location ~ ^/v1/(.*)$ {{\n{pass}        fastcgi_param HTTP_GIT_PROTOCOL '';\n    }}\n\
         \x20   location ~ ^/(.*)$ {{\n{pass}        fastcgi_param GIT_PROTOCOL $http_git_protocol;\n    }}\n}}\n",
        tls.lines(),
        log.display(),
    ))
}
