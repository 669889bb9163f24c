"""Makes the modules and what they share importable, as Ansible does when it runs them."""

import os
import sys

import ansible.module_utils

HERE = os.path.dirname(os.path.abspath(__file__))
PLAYBOOKS = os.path.dirname(HERE)
ansible.module_utils.__path__.append(os.path.join(PLAYBOOKS, "module_utils"))
sys.path.insert(0, os.path.join(PLAYBOOKS, "library"))


def environment(root="/srv/shop", **changes):
    """An environment document whose files lie below `root`."""
    document = {
        "id": "env_00000000000000000000000001",
        "site": "shop",
        "name": "production",
        "domain": "shop.test",
        "kind": "php",
        "docroot": f"{root}/public",
        "user": "www-data",
        "nginx": {
            "http_file": f"{root}/nginx/http.conf",
            "server_file": f"{root}/nginx/server.conf",
            "location_file": f"{root}/nginx/location.conf",
            "probe_origin": "http://127.0.0.1:8080",
        },
        "fastcgi": {
            "cache_dir": f"{root}/cache",
            "key_format": "$scheme$request_method$host$request_uri",
            "zone_mib": 1,
            "size_mib_max": 64,
            "inactive_secs": 3600,
            "valid_secs": 600,
        },
        "health": {"path": "/", "status": 200, "timeout_ms": 1000},
    }
    document.update(changes)
    return document
