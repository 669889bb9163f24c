#!/usr/bin/python3
"""Removes entries from an environment's FastCGI cache."""

DOCUMENTATION = r"""
module: hostler_cache
short_description: Purge an environment's FastCGI cache, all of it or by URL
description:
  - C(checked) says whether the cache and the URLs are the environment's; C(purged) removes.
  - All entries leave at once, by renaming the level directories aside. A URL goes with all its variants;
    its entry is found by its computed path, and others only where the page varies.
options:
  state: {description: What to do., type: str, required: true, choices: [checked, purged]}
  cache_dir: {description: Another directory of the environment than the one it names., type: path}
  urls: {description: 'Absolute URLs; not given: every entry.', type: list, elements: str}
  dry_run: {description: Count only., type: bool, default: false}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(found), C(removed), C(bytes), C(counted), C(urls) (C(purged)).
  returned: always
  type: dict
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, cache, ownership
from ansible.module_utils.hostler.environment import KeyFormat, pages
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.probe import Live

# Most URLs whose cache status is probed before and after a purge, and the time limit of one probe.
PROBED_URLS_MAX = 10
PEEK_SECS_MAX = 2


def work(module):
    params = module.params
    environment, roots = arguments.environment(module)
    if not environment.fastcgi:
        raise Failure("SPEC_INVALID", "the environment has no FastCGI cache to purge")
    asked = pages(environment.domain, params["urls"] or [])
    cache_dir = params["cache_dir"] or environment.fastcgi["cache_dir"]
    opened = ownership.open_own(environment, roots, params["owned"], cache_dir)
    if opened is None:
        nothing = document(cache.Tally(), urls=[line(url, cache.Tally()) for url in params["urls"] or []])
        if params["state"] == "checked":
            nothing["state"] = "none"
        return False, "there is no cache to purge", nothing
    with opened:
        if params["state"] == "checked":
            return False, "the cache is the environment's own", {"state": "none"}
        dry_run = params["dry_run"] or module.check_mode
        if params["urls"] is None:
            done = purge_all(roots, opened, dry_run)
        else:
            done = purge_urls(environment, roots, opened, params["urls"], asked, dry_run)
    changed = done["removed"] > 0 or (module.check_mode and not params["dry_run"] and done["found"] > 0)
    return changed, told(done, dry_run), done


def document(tally, counted=True, urls=()):
    return {
        "found": tally.found,
        "removed": tally.removed,
        "bytes": tally.bytes,
        "counted": counted,
        "urls": list(urls),
    }


def line(url, tally):
    return {"url": url, "found": tally.found, "removed": tally.removed, "bytes": tally.bytes}


def told(done, dry_run):
    more = "" if done["counted"] else "more than "
    verb, number = ("would be removed", done["found"]) if dry_run else ("removed", done["removed"])
    return f"{more}{number} entries ({done['bytes']} bytes) {verb}"


def purge_all(roots, opened, dry_run):
    if dry_run:
        return document(*cache.count(opened))
    return document(*cache.remove_all(roots, opened, f"ansible-{os.urandom(8).hex()}"))


def purge_urls(environment, roots, opened, urls, asked, dry_run):
    key_format = KeyFormat(environment.fastcgi["key_format"])
    applied = environment.applied(roots)
    live = Live(environment, applied.secret, roots) if applied else None
    before = peek(live, asked)
    hidden = unseen(environment, opened, key_format, asked)
    tallies = [cache.Tally() for _ in asked]
    varying = {}
    for place, page in enumerate(asked):
        varies = place < len(before) and before[place][1]
        for key in key_format.keys(page):
            entry = cache.find(opened, key)
            if varies or (entry and entry.varies):
                varying[key] = place
                if entry:
                    entry.close()
            elif entry:
                tallies[place].add(entry.take(dry_run))
    if varying:
        cache.sweep_variants(opened, varying, dry_run, lambda key, tally: tallies[varying[key]].add(tally))
    after = [] if dry_run else peek(live, asked)
    total = cache.Tally()
    lines = []
    for place, (url, tally) in enumerate(zip(urls, tallies)):
        total.add(tally)
        one = line(url, tally)
        for name, seen in (("before", before), ("after", after)):
            if place < len(seen):
                one[name] = "UNKNOWN" if hidden[place] else seen[place][0]
        lines.append(one)
    return document(total, urls=lines)


def unseen(environment, opened, key_format, asked):
    """Whether each page is stored for visitors of a scheme the probe origin does not speak: a request to
    the origin then says nothing about that entry."""
    hidden = []
    for page in asked[:PROBED_URLS_MAX]:
        seen = key_format.keys(page, [environment.origin.scheme])
        keys = [key for key in key_format.keys(page, [page.scheme]) if key not in seen]
        found = [entry for entry in (cache.find(opened, key) for key in keys) if entry]
        for entry in found:
            entry.close()
        hidden.append(bool(found))
    return hidden


def peek(live, asked):
    """What a visitor's request would be answered from, and whether the page varies; stores nothing."""
    seen = []
    for page in asked[:PROBED_URLS_MAX] if live else []:
        try:
            answer = live.get("peek", page.uri, PEEK_SECS_MAX)
            seen.append((answer.cache, answer.varies))
        except Failure:
            seen.append(("UNKNOWN", False))
    return seen


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "state": {"type": "str", "required": True, "choices": ["checked", "purged"]},
            "cache_dir": {"type": "path"},
            "urls": {"type": "list", "elements": "str"},
            "dry_run": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
