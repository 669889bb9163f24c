#!/usr/bin/python3
"""Turns an application's use of Redis on or off."""

DOCUMENTATION = r"""
module: hostler_switch
short_description: Turn an application's use of Redis on or off
description:
  - Writes the C(php) application's switch file, or the marked block in WordPress's C(wp-config.php) and the
    drop-in of the installed plugin. What is somebody else's is never touched.
options:
  enabled: {description: Whether the application is to use Redis., type: bool, required: true}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: Only C(state).
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments, switch
from ansible.module_utils.hostler.outcome import finish
from ansible.module_utils.hostler.swap import Swap


def work(module):
    environment, roots = arguments.environment(module)
    enabled, may_edit = module.params["enabled"], module.params["edit_wp_config"]
    plan = switch.plan(environment, roots, enabled, may_edit)
    if not plan.changes:
        return False, "it stands as wanted", {"state": "skipped"}
    if not module.check_mode:
        swap = Swap(roots, module.params["state_dir"], environment.id)
        swap.watch([path for path, *_ in plan.changes])
        for path, data, mode, owner in plan.changes:
            swap.put(path, data, mode, owner)
    return True, plan.words, {}


def main():
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "enabled": {"type": "bool", "required": True},
        },
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
