//! Images without a registry: a static busybox and what a test puts beside it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::DockerServer;
use crate::servers::{ServerError, command, directory, write};

/// Serves `/www` on port 8080 and is healthy as long as `/` is there. Also as
/// [`WEB_NEXT`], which differs in nothing but the variable `RELEASE`.
pub const WEB: &str = "hostler-test/web:1";
pub const WEB_NEXT: &str = "hostler-test/web:2";
/// Does nothing, for ever; without a health check.
pub const SLEEPER: &str = "hostler-test/sleeper:1";

/// Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";
/// What a shell script or a health check in a test needs.
const APPLETS: &[&str] = &[
    "sh", "cat", "echo", "env", "false", "httpd", "kill", "ls", "mkdir", "rm", "sleep", "test",
    "touch", "true", "wget",
];
/// Often, so that nobody waits for it; with time to spare on a busy machine.
const HEALTH: &str = "HEALTHCHECK --interval=500ms --timeout=10s --retries=3 \
    CMD wget -q -O /dev/null http://127.0.0.1:8080/";

impl DockerServer {
    /// Makes an image of busybox and the files given (path inside, content) in one layer. `changes`
    /// are lines of a Dockerfile that run nothing: `CMD`, `ENV`, `EXPOSE`, `HEALTHCHECK`, `LABEL`,
    /// `USER`, `VOLUME`, `WORKDIR`.
    ///
    /// # Errors
    /// When the engine refuses, or busybox is not installed.
    pub fn build_image(
        &self,
        name: &str,
        files: &[(&str, &str)],
        changes: &[&str],
    ) -> Result<(), ServerError> {
        let work = directory("image")?;
        let (root, tar) = (work.path().join("root"), work.path().join("image.tar"));
        stage(&root, files)?;
        let packed = command("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").status();
        if !packed.is_ok_and(|status| status.success()) {
            return Err(ServerError(format!("packing {name} failed")));
        }
        let tar = tar.to_string_lossy();
        let mut import = vec!["import"];
        for change in changes {
            import.extend(["--change", change]);
        }
        import.extend([tar.as_ref(), name]);
        self.docker(&import)?;
        Ok(())
    }

    /// Puts a root of busybox where a test's Dockerfile can `COPY` it from.
    ///
    /// # Errors
    /// When it cannot be written, or busybox is not installed.
    pub fn stage_root(&self, root: &Path) -> Result<(), ServerError> {
        stage(root, &[])
    }

    /// Makes one of the images every engine may have.
    pub(super) fn build_known(&self, name: &str) -> Result<(), ServerError> {
        let release = match name {
            WEB => "ENV RELEASE=1",
            WEB_NEXT => "ENV RELEASE=2",
            SLEEPER => {
                let sleep = "CMD [\"sleep\", \"1000000\"]";
                return self.build_image(name, &[], &["ENV PATH=/bin", sleep]);
            }
            other => return Err(ServerError(format!("no image is called {other}"))),
        };
        let serve = "CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]";
        let changes = ["ENV PATH=/bin", release, "EXPOSE 8080", HEALTH, serve];
        self.build_image(name, &[("www/index.html", "web\n")], &changes)
    }
}

fn stage(root: &Path, files: &[(&str, &str)]) -> Result<(), ServerError> {
    let failed = |error| ServerError::new(&format!("staging {}", root.display()), error);
    let bin = root.join("bin");
    for dir in [&bin, &root.join("tmp"), &root.join("www")] {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    std::fs::copy(BUSYBOX, bin.join("busybox")).map_err(failed)?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).map_err(failed)?;
    }
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777))
        .map_err(failed)?;
    files.iter().try_for_each(|(path, content)| write(&root.join(path), content))
}
