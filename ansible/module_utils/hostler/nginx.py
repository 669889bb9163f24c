"""nginx as it runs on this host: test, dump, reload, and what its error log says of a reload.

Whether a test passed is judged by the exit status alone. A reload is a signal: whether it took is
proven elsewhere, by asking the new configuration.
"""

import os
import signal
import subprocess
import time

from ansible.module_utils.hostler.outcome import Failure

TEST_SECS_MAX = 60
DUMP_BYTES_MAX = 64 * 1024 * 1024
LOG_BYTES_MAX = 256 * 1024
# Longest wait for old workers to stop taking connections.
RETIRE_SECS_MAX = 5
POLL_SECS = 0.02


class Nginx:
    """The nginx of this host."""

    def __init__(self, command, pid_file, error_log):
        self.command = command
        self.pid_file = pid_file
        self.error_log = error_log

    def _run(self, flag):
        command = [*self.command, flag]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=TEST_SECS_MAX,
                env=environment,
                cwd="/",
                check=False,
            )
        except FileNotFoundError:
            raise Failure("COMMAND_MISSING", f"there is no program `{command[0]}`") from None
        except subprocess.TimeoutExpired:
            message = f"`{command[0]}` ran longer than {TEST_SECS_MAX * 1000} ms"
            raise Failure("COMMAND_FAILED", message) from None
        if len(done.stdout) > DUMP_BYTES_MAX:
            message = f"the nginx configuration has more than {DUMP_BYTES_MAX} bytes"
            raise Failure("COMMAND_FAILED", message)
        return command, done

    def test(self, code):
        """Tests the configuration on disk; `code` says what a refusal means."""
        command, done = self._run("-t")
        self._judge(code, command, done)

    def dump(self, code):
        """Tests the configuration on disk and answers it as nginx reads it."""
        command, done = self._run("-T")
        self._judge(code, command, done)
        return done.stdout.decode("utf-8", "replace")

    @staticmethod
    def _judge(code, command, done):
        if done.returncode == 0:
            return
        tail = done.stderr.decode("utf-8", "replace")
        lines = [line.strip() for line in tail.splitlines() if line.strip()]
        line = severe(tail) or (lines[-1] if lines else "nginx printed nothing")
        raise Failure(code, line, command=command, rc=done.returncode, output=tail)

    def master(self):
        """Process id of the running master."""

        def not_running(reason):
            return Failure("NGINX_RELOAD_FAILED", f"{self.pid_file} does not name a running nginx: {reason}")

        try:
            with open(self.pid_file, encoding="ascii") as file:
                pid = int(file.read())
        except OSError as error:
            raise not_running(error.strerror) from None
        except ValueError:
            raise not_running("it holds no number") from None
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read()
        except OSError:
            raise not_running("there is no such process") from None
        if not name.startswith("nginx"):
            # A file left by a dead nginx may name somebody else's process by now.
            raise not_running("that process is not nginx")
        return pid

    def runs(self):
        """Whether there is a running master."""
        try:
            self.master()
        except Failure:
            return False
        return True

    def reload(self):
        """Tells the master to load the configuration on disk."""
        pid = self.master()
        try:
            os.kill(pid, signal.SIGHUP)
        except OSError as error:
            message = f"the nginx master process {pid} could not be signalled: {error.strerror}"
            raise Failure("NGINX_RELOAD_FAILED", message) from None

    def accepting_workers(self):
        """Workers that still take new connections; empty where the system does not tell."""
        try:
            pid = self.master()
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                children = file.read().split()
        except (Failure, OSError):
            return set()
        return {int(child) for child in children if self._accepts(child)}

    @staticmethod
    def _accepts(pid):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                title = file.read()
        except OSError:
            return False
        return b"worker process" in title and b"shutting down" not in title

    def retired(self, workers, mark):
        """Waits until none of these workers takes connections; bounded, since the probes that follow
        have the last word."""
        deadline = time.monotonic() + RETIRE_SECS_MAX
        while self.accepting_workers() & workers and not self.emergency_since(mark):
            if time.monotonic() > deadline:
                return
            time.sleep(POLL_SECS)

    def log_mark(self):
        """Where the error log ends now, in bytes."""
        try:
            return os.stat(self.error_log).st_size
        except OSError:
            return 0

    def _log_since(self, mark):
        try:
            with open(self.error_log, "rb") as file:
                # A log that is shorter than it was has been rotated.
                file.seek(mark if os.fstat(file.fileno()).st_size >= mark else 0)
                return file.read(LOG_BYTES_MAX).decode("utf-8", "replace")
        except OSError:
            return ""

    def severe_since(self, mark):
        """The worst line logged after the mark."""
        return severe(self._log_since(mark))

    def emergency_since(self, mark):
        """Whether nginx logged after the mark that it cannot go on with a configuration."""
        return "[emerg]" in self._log_since(mark)


def severe(text):
    """The first line of the worst level there is."""
    for level in ("[emerg]", "[alert]", "[crit]"):
        for line in text.splitlines():
            if level in line:
                return line.strip()
    return None
