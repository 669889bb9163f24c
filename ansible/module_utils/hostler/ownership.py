"""Whose a cache directory is: only one that was missing or empty when it was set up is ever purged."""

import os

from ansible.module_utils.hostler.outcome import Failure


def owns(environment, roots, owned, cache_dir):
    """Whether a cache directory is this environment's own."""
    if owned is not None:
        return cache_dir in owned
    return environment.declares(roots, cache_dir)


def claim(environment, roots, owned):
    """Whether the cache directory is, or can become, this environment's own."""
    cache_dir = environment.fastcgi["cache_dir"]
    for path in (environment.docroot, *environment.files):
        if _within(path, cache_dir) or _within(cache_dir, path):
            raise Failure("SPEC_INVALID", f"the cache directory {cache_dir} overlaps {path}")
    try:
        with roots.dir(cache_dir) as opened:
            empty = not opened.names()
    except Failure as failure:
        if failure.code != "PATH_MISSING":
            raise
        empty = True
    if not empty and not owns(environment, roots, owned, cache_dir):
        raise Failure("CACHE_DIR_NOT_OURS", f"{cache_dir} holds files Hostler did not put there")


def _within(path, directory):
    return os.path.normpath(f"{path}/").startswith(os.path.normpath(directory) + "/") or os.path.normpath(
        path
    ) == os.path.normpath(directory)


def open_own(environment, roots, owned, cache_dir):
    """Opens a cache directory of this environment; None when there is no entry to remove, because the
    cache was never on or its directory is not there."""
    ours = owns(environment, roots, owned, cache_dir)
    if not ours and environment.applied(roots) is None:
        roots.split(cache_dir)
        return None
    try:
        opened = roots.dir(cache_dir)
    except Failure as failure:
        if failure.code != "PATH_MISSING":
            raise
        if ours:
            return None
        raise Failure("CACHE_DIR_MISSING", f"{cache_dir} does not exist") from None
    if not ours:
        with opened:
            message = f"{cache_dir} was not set up by Hostler for this environment"
            raise Failure("CACHE_DIR_NOT_OURS", message)
    return opened
