"""Redis over a plain socket: ping, and the removal of one prefix.

Keys are found by SCAN and removed by UNLINK in bounded batches, so that a neighbour on the same server
never waits for more than one of them. Every answer has a time limit; nothing is retried.
"""

import socket
from urllib.parse import urlsplit

from ansible.module_utils.hostler.outcome import Failure

CONNECT_SECS_MAX = 2
COMMAND_SECS_MAX = 3
# Keys one SCAN looks at, and keys one UNLINK removes.
SCAN_COUNT = 1000
UNLINK_KEYS_MAX = 500
PASSWORD_BYTES_MAX = 4 * 1024


class Target:
    """Where to connect and as whom: `redis://[user@]host[:port][/database]` or `unix:///path`."""

    def __init__(self, url):
        wrong = Failure("SPEC_INVALID", "the Redis URL is none, or holds a password")
        self.path = self.host = self.user = self.password = None
        self.port, self.database = 6379, 0
        if url.startswith("unix:///"):
            self.path = url[len("unix://") :]
            return
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname, parts.port or 6379
            self.database = int(parts.path.lstrip("/") or 0)
        except ValueError:
            raise wrong from None
        self.user = parts.username
        if parts.scheme != "redis" or not self.host or parts.password is not None or self.user == "":
            raise wrong


def target(redis, roots):
    """The server of an environment; its password comes from a file on this host only."""
    found = Target(redis["url"])
    if not redis["prefix"]:
        raise Failure("SPEC_INVALID", "the Redis prefix is empty")
    if found.path:
        roots.split(found.path)
    path = redis.get("password_file")
    if path:
        content = roots.read(path, PASSWORD_BYTES_MAX)
        if content is None:
            raise Failure("PATH_MISSING", f"the password file {path} does not exist")
        lines = content.data.decode("utf-8", "replace").splitlines()
        found.password = lines[0].rstrip() if lines else ""
    return found


class ServerError(Exception):
    """What the server answered instead; never quoted, for it may quote a key."""

    @property
    def word(self):
        return str(self).split(" ", 1)[0]


class Connection:
    """An open connection."""

    def __init__(self, where):
        try:
            if where.path:
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self.sock.settimeout(CONNECT_SECS_MAX)
                self.sock.connect(where.path)
            else:
                self.sock = socket.create_connection((where.host, where.port), CONNECT_SECS_MAX)
        except (socket.timeout, TimeoutError):
            raise Failure("REDIS_TIMEOUT", "Redis gave no answer to connect in time") from None
        except OSError as error:
            message = f"Redis cannot be connected to: {error.strerror}"
            raise Failure("REDIS_UNREACHABLE", message) from None
        self.sock.settimeout(COMMAND_SECS_MAX)
        self.file = self.sock.makefile("rb")
        try:
            self._log_in(where)
        except Failure:
            self.close()
            raise

    def _log_in(self, where):
        if where.password is not None:
            user = [where.user] if where.user else []
            self.call("connect", "AUTH", *user, where.password)
        if where.database:
            self.call("connect", "SELECT", where.database)

    def close(self):
        """Hangs up."""
        self.file.close()
        self.sock.close()

    def call(self, doing, *words):
        """One command and its answer; `doing` names it in failures."""
        try:
            return self.pipeline(doing, [words])[0]
        except ServerError as error:
            raise _explain(doing, error) from None

    def pipeline(self, doing, commands):
        """Several commands sent at once, and their answers."""
        try:
            self.sock.sendall(b"".join(_encode(words) for words in commands))
            answers = [self._read() for _ in commands]
        except (socket.timeout, TimeoutError):
            raise Failure("REDIS_TIMEOUT", f"Redis gave no answer to {doing} in time") from None
        except (OSError, ValueError, EOFError):
            raise Failure("REDIS_UNREACHABLE", f"the connection to Redis broke at {doing}") from None
        for answer in answers:
            if isinstance(answer, ServerError):
                raise answer
        return answers

    def _read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ServerError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return int(rest)
        length = int(rest)
        if kind == b"$":
            if length < 0:
                return None
            data = self.file.read(length + 2)
            if len(data) != length + 2:
                raise EOFError
            return data[:-2]
        if kind == b"*":
            return [self._read() for _ in range(max(length, 0))]
        raise ValueError(kind)

    def ping(self):
        """Asks for a sign of life."""
        if self.call("PING", "PING") != b"PONG":
            raise Failure("REDIS_FAILED", "Redis failed at PING")

    def remove_prefix(self, prefix, dry_run):
        """Removes every key that begins with `prefix`, taken literally; says (found, removed, bytes)."""
        literal = prefix.encode()
        pattern = escape(prefix).encode() + b"*"
        found = removed = size = 0
        may_measure, cursor = True, b"0"
        while True:
            cursor, keys = self.call("SCAN", "SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            # The pattern is escaped; this is the guarantee that does not rest on it.
            keys = [key for key in keys if key.startswith(literal)]
            for start in range(0, len(keys), UNLINK_KEYS_MAX):
                batch = keys[start : start + UNLINK_KEYS_MAX]
                if may_measure:
                    measured = self._measure(batch)
                    may_measure = measured is not None
                    size += measured or 0
                if not dry_run:
                    removed += self.call("UNLINK", "UNLINK", *batch)
            found = found + len(keys) if dry_run else removed
            if cursor == b"0":
                return found, removed, size

    def _measure(self, keys):
        """Memory of these keys; None if the user may not ask, which is no failure."""
        try:
            sizes = self.pipeline("MEMORY USAGE", [("MEMORY", "USAGE", key) for key in keys])
        except ServerError as error:
            failure = _explain("MEMORY USAGE", error)
            if failure.code == "REDIS_DENIED":
                return None
            raise failure from None
        return sum(size or 0 for size in sizes)


def _encode(words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _explain(doing, error):
    if error.word == "NOPERM":
        return Failure("REDIS_DENIED", f"Redis does not permit this user to {doing}")
    if error.word in ("WRONGPASS", "NOAUTH") or "AUTH" in str(error):
        return Failure("REDIS_AUTH_FAILED", "Redis refuses the credentials")
    if doing == "connect":
        return Failure("REDIS_UNREACHABLE", "Redis cannot be connected to")
    return Failure("REDIS_FAILED", f"Redis failed at {doing}: {error.word}")


def escape(text):
    """Makes a text match only itself in a Redis pattern."""
    return "".join("\\" + char if char in "*?[]\\^-" else char for char in text)
