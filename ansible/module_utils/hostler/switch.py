"""Turning an application's use of Redis on or off by the least invasive switch.

`php`: a JSON file the application reads. `wordpress`: the constant WP_REDIS_DISABLED in a marked block
of wp-config.php, and the drop-in that the installed Redis Object Cache plugin brings. A drop-in or a
constant that is somebody else's is never touched. The document root may be a link to a release.
"""

import json
import os

from ansible.module_utils.hostler import php
from ansible.module_utils.hostler.outcome import Failure

DROPIN = "wp-content/object-cache.php"
PLUGIN_DROPIN = "wp-content/plugins/redis-cache/includes/object-cache.php"
BEGIN = "/* BEGIN Hostler: written by Hostler, changes between these lines are lost */"
END = "/* END Hostler */"
SWITCH = "WP_REDIS_DISABLED"
# Bytes of a drop-in that are searched for its header, as WordPress itself does.
HEADER_BYTES_MAX = 8 * 1024


class Plan:
    """Files to change so that the switch stands as wanted; none when it does already."""

    def __init__(self):
        # (path, bytes, mode, owner)
        self.changes = []
        # What the switch is, in words.
        self.words = ""

    @property
    def changes_code(self):
        """Whether it changes code, which PHP may go on running for a moment as it was."""
        return any(path.endswith(".php") for path, *_ in self.changes)

    def change(self, path, data, mode, owner):
        self.changes.append((path, data, mode, owner))


def plan(environment, roots, enabled, may_edit):
    """Looks at the switch and says what to change."""
    if environment.kind == "php":
        return _plan_file(environment.redis, roots, enabled)
    return _plan_wordpress(environment, roots, enabled, may_edit)


def _plan_file(redis, roots, enabled):
    path = redis.get("switch_file")
    if not path:
        raise Failure("SPEC_INVALID", "a `php` environment with Redis needs a `switch_file`")
    text = json.dumps(
        {"enabled": enabled, "prefix": redis["prefix"]}, separators=(",", ":"), ensure_ascii=False
    )
    done = Plan()
    done.words = f"{path} says {text}"
    data = f"{text}\n".encode()
    directory, name = roots.parent(path)
    with directory:
        now = directory.read(name)
    if now is not None and not _is_switch(now.data):
        raise Failure("FILE_FOREIGN", f"{path} is not a switch file")
    if now is None:
        done.change(path, data, 0o644, None)
    elif now.data != data:
        done.change(path, data, now.mode, now.owner)
    return done


def _is_switch(data):
    if not data.strip():
        return True
    try:
        document = json.loads(data)
    except ValueError:
        return False
    return (
        isinstance(document, dict)
        and isinstance(document.get("enabled"), bool)
        and isinstance(document.get("prefix"), str)
    )


def _plan_wordpress(environment, roots, enabled, may_edit):
    done = Plan()
    root = roots.resolve(environment.docroot)
    path, config = wp_config_file(root, roots)
    try:
        text = config.data.decode()
    except UnicodeDecodeError:
        raise Failure("FILE_FAILED", f"{path} is not UTF-8") from None
    wanted = with_switch(text, not enabled)
    done.words = f"{path} defines {SWITCH} as {_php(not enabled)}"
    if wanted != text:
        if not may_edit:
            raise Failure("POLICY_REFUSED", "this host does not permit changes of wp-config.php")
        done.change(path, wanted.encode(), config.mode, config.owner)
    dropin = os.path.join(root, DROPIN)
    directory, name = roots.parent(dropin)
    with directory:
        there = directory.read(name)
    if not enabled or (there is not None and is_redis_cache(there.data)):
        return done
    if there is not None:
        whose = plugin_name(there.data) or "a drop-in without a name"
        raise Failure("DROPIN_FOREIGN", f"{dropin} is {whose}")
    plugin = os.path.join(root, PLUGIN_DROPIN)
    source = roots.read(plugin)
    if source is None:
        raise Failure("DROPIN_MISSING", f"{plugin} does not exist")
    done.change(dropin, source.data, 0o644, config.owner)
    return done


def wp_config_file(root, roots):
    """WordPress reads its configuration from the docroot or, if there is none, from right above it."""
    root = root.rstrip("/")
    for directory in (root, os.path.dirname(root)):
        path = os.path.join(directory, "wp-config.php")
        try:
            opened, name = roots.parent(path)
        except Failure as failure:
            # Above the docroot may be above the roots.
            if failure.code == "PATH_OUTSIDE_ROOTS" and directory != root:
                continue
            raise
        with opened:
            content = opened.read(name)
        if content is not None:
            return path, content
    raise Failure("PATH_MISSING", f"there is no wp-config.php in {root} nor above it")


def _php(value):
    return "true" if value else "false"


def with_switch(text, disabled):
    """The file with the switch put, in our block right after the opening tag or after what PHP demands
    to come first, so that it stands before WordPress is loaded whatever else the file does."""
    bare = without_block(text)
    if php.defines(bare, SWITCH):
        message = f"wp-config.php sets {SWITCH} outside the lines Hostler wrote"
        raise Failure("WP_CONFIG_FOREIGN", message)
    place = _place(bare)
    return f"{bare[:place]}{BEGIN}\ndefine( '{SWITCH}', {_php(disabled)} );\n{END}\n{bare[place:]}"


def _place(text):
    """Where our block goes."""
    if text.lstrip("\ufeff")[:5].lower() != "<?php":
        raise Failure("FILE_FAILED", "wp-config.php does not begin with a PHP tag")
    try:
        end = php.preamble(text)
    except php.NotUnderstood as reason:
        raise Failure(
            "WP_CONFIG_FOREIGN",
            f"wp-config.php is not understood: {reason}",
            hint="Let `declare` and `namespace` at the top of the file end in `;`.",
        ) from None
    if end is not None:
        return _after_line(text, end)
    line, newline, _ = text.partition("\n")
    if not newline or line.lstrip("\ufeff").rstrip() != "<?php":
        message = "wp-config.php does not begin with a PHP tag on a line of its own"
        raise Failure("FILE_FAILED", message)
    return len(line) + 1


def _after_line(text, end):
    """Behind the line a statement ends on, unless more code stands there."""
    line, newline, _ = text[end:].partition("\n")
    remark = line.strip()
    quiet = not remark or (remark.startswith("//") and "?>" not in remark)
    return end + len(line) + 1 if quiet and newline else end


def without_block(text):
    """The file without our block."""
    head, begin, rest = text.partition(BEGIN)
    if not begin:
        return text
    _, end, after = rest.partition(END)
    if not end:
        message = "the block Hostler wrote into wp-config.php has lost its end"
        raise Failure("FILE_FAILED", message)
    return head + (after[1:] if after.startswith("\n") else after)


def plugin_name(data):
    """The `Plugin Name` a drop-in gives itself."""
    for line in data[:HEADER_BYTES_MAX].decode("utf-8", "replace").splitlines():
        if "Plugin Name:" in line:
            return line.split("Plugin Name:", 1)[1].strip() or None
    return None


def is_redis_cache(data):
    """Whether a drop-in is that of the Redis Object Cache plugin."""
    name = plugin_name(data) or ""
    return name.startswith("Redis Object Cache") and "Pro" not in name
