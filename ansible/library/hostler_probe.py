#!/usr/bin/python3
"""Asks the live configuration what it is and what it does."""

DOCUMENTATION = r"""
module: hostler_probe
short_description: Prove what a configuration does by asking it
description:
  - C(generation) waits until the new configuration answers. C(effect) proves that requests go through the
    cache, or past it. C(health) asks for the health page past the page cache, where one is applied.
  - No probe fills or reads a visitor's entry. The secret a probe presents is read from the http file.
options:
  state: {description: What to ask., type: str, required: true, choices: [generation, effect, health]}
  enabled: {description: Whether the cache is to be on (C(effect))., type: bool, default: true}
  mark: {description: Where the error log ended before the reload (C(generation))., type: int, default: 0}
  workers: {description: Workers of before the reload (C(generation))., type: list, elements: int, default: []}
  before: {description: 'What the health page answered before, if it is to answer so again.', type: int}
  code: {description: 'Whether code was changed, so that the health page has to answer for a while.', type: bool, default: false}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(generation), C(status) or C(proof), by what was asked.
  returned: always
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.probe import Live

# How long a site is watched after its code changed: PHP looks at a file it has compiled only every
# `opcache.revalidate_freq` seconds, 2 unless configured.
WATCH_SECS = 2.5
POLL_SECS = 0.25


def work(module):
    environment, roots = arguments.environment(module)
    applied = environment.applied(roots)
    if module.params["state"] == "health":
        return health(module, Live(environment, applied.secret if applied else "", roots))
    if applied is None:
        raise Failure("PROBE_FAILED", "there is no configuration of this environment to ask")
    live = Live(environment, applied.secret, roots)
    states = {"generation": generation, "effect": effect}
    return states[module.params["state"]](module, live, applied)


def generation(module, live, applied):
    nginx, mark = arguments.nginx(module), module.params["mark"]
    started = time.monotonic()
    workers = set(module.params["workers"])
    live.await_generation(nginx, applied.generation, mark, workers, module.params["reload_secs"])
    # A new configuration is live before the old one is gone.
    nginx.retired(workers, mark)
    took_ms = round((time.monotonic() - started) * 1000)
    message = f"generation {applied.generation} answered after {took_ms} ms"
    return False, message, {"generation": applied.generation}


def effect(module, live, _applied):
    proof = live.prove(module.params["enabled"])
    return False, proof, {"proof": proof}


def health(module, live):
    """Asks for the health page; with `before`, it has to answer as expected or as it did then, and for a
    while if code was changed."""
    before, expected = module.params["before"], int(live.environment.health["status"])
    path = live.environment.health["path"]
    deadline = time.monotonic() + (WATCH_SECS if module.params["code"] else 0)
    while True:
        try:
            status = live.health()
        except Failure as failure:
            if before is None:
                raise
            message = f"{path} answered {before} before the change, now: {failure.message}"
            raise Failure("HEALTH_FAILED", message) from None
        if before is not None and status not in (before, expected):
            raise Failure("HEALTH_FAILED", f"{path} answered {before} before the change, {status} now")
        if time.monotonic() >= deadline:
            return False, f"{path} answered {status}", {"status": status}
        time.sleep(POLL_SECS)


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "state": {"type": "str", "required": True, "choices": ["generation", "effect", "health"]},
            "enabled": {"type": "bool", "default": True},
            "mark": {"type": "int", "default": 0},
            "workers": {"type": "list", "elements": "int", "default": []},
            "before": {"type": "int"},
            "code": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
