"""nginx's FastCGI cache on disk: where an entry lies, what its header says, how it goes.

Layout of an entry (format 5, nginx since 1.11.10, 64-bit little endian): version at 0 (8 bytes), fresh
until at 8, stored at 40, length of the `Vary` names at 187 (1 byte), the names behind it, the variant's sum at
316, the key line at 336. The file name
is the MD5 of the key; with `levels=1:2` it lies in the directories named by its last character and the
two before it. Variants of a page lie at other names but carry the same key line.

A single entry is voided (its version overwritten with 0) before it is unlinked, so that a worker that
keeps the file open sees a miss too. Only what nginx's level directories hold is ever touched.
"""

import contextlib
import errno
import os
import stat
import struct

from ansible.module_utils.hostler.environment import md5
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.paths import explain

FORMAT = 5
KEY_AT = 336
KEY_MARK = b"\nKEY: "
KEY_BYTES_MAX = 16 * 1024
VARY_LENGTH_AT = 187
VARY_BYTES_MAX = 128
VARIANT_AT = 316
# Headers whose values nginx compares word by word, whatever stands between them.
NORMALISED = (b"accept-charset", b"accept-encoding", b"accept-language")
# Entries counted before a purge reports; beyond it the count is marked as cut short.
COUNTED_ENTRIES_MAX = 200_000
# Entries one search for variants looks at.
SCANNED_ENTRIES_MAX = 5_000_000
# Deepest tree that is deleted; nginx makes two levels, the trash two more.
TREE_LEVELS_MAX = 32
# Hexadecimal digits in an entry's name.
NAME_DIGITS = 32
# Beside the cache directory, where entries wait to be deleted.
TRASH = ".hostler-trash"


class Tally:
    """What was removed, or would be."""

    def __init__(self, found=0, removed=0, size=0):
        self.found = found
        self.removed = removed
        self.bytes = size

    def add(self, other):
        self.found += other.found
        self.removed += other.removed
        self.bytes += other.bytes


class Entry:
    """An opened entry; closed by `close`, `remove` or `take`."""

    def __init__(self, parent, name, fd, size):
        self.parent = parent  # Owned: closed with the entry.
        self.name = name
        self.fd = fd
        self.bytes = size
        self.known = False
        self.varies = True
        self.key = None
        self.vary = self.variant = b""
        self.inode = os.fstat(fd).st_ino
        self.fresh_until = self.stored_at = 0
        self._read_header()

    def _read_header(self):
        head = os.pread(self.fd, KEY_AT + len(KEY_MARK) + KEY_BYTES_MAX, 0)
        line = head[KEY_AT:]
        if not line.startswith(KEY_MARK) or b"\n" not in line[len(KEY_MARK) :]:
            return
        self.key = line[len(KEY_MARK) :].split(b"\n", 1)[0]
        version, self.fresh_until = struct.unpack_from("<Qq", head)
        (self.stored_at,) = struct.unpack_from("<q", head, 40)
        self.known = version == FORMAT
        self.varies = not self.known or head[VARY_LENGTH_AT] != 0
        if self.known:
            names = VARY_LENGTH_AT + 1
            self.vary = head[names : names + min(head[VARY_LENGTH_AT], VARY_BYTES_MAX)]
            self.variant = head[VARIANT_AT : VARIANT_AT + 16]

    def close(self):
        os.close(self.fd)
        os.close(self.parent)

    def remove(self):
        """A miss for the next request, whoever holds the file open."""
        try:
            if self.known:
                os.pwrite(self.fd, b"\0" * 8, 0)
            os.unlink(self.name, dir_fd=self.parent)
        except FileNotFoundError:
            return Tally()  # nginx was faster.
        except OSError as error:
            raise explain(error, self.name, "remove") from None
        finally:
            self.close()
        return Tally(1, 1, self.bytes)

    def take(self, dry_run):
        """Removes it, or only counts."""
        if not dry_run:
            return self.remove()
        self.close()
        return Tally(1, 0, self.bytes)


def _open(parent, name):
    """An entry by its name; None when there is none. `parent` stays the caller's."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=parent.fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain(error, os.path.join(parent.path, name), "open") from None
    look = os.fstat(fd)
    if not stat.S_ISREG(look.st_mode):
        os.close(fd)
        raise Failure("FILE_FAILED", f"{parent.path}/{name} is not a regular file")
    return Entry(os.dup(parent.fd), name, fd, look.st_size)


def find(cache, key):
    """The entry of exactly this key; None when it is not stored."""
    name = md5(key)
    try:
        with cache.child(name[-1]) as first, first.child(name[-3:-1]) as second:
            entry = _open(second, name)
    except Failure as failure:
        if failure.code == "PATH_MISSING":
            return None
        raise
    # A header that cannot be read is no entry; one of another format is known by its name alone.
    if entry and (entry.key is None or (entry.known and entry.key != key)):
        entry.close()
        return None
    return entry


def variant(key, vary, sent):
    """The sum nginx keeps for a request that sends these headers, given the key and the names of a
    `Vary` header."""
    headers = {name.lower().encode(): value.encode() for name, value in sent.items()}
    out = bytes.fromhex(md5(key))
    for name in _words(vary.lower()):
        value = headers.get(name, b"")
        if name in NORMALISED:
            value = b",".join(_words(value))
        out += name + b":" + value + b"\r\n"
    return bytes.fromhex(md5(out))


def _words(text):
    """The words of a list, separated by commas and spaces."""
    return [word for word in text.replace(b",", b" ").split(b" ") if word]


def _named(directory, digits, wanted):
    """What is wanted of what has a name of that many hexadecimal digits."""
    hexadecimal = set("0123456789abcdefABCDEF")
    with os.scandir(directory.fd) as listing:
        items = [item for item in listing if len(item.name) == digits and set(item.name) <= hexadecimal]
        return [item.name for item in items if wanted(item)]


def _levels(directory, digits):
    """The directories of a level."""
    return _named(directory, digits, lambda item: item.is_dir(follow_symlinks=False))


def _links(directory, digits):
    """Links where nginx looks for directories or entries: it would serve what they lead to."""
    return _named(directory, digits, lambda item: item.is_symlink())


def _child(directory, name):
    """A level directory; None when it has gone, or is none of nginx's."""
    try:
        return directory.child(name)
    except Failure as failure:
        if failure.code in ("PATH_MISSING", "PATH_IS_SYMLINK"):
            return None
        raise


