#!/usr/bin/python3
"""Pings the Redis of an environment, or removes the environment's keys from it."""

DOCUMENTATION = r"""
module: hostler_redis
short_description: Ping Redis, or remove the keys of one prefix
description:
  - Keys are found by SCAN and removed by UNLINK in bounded batches, so that neighbours on the same server
    are left alone and never wait for long. The password is read from a file on the host.
options:
  state: {description: What to do., type: str, required: true, choices: [answering, purged]}
  dry_run: {description: Count only., type: bool, default: false}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(found), C(removed), C(bytes) (C(purged)).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, resp
from ansible.module_utils.hostler.outcome import finish


def work(module):
    environment, roots = arguments.environment(module)
    connection = resp.Connection(resp.target(environment.redis, roots))
    if module.params["state"] == "answering":
        connection.ping()
        return False, "PING answered PONG", {}
    dry_run = module.params["dry_run"] or module.check_mode
    found, removed, size = connection.remove_prefix(environment.redis["prefix"], dry_run)
    verb = "would be removed" if dry_run else "removed"
    document = {"found": found, "removed": removed, "bytes": size}
    changed = removed > 0 or (module.check_mode and not module.params["dry_run"] and found > 0)
    return changed, f"{found} keys {verb}", document


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "state": {"type": "str", "required": True, "choices": ["answering", "purged"]},
            "dry_run": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
