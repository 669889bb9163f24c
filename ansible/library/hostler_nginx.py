#!/usr/bin/python3
"""Tests nginx's configuration, sees where Hostler's files are included, reloads."""

DOCUMENTATION = r"""
module: hostler_nginx
short_description: Test, survey or reload nginx
description:
  - C(ready) makes the environment's missing files, empty, and tests the configuration as it was before.
  - C(placed) says which of the three files may add the status header, or which C(include) is missing.
  - C(tested) tests the configuration with the new files. C(reloaded) signals the master process.
options:
  state: {description: What to do., type: str, required: true, choices: [ready, placed, tested, reloaded]}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(header) (C(placed)); C(mark) and C(workers), for the proof that follows (C(reloaded)).
  returned: always
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, listen
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.swap import Swap
from ansible.module_utils.hostler.tree import sightings

BLOCKS = ("http", "server", "location")


def work(module):
    environment, roots = arguments.environment(module)
    nginx = arguments.nginx(module)
    states = {"ready": ready, "placed": placed, "tested": tested, "reloaded": reloaded}
    return states[module.params["state"]](module, nginx, environment, roots)


def ready(module, nginx, environment, roots):
    nginx.master()
    contents = [roots.read(path) for path in environment.files]
    for path, content in zip(environment.files, contents):
        if content is not None and not environment.ours(content.data):
            message = f"{path} was not written by Hostler for this environment"
            raise Failure("FILE_FOREIGN", message)
    missing = [path for path, content in zip(environment.files, contents) if content is None]
    if not module.check_mode:
        make(module, environment, roots, missing)
    try:
        nginx.dump("NGINX_CONFIG_BROKEN")
    except Failure as failure:
        if module.check_mode and names_any(failure, missing):
            return True, "the vhost names a file that does not exist yet; a run makes it", {}
        raise
    # A file made empty changes nothing by itself, and is counted when it is written.
    return False, "the configuration passes", {}


def make(module, environment, roots, missing):
    """A vhost that names a missing file is broken only because we have not come yet, and a glob shows
    nothing while it matches nothing."""
    directories = [os.path.dirname(path) for path in missing]
    if environment.fastcgi:
        directories.append(os.path.dirname(environment.fastcgi["cache_dir"].rstrip("/")))
    for directory in directories:
        with roots.make_dir(directory):
            pass
    swap = Swap(roots, module.params["state_dir"], environment.id)
    swap.watch(missing)
    for path in missing:
        swap.put(path, b"", 0o640)


def names_any(failure, paths):
    """Whether nginx's own words name one of these files."""
    return any(path in (failure.output or "") for path in paths)


def placed(module, nginx, environment, roots):
    try:
        dump = nginx.dump("NGINX_CONFIG_BROKEN")
    except Failure as failure:
        missing = [path for path in environment.files if roots.read(path) is None]
        if module.check_mode and names_any(failure, missing):
            return False, "nginx cannot be asked before the files exist", {"header": "server"}
        raise
    seen = sightings(dump, environment.files)
    header = header_level(environment, seen)
    listen.check(environment, seen)
    message = f"all three files are included; the {header} file adds the status header"
    return False, message, {"header": header}


def header_level(environment, seen):
    """The block in which one more header takes none away; refuses where a file is not included."""
    domain = environment.domain
    places = (
        "the `http` block",
        f"the `server` block of {domain}",
        f"the `location` block of {domain} that passes to PHP",
    )
    for path, block, place in zip(environment.files, BLOCKS, places):
        here = [sighting for sighting in seen if sighting.file == path]
        if any(fits(sighting, block, domain) for sighting in here):
            continue
        found = ""
        if here:
            names = " ".join(here[0].server.server_names) if here[0].server else ""
            found = f" (it is included in a `{here[0].innermost}` block {names})"
        line = f"add `include {path};` to {place}"
        raise Failure("NGINX_NOT_INCLUDED", line + found, hint=line)
    allowed = ["server", "location", "http"]
    for sighting in seen:
        if sighting.file == environment.files[2] and sighting.innermost == "location":
            allowed = [level for level in allowed if harmless(sighting.levels, level)]
    if not allowed:
        raise Failure(
            "NGINX_HEADERS_DROPPED",
            "the blocks around the PHP location add response headers at levels where one more would take"
            " others away",
            hint="Move the `add_header` lines of this server to one level: the server or the PHP location.",
        )
    return allowed[0]


def fits(sighting, block, domain):
    server = sighting.server
    return sighting.innermost == block and (server is None or server.answers_for(domain))


def harmless(levels, wanted):
    """Whether a header in that block leaves those of the blocks around the location alone."""
    adding = [place for place, level in enumerate(levels) if level.adds_headers]
    if not adding:
        return True
    nearest = levels[adding[-1]].name
    if nearest == "location":
        return wanted == "location" and adding[-1] == len(levels) - 1
    return nearest == wanted


def tested(_module, nginx, _environment, _roots):
    nginx.test("NGINX_TEST_FAILED")
    return False, "the configuration passes", {}


def reloaded(module, nginx, _environment, _roots):
    mark, workers = nginx.log_mark(), sorted(nginx.accepting_workers())
    if not module.check_mode:
        nginx.reload()
    return True, "told the nginx master process", {"mark": mark, "workers": workers}


def main():
    states = ["ready", "placed", "tested", "reloaded"]
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "state": {"type": "str", "required": True, "choices": states},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