def walk(cache):
    """Every name in the level directories with its opened directory, in no order."""
    for one in _levels(cache, 1):
        first = _child(cache, one)
        if first is None:
            continue
        with first:
            for two in _levels(first, 2):
                second = _child(first, two)
                if second is None:
                    continue
                with second:
                    for name in second.names():
                        yield second, name


def count(cache):
    """What there is; and whether that is all of it."""
    tally = Tally()
    for directory, name in walk(cache):
        if tally.found == COUNTED_ENTRIES_MAX:
            return tally, False
        try:
            look = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(look.st_mode):
            tally.add(Tally(1, 0, look.st_size))
    return tally, True


def _regular(directory, name):
    """An entry by its name; None for what is no file."""
    try:
        return _open(directory, name)
    except Failure:
        return None


def sweep_variants(cache, keys, dry_run, found):
    """Takes every entry that carries one of these keys, wherever it lies; `found(key, tally)`. The entry
    at a key's own place goes last: it tells that there are others, so a sweep can be repeated."""
    for seen, (directory, name) in enumerate(walk(cache)):
        if seen == SCANNED_ENTRIES_MAX:
            message = (
                f"the cache holds more than {SCANNED_ENTRIES_MAX} entries: not all were searched for variants"
            )
            raise Failure("FILE_FAILED", message, hint="Purge the whole cache instead.")
        entry = _regular(directory, name)
        if entry is None:
            continue
        if entry.key in keys and name != md5(entry.key):
            found(entry.key, entry.take(dry_run))
        else:
            entry.close()
    for key in keys:
        entry = find(cache, key)
        if entry:
            found(key, entry.take(dry_run))


def remove_all(roots, cache, name):
    """Takes every entry away at once; says how many there were, and whether that count is whole."""
    with contextlib.ExitStack() as opened:
        try:
            above = opened.enter_context(roots.dir(os.path.dirname(cache.path.rstrip("/"))))
            trash = opened.enter_context(above.make_child(TRASH))
            bin_ = opened.enter_context(trash.make_child(name))
        except Failure:
            bin_ = None  # The place beside the cache is not ours to write in.
        if bin_ is not None and _set_aside(cache, bin_):
            tally, whole = count(bin_)
            tally.removed = tally.found
            delete_tree(trash, name)
            return tally, whole
        if bin_ is not None:
            delete_tree(trash, name)
    _unlink_links(cache)
    tally = Tally()
    for directory, entry_name in walk(cache):
        entry = _regular(directory, entry_name)
        if entry:
            tally.add(entry.remove())
    return tally, True


def _unlink_links(cache):
    """Takes links away from where nginx looks; what they lead to stays."""
    places = [(cache, 1)]
    with contextlib.ExitStack() as opened:
        for one in _levels(cache, 1):
            first = _child(cache, one)
            if first is not None:
                places.append((opened.enter_context(first), 2))
        for directory, digits in places:
            for name in _links(directory, digits):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory.fd)
    for directory, _ in walk(cache):
        for name in _links(directory, NAME_DIGITS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory.fd)


def _set_aside(cache, bin_):
    """Renames every level directory, and every link in the place of one, into the bin; False when that
    is on another file system."""
    for name in _levels(cache, 1) + _links(cache, 1):
        try:
            os.rename(name, name, src_dir_fd=cache.fd, dst_dir_fd=bin_.fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise explain(error, os.path.join(cache.path, name), "set aside") from None
    return True


def delete_tree(parent, name, levels=TREE_LEVELS_MAX):
    """Deletes a tree of our own making, without following links."""
    if levels == 0:
        raise Failure("FILE_FAILED", f"{parent.path}/{name} is nested deeper than {TREE_LEVELS_MAX} levels")
    try:
        opened = parent.child(name)
    except Failure as failure:
        if failure.code == "PATH_MISSING":
            return
        raise
    with opened as directory:
        for entry in directory.names():
            try:
                os.unlink(entry, dir_fd=directory.fd)
            except FileNotFoundError:
                pass
            except (IsADirectoryError, PermissionError):
                delete_tree(directory, entry, levels - 1)
    try:
        os.rmdir(name, dir_fd=parent.fd)
    except OSError as error:
        raise explain(error, os.path.join(parent.path, name), "remove") from None
