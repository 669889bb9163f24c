"""Files below the permitted roots: opened without following any symbolic link, replaced atomically.

A root itself is trusted; what lies below it may belong to the site's user, who may swap a directory
for a link at any moment. So a path is opened component by component with O_NOFOLLOW, and what
follows works on the opened directory. Without roots the whole path is opened that way.
"""

import errno
import os
import stat

from ansible.module_utils.hostler.outcome import Failure

# Missing directories `make_dir` makes at most for one path: a whole tree is a mistyped path.
NEW_LEVELS_MAX = 2
# Files about to be renamed begin with this; the agent clears away what a kill leaves by it.
STAGED_PREFIX = ".hostler-staged-"
# Links followed at most for one path.
LINKS_MAX = 8
# Largest file that is read or replaced.
FILE_BYTES_MAX = 4 * 1024 * 1024

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def explain(error, path, action):
    """The failure of an OSError at a path."""
    if error.errno == errno.ELOOP:
        return Failure("PATH_IS_SYMLINK", f"{path} is, or leads through, a symbolic link")
    if error.errno == errno.ENOENT:
        return Failure("PATH_MISSING", f"{path} does not exist")
    if error.errno == errno.ENOTDIR:
        return Failure("FILE_FAILED", f"{path} is not a directory")
    return Failure("FILE_FAILED", f"cannot {action} {path}: {os.strerror(error.errno)}")


class Content:
    """A file as it was read."""

    def __init__(self, data, mode, owner):
        self.data = data
        self.mode = mode
        self.owner = owner


