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

import re
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, cache, ownership
from ansible.module_utils.hostler.environment import pages
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.probe import OWN_HEADERS, get

# After so many failures in a row the rest is not asked for.
FAILURES_IN_A_ROW_MAX = 10
CONCURRENCY_MAX = 64
# Longest that a page may take to render.
RENDER_SECS_MAX = 30
# How long after its answer an entry may come to its place; and that of an answer that says it is not to be
# stored.
STORED_SECS_MAX = 1
UNLIKELY_SECS_MAX = 0.05
POLL_SECS = 0.005
# What browsers send and pages vary by most; what most of them send comes first.
ENCODINGS = ("gzip, deflate, br, zstd", "gzip, deflate, br", "gzip, deflate", "gzip", "br")
STATES = ("warmed", "fresh", "not_stored", "failed", "dropped")


class Warmer:
    """One warm-up as it goes."""

    def __init__(self, environment, opened, secret, wanted_at, check_mode):
        self.environment = environment
        self.cache = opened
        self.secret = secret
        self.wanted_at = wanted_at
        self.check_mode = check_mode
        self.failures_in_a_row = 0

    def one(self, url, page):
        """Makes one page warm; says what became of it."""
        line = {"url": url}
        if self.failures_in_a_row >= FAILURES_IN_A_ROW_MAX:
            line["state"] = "dropped"
            return line
        key = self.environment.key(page.uri)
        state, encoding = self.there(key)
        if state is None and self.check_mode:
            state = "dropped"
        if state == "unknown":
            line.update(state="not_stored", note="the variant at its place cannot be asked for")
        elif state:
            line["state"] = state
        else:
            self.fetch(line, page, key, encoding)
        if line["state"] == "failed":
            self.failures_in_a_row += 1
        elif line["state"] in ("warmed", "not_stored"):
            self.failures_in_a_row = 0
        return line

    def there(self, key):
        """`fresh` for a page that is warm, `unknown` for one stored as a variant nobody can ask for, None
        for one to be made anew; and the `Accept-Encoding` to do it with."""
        entry = cache.find(self.cache, key)
        if entry is None:
            return None, ENCODINGS[0]
        entry.close()
        if not entry.known:
            return None, ENCODINGS[0]
        since = self.wanted_at
        if since is not None and entry.stored_at >= since and entry.fresh_until >= time.time():
            return "fresh", None
        if not entry.vary:
            return None, ENCODINGS[0]
        sent = {**OWN_HEADERS, "Host": self.environment.domain}
        for encoding in (None, *ENCODINGS):
            headers = {**sent, "Accept-Encoding": encoding} if encoding else sent
            if cache.variant(key, entry.vary, headers) == entry.variant:
                return None, encoding
        return "unknown", None

    def inode(self, key):
        entry = cache.find(self.cache, key)
        if entry is None:
            return None
        entry.close()
        return entry.inode

    def fetch(self, line, page, key, encoding):
        """Asks for a page past the cache and sees whether it was stored."""
        headers = {"X-Hostler-Probe": f"refresh:{self.secret}", "X-Hostler-Nonce": ""}
        if encoding:
            headers["Accept-Encoding"] = encoding
        before, started = self.inode(key), time.monotonic()
        try:
            origin = self.environment.origin
            answer = get(origin, page.host, page.uri, headers, RENDER_SECS_MAX, whole=True)
        except Failure as failure:
            line.update(state="failed", note=failure.message)
            return
        line.update(status=answer.status, took_ms=round((time.monotonic() - started) * 1000))
        line.update(self.judge(answer, key, before))

    def judge(self, answer, key, before):
        """What an answer means."""
        if answer.status >= 500 or answer.status in (408, 429):
            return {"state": "failed", "note": f"the site answered {answer.status}"}
        if answer.cache in ("OFF", "UNKNOWN"):
            return {"state": "not_stored", "note": "no cached location answers it"}
        if answer.cache != "BYPASS":
            note = f"nginx answered {answer.cache} where the cache was to be passed"
            return {"state": "failed", "note": note}
        forbidden = forbids(answer)
        deadline = time.monotonic() + (UNLIKELY_SECS_MAX if forbidden else STORED_SECS_MAX)
        while self.inode(key) in (None, before):
            if time.monotonic() > deadline:
                note = forbidden or "nginx did not store the answer, and no header it passes on says why"
                return {"state": "not_stored", "note": note}
            time.sleep(POLL_SECS)
        return {"state": "warmed"}


