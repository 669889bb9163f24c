#!/usr/bin/python3
"""Looks at everything that could refuse a change of an environment's caches."""

DOCUMENTATION = r"""
module: hostler_look
short_description: Look at what a change of an environment's caches would stumble over
description:
  - Checks the environment, says which configuration is applied, and whether the Redis switch can be put
    and the cache directory can be used.
  - Puts back what an earlier run left half-changed; changes nothing else.
options:
  fastcgi_enabled: {description: What the FastCGI cache is to be., type: bool}
  redis_enabled: {description: What the Redis cache is to be., type: bool}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(applied) (generation and flag, or null), C(next_generation), C(redis) (what would change),
    C(never_on) (the FastCGI cache is off, and nothing of ours was ever put in force).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, ownership, switch
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.swap import Swap


def work(module):
    params = module.params
    environment, roots = arguments.environment(module)
    put_back = recover(module, environment, roots)
    redis = None
    if params["redis_enabled"] is not None:
        if not environment.redis:
            raise Failure("SPEC_INVALID", "the environment has no Redis to switch")
        wanted = params["redis_enabled"]
        plan = switch.plan(environment, roots, wanted, params["edit_wp_config"])
        redis = {"changes": bool(plan.changes), "code": plan.changes_code, "words": plan.words}
    if params["fastcgi_enabled"] is not None and not environment.fastcgi:
        raise Failure("SPEC_INVALID", "the environment has no FastCGI cache to switch")
    never_on = params["fastcgi_enabled"] is False and environment.untouched(roots)
    if params["fastcgi_enabled"] is not None and not never_on:
        environment.check_rendering()
        ownership.claim(environment, roots, params["owned"])
    applied = environment.applied(roots)
    found = {"generation": applied.generation, "enabled": applied.enabled} if applied else None
    document = {
        "state": "none",
        "applied": found,
        "next_generation": applied.generation + 1 if applied else 1,
        "redis": redis,
        "never_on": never_on,
    }
    message = f"{put_back} files of a run that was cut off are put back" if put_back else "looked at"
    return put_back > 0, message, document


def recover(module, environment, roots):
    """Puts back what an earlier run left half-changed; says how many files."""
    swap = Swap(roots, module.params["state_dir"], environment.id)
    if not swap.files or module.check_mode:
        return 0
    changed = swap.undo()
    if changed:
        # The run that was cut off may have told nginx of its files.
        arguments.nginx(module).reload()
    swap.forget()
    return len(changed)


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "fastcgi_enabled": {"type": "bool"},
            "redis_enabled": {"type": "bool"},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
