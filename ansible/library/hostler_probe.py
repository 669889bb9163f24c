#!/usr/bin/python3
"""Asks the live configuration what it is and what it does."""

DOCUMENTATION = r"""
module: hostler_probe
short_description: Prove what a configuration does by asking it
description:
  - C(generation) waits until the new configuration answers. C(effect) proves that requests go through the
    cache, or past it. C(health) asks for the health page past the page cache.
  - No probe fills or reads a visitor's entry. The secret a probe presents is read from the http file.
options:
  state: {description: What to ask., type: str, required: true, choices: [generation, effect, health]}
  enabled: {description: Whether the cache is to be on (C(effect))., type: bool, default: true}
  mark: {description: Where the error log ended before the reload (C(generation))., type: int, default: 0}
  workers: {description: Workers of before the reload (C(generation))., type: list, elements: int, default: []}
  before: {description: 'What the health page answered before, if it is to answer so again.', type: int}
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


def work(module):
    environment, roots = arguments.environment(module)
    applied = environment.applied(roots)
    if applied is None:
        raise Failure("PROBE_FAILED", "there is no configuration of this environment to ask")
    live = Live(environment, applied.secret, roots)
    states = {"generation": generation, "effect": effect, "health": health}
    return states[module.params["state"]](module, live, applied)


def generation(module, live, applied):
    nginx, mark = arguments.nginx(module), module.params["mark"]
    started = time.monotonic()
    live.await_generation(nginx, applied.generation, mark, module.params["reload_secs"])
    # A new configuration is live before the old one is gone.
    nginx.retired(set(module.params["workers"]), mark)
    took_ms = round((time.monotonic() - started) * 1000)
    message = f"generation {applied.generation} answered after {took_ms} ms"
    return False, message, {"generation": applied.generation}


def effect(module, live, _applied):
    proof = live.prove(module.params["enabled"])
    return False, proof, {"proof": proof}


def health(module, live, _applied):
    before = module.params["before"]
    expected = int(live.environment.health["status"])
    path = live.environment.health["path"]
    try:
        status = live.health()
    except Failure:
        if before != expected:
            raise
        message = "the site answered before Redis was switched and does not now"
        raise Failure("HEALTH_FAILED", message) from None
    if before == expected != status:
        message = f"the site answered {expected} before Redis was switched, {status} now"
        raise Failure("HEALTH_FAILED", message)
    return False, f"{path} answered {status}", {"status": status}


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "state": {"type": "str", "required": True, "choices": ["generation", "effect", "health"]},
            "enabled": {"type": "bool", "default": True},
            "mark": {"type": "int", "default": 0},
            "workers": {"type": "list", "elements": "int", "default": []},
            "before": {"type": "int"},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