def forbids(answer):
    """What in an answer forbids storing it; None when nothing does, as far as it tells."""

    def values(name):
        return [value for own, value in answer.headers if own == name]

    given = bool(values("expires"))
    for value in values("cache-control"):
        lower = value.lower()
        age = re.search(r"s-maxage=([0-9]+)", lower) or re.search(r"max-age=([0-9]+)", lower)
        if any(word in lower for word in ("no-cache", "no-store", "private")) or (
            age and not int(age.group(1))
        ):
            return f"the answer says `Cache-Control: {value}`"
        given = given or age is not None
    if answer.status not in (200, 301, 302) and not given:
        return f"PHP answers {answer.status}; only 200, 301 and 302 are stored"
    cookies, vary = values("set-cookie"), (values("vary") or [""])[-1]
    if cookies:
        return f"the answer sets the cookie `{cookies[0].partition('=')[0]}`"
    if vary == "*" or len(vary) > cache.VARY_BYTES_MAX:
        return f"the answer says `Vary: {vary[:cache.VARY_BYTES_MAX]}`"
    return None


def work(module):
    params = module.params
    environment, roots = arguments.environment(module)
    if not environment.fastcgi:
        raise Failure("SPEC_INVALID", "the environment has no FastCGI cache to warm")
    asked = pages(environment.domain, params["urls"])
    applied = environment.applied(roots)
    if applied is None or not applied.enabled:
        raise Failure("CACHE_OFF", "the environment's FastCGI cache is off")
    if not applied.current:
        message = "the environment's nginx files were written by an older release"
        raise Failure("MODE_NOT_SUPPORTED", message, hint="Run env-cache-toggle.yml, then warm it again.")
    cache_dir = environment.fastcgi["cache_dir"]
    opened = ownership.open_own(environment, roots, params["owned"], cache_dir)
    if opened is None:
        raise Failure("CACHE_DIR_MISSING", f"{cache_dir} does not exist")
    concurrency = max(1, min(params["concurrency"], CONCURRENCY_MAX))
    with opened, ThreadPoolExecutor(concurrency) as pool:
        warmer = Warmer(environment, opened, applied.secret, params["wanted_at"], module.check_mode)
        lines = list(pool.map(warmer.one, params["urls"], asked))
    document = result(lines)
    document["concurrency"] = min(concurrency, max(1, len(asked)))
    message = "{warmed} pages warmed, {fresh} were warm, {not_stored} not stored, {failed} failed".format(
        **document
    )
    return document["warmed"] > 0, message, document


def result(lines):
    """The counts; a site in trouble is a failure, single bad pages are none."""
    states = [line["state"] for line in lines]
    document = {state: states.count(state) for state in STATES}
    document["urls"] = lines
    failed = document["failed"]
    good = document["warmed"] + document["fresh"] + document["not_stored"]
    notes = [line["note"] for line in lines if line["state"] == "failed"]
    if failed >= FAILURES_IN_A_ROW_MAX and document["dropped"]:
        what = f"{FAILURES_IN_A_ROW_MAX} pages failed one after the other"
        raise Failure("WARM_FAILED", f"{what}, the last one: {notes[-1]}")
    if failed and not good:
        raise Failure("WARM_FAILED", f"all {failed} pages failed, the last one: {notes[-1]}")
    return document


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
