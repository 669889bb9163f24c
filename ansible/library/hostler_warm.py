#!/usr/bin/python3
"""Fetches pages past an environment's cache and stores them, over what is there."""

DOCUMENTATION = r"""
module: hostler_warm
short_description: Fetch pages past the FastCGI cache so that it stores them anew
description:
  - Every page is asked for as a visitor would ask, only on the environment's own domain, a few at once. A
    page that was stored since C(wanted_at) and is fresh is not asked for again, so a run may be repeated.
  - Visitors go on getting the old page until the new one is stored.
options:
  urls: {description: Absolute URLs of the environment's domain., type: list, elements: str, required: true}
  wanted_at: {description: Pages stored at this time or later are warm; Unix time., type: int}
  concurrency: {description: Most requests at once., type: int, default: 2}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(warmed), C(fresh), C(not_stored), C(failed), C(dropped), C(concurrency), C(urls).
  returned: always
  type: dict
"""

import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, cache
from ansible.module_utils.hostler.environment import KeyFormat, pages
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.probe import get

# After so many failures in a row the rest is not asked for.
FAILURES_IN_A_ROW_MAX = 10
CONCURRENCY_MAX = 64


class Warmer:
    """One warm-up as it goes."""

    def __init__(self, environment, roots, secret, wanted_at, check_mode):
        self.environment = environment
        self.roots = roots
        self.headers = {"X-Hostler-Probe": f"refresh:{secret}"}
        self.wanted_at = wanted_at
        self.check_mode = check_mode
        self.key_format = KeyFormat(environment.fastcgi["key_format"])
        self.timeout = int(environment.health["timeout_ms"]) / 1000
        self.failures_in_a_row = 0

    def one(self, url, page):
        """Makes one page warm; says what became of it."""
        line = {"url": url}
        if self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX:
            line["state"] = "dropped"
            return line
        if self.is_warm(page, self.wanted_at):
            line["state"] = "fresh"
            return line
        if self.check_mode:
            line["state"] = "dropped"
            return line
        since, started = int(time.time()), time.monotonic()
        try:
            answer = get(self.environment.origin, page[0], page[1], self.headers, self.timeout, whole=True)
        except Failure as failure:
            line.update(state="failed", note=failure.message)
            self.failures_in_a_row += 1
            return line
        line.update(status=answer.status, took_ms=round((time.monotonic() - started) * 1000))
        line.update(self.judge(page, answer, since))
        self.failures_in_a_row = self.failures_in_a_row + 1 if line["state"] == "failed" else 0
        return line

    def judge(self, page, answer, since):
        """What an answer means."""
        if answer.status >= 500:
            return {"state": "failed", "note": f"HTTP {answer.status}"}
        if self.is_warm(page, since):
            return {"state": "warmed"}
        if answer.cache == "HIT":
            return {"state": "fresh"}
        return {"state": "not_stored", "note": f"answered {answer.cache} (HTTP {answer.status})"}

    def is_warm(self, page, since):
        """Whether the page's entry was stored at that time or later and is fresh."""
        if since is None:
            return False
        host, uri = page
        key = self.key_format.expand(self.environment.origin.scheme, "GET", host, uri)
        try:
            with self.roots.dir(self.environment.fastcgi["cache_dir"]) as opened:
                entry = cache.find(opened, key)
        except Failure as failure:
            if failure.code != "PATH_MISSING":
                raise
            return False
        if entry is None:
            return False
        entry.close()
        return entry.known and entry.stored_at >= since and entry.fresh_until > time.time()


def work(module):
    params = module.params
    environment, roots = arguments.environment(module)
    if not environment.fastcgi:
        raise Failure("SPEC_INVALID", "the environment has no FastCGI cache to warm")
    asked = pages(environment.domain, params["urls"])
    applied = environment.applied(roots)
    if applied is None or not applied.enabled:
        raise Failure("CACHE_OFF", "the environment's FastCGI cache is off")
    warmer = Warmer(environment, roots, applied.secret, params["wanted_at"], module.check_mode)
    concurrency = max(1, min(params["concurrency"], CONCURRENCY_MAX))
    with ThreadPoolExecutor(concurrency) as pool:
        lines = list(pool.map(warmer.one, params["urls"], asked))
    states = [line["state"] for line in lines]
    document = {
        state: states.count(state) for state in ("warmed", "fresh", "not_stored", "failed", "dropped")
    }
    document.update(concurrency=min(concurrency, max(1, len(asked))), urls=lines)
    if document["failed"] and not document["warmed"] + document["fresh"] + document["not_stored"]:
        note = next(line["note"] for line in lines if line["state"] == "failed")
        raise Failure("WARM_FAILED", f"all {document['failed']} pages that were asked for failed: {note}")
    message = "{warmed} pages warmed, {fresh} were warm, {not_stored} not stored, {failed} failed".format(
        **document
    )
    return document["warmed"] > 0, message, document


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "urls": {"type": "list", "elements": "str", "required": True},
            "wanted_at": {"type": "int"},
            "concurrency": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
