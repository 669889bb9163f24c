"""Arguments that every module takes, whether it needs them all or not, so that playbooks write them once."""

from ansible.module_utils.hostler.environment import Environment
from ansible.module_utils.hostler.nginx import Nginx
from ansible.module_utils.hostler.paths import Roots

COMMON = {
    "environment": {"type": "dict", "required": True},
    # Directories below which files may be touched; none: everywhere, but never through a link.
    "roots": {"type": "list", "elements": "path", "default": []},
    # Cache directories known to be the environment's own; not given: the one its http file declares.
    "owned": {"type": "list", "elements": "path"},
    # Where the record of a change lies until it is committed.
    "state_dir": {"type": "path", "default": "/var/lib/hostler-ansible"},
    "edit_wp_config": {"type": "bool", "default": True},
    "nginx": {
        "type": "dict",
        "default": {},
        "options": {
            "command": {"type": "list", "elements": "str", "default": ["nginx"]},
            "pid_file": {"type": "path", "default": "/run/nginx.pid"},
            "error_log": {"type": "path", "default": "/var/log/nginx/error.log"},
        },
    },
    # Longest wait for a new configuration to answer.
    "reload_secs": {"type": "int", "default": 15},
}


def environment(module):
    """The environment and where its files may be."""
    return Environment(module.params["environment"]), Roots(module.params["roots"])


def nginx(module):
    """The nginx of the host."""
    given = module.params["nginx"]
    return Nginx(given["command"], given["pid_file"], given["error_log"])