class Dir:
    """An opened directory; closed with its `with` block."""

    def __init__(self, fd, path):
        self.fd = fd
        self.path = path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def child(self, name):
        """Opens a directory in it; a link is an error."""
        path = os.path.join(self.path, name)
        try:
            return Dir(os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=self.fd), path)
        except OSError as error:
            if error.errno == errno.ENOTDIR and self._is_link(name):
                error = OSError(errno.ELOOP, "")
            raise explain(error, path, "open") from None

    def _is_link(self, name):
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode)
        except OSError:
            return False

    def make_child(self, name, mode=0o700):
        """Makes a directory in it unless it is there; opens it."""
        try:
            os.mkdir(name, mode, dir_fd=self.fd)
        except FileExistsError:
            pass
        except OSError as error:
            raise explain(error, os.path.join(self.path, name), "create") from None
        return self.child(name)

    def names(self):
        """Names of what is in it, in no order."""
        return os.listdir(self.fd)

    def read(self, name, bytes_max=FILE_BYTES_MAX):
        """The content of a file in it; None when there is none."""
        path = os.path.join(self.path, name)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain(error, path, "open") from None
        with os.fdopen(fd, "rb") as file:
            look = os.fstat(file.fileno())
            if not stat.S_ISREG(look.st_mode):
                raise Failure("FILE_FAILED", f"{path} is not a regular file")
            data = file.read(bytes_max + 1)
        if len(data) > bytes_max:
            raise Failure("FILE_FAILED", f"{path} has more than {bytes_max} bytes")
        return Content(data, stat.S_IMODE(look.st_mode), (look.st_uid, look.st_gid))

    def write(self, name, data, mode, owner=None):
        """Replaces a file in one step: whoever opens it sees the old bytes or the new ones."""
        staged = STAGED_PREFIX + name
        try:
            try:
                os.unlink(staged, dir_fd=self.fd)
            except FileNotFoundError:
                pass
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            fd = os.open(staged, flags, 0o600, dir_fd=self.fd)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                if owner is not None:
                    os.fchown(fd, *owner)
                os.fchmod(fd, mode)
                os.fsync(fd)
            os.rename(staged, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
            os.fsync(self.fd)
        except OSError as error:
            raise explain(error, os.path.join(self.path, name), "write") from None

    def remove(self, name):
        """Removes a file; False when there was none."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise explain(error, os.path.join(self.path, name), "remove") from None
        os.fsync(self.fd)
        return True


class Roots:
    """Where files may be read and written."""

    def __init__(self, roots):
        self.roots = [os.path.normpath(root) for root in roots or ["/"]]

    def split(self, path):
        """The root a path is below, and the names that lead from there to it."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        outside = Failure("PATH_OUTSIDE_ROOTS", f"{path} is outside the roots this host permits")
        if not path.startswith("/") or "\0" in path or ".." in parts:
            raise outside
        for root in sorted(self.roots, key=len, reverse=True):
            above = [part for part in root.split("/") if part]
            if parts[: len(above)] == above:
                return root, parts[len(above) :]
        raise outside

    def dir(self, path):
        """Opens a directory."""
        root, parts = self.split(path)
        try:
            opened = Dir(os.open(root, DIRECTORY), root)
        except OSError as error:
            raise explain(error, path, "open") from None
        for part in parts:
            with opened:
                try:
                    deeper = opened.child(part)
                except Failure as failure:
                    # The path that was asked for, not the part of it that broke.
                    raise Failure(
                        failure.code, failure.message.replace(os.path.join(opened.path, part), path, 1)
                    ) from None
            opened = deeper
        return Dir(opened.fd, path)

    def make_dir(self, path):
        """Opens a directory, making at most its last NEW_LEVELS_MAX levels."""
        missing = []
        there = path
        while True:
            try:
                opened = self.dir(there)
                break
            except Failure as failure:
                if failure.code != "PATH_MISSING" or len(missing) == NEW_LEVELS_MAX:
                    raise
            there, name = os.path.split(there.rstrip("/"))
            missing.append(name)
        while missing:
            with opened:
                # nginx's workers have to get through.
                deeper = opened.make_child(missing.pop(), 0o755)
            opened = deeper
        return opened

    def resolve(self, asked):
        """The same directory by a path without links. A link is followed only downwards from where it
        stands, as to a release, and only one that root or the directory's own user made."""
        refused = Failure("PATH_IS_SYMLINK", f"{asked} is, or leads through, a symbolic link")
        path, makers = asked, set()
        for _ in range(LINKS_MAX + 1):
            try:
                with self.dir(path) as opened:
                    owner = os.fstat(opened.fd).st_uid
            except Failure as failure:
                if failure.code != "PATH_IS_SYMLINK":
                    raise
                path, maker = self._follow(path) or (None, None)
                if path is None:
                    break
                makers.add(maker)
            else:
                if makers <= {0, owner}:
                    return path
                break
        raise refused

    def _follow(self, path):
        """The path with its first link replaced by what that names, and who made the link; None when it
        does not lead downwards."""
        names = [name for name in path.split("/") if name not in ("", ".")]
        for deep in range(1, len(names) + 1):
            try:
                directory, name = self.parent("/" + "/".join(names[:deep]))
            except Failure as failure:
                if failure.code == "PATH_OUTSIDE_ROOTS":
                    continue  # A root itself is trusted, whatever it is or leads through.
                raise
            with directory:
                try:
                    target = os.readlink(name, dir_fd=directory.fd)
                    maker = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_uid
                except OSError:
                    continue
                above = os.path.normpath(directory.path)
            # Without `..` a path says where it leads whatever lies on its way.
            up = ".." in target.split("/")
            target = os.path.normpath(os.path.join(above, target))
            if up or not target.startswith(above.rstrip("/") + "/"):
                return None
            return os.path.join(target, *names[deep:]), maker
        return None

    def parent(self, path):
        """The opened directory of a file, and the file's name in it."""
        self.split(path)
        directory, name = os.path.split(path.rstrip("/"))
        return self.dir(directory), name

    def read(self, path, bytes_max=FILE_BYTES_MAX):
        """The content of a file; None when it, or its directory, is not there."""
        try:
            directory, name = self.parent(path)
        except Failure as failure:
            if failure.code == "PATH_MISSING":
                return None
            raise
        with directory:
            return directory.read(name, bytes_max)

    def write(self, path, data, mode, owner=None):
        """Replaces a file in one step."""
        directory, name = self.parent(path)
        with directory:
            directory.write(name, data, mode, owner)

    def remove(self, path):
        """Removes a file; False when there was none."""
        directory, name = self.parent(path)
        with directory:
            return directory.remove(name)
