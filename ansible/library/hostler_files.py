#!/usr/bin/python3
"""Changes the three nginx files of an environment as one."""

DOCUMENTATION = r"""
module: hostler_files
short_description: Put the nginx files of an environment, and take them back
description:
  - C(compared) says whether the files are as wanted and live already. C(kept) makes the previous ones
    durable, C(present) replaces them, C(restored) puts them back (and reloads and proves the old
    configuration if C(reloaded)), C(committed) forgets the previous ones.
  - The probe secret stands in the files and nowhere else. A text holds C({hostler_secret}) and
    C({hostler_generation}) where they belong.
options:
  state:
    description: What to do.
    type: str
    required: true
    choices: [compared, kept, present, restored, committed]
  contents: {description: 'The three texts: http, server, location.', type: list, elements: str}
  moved: {description: Files of before the environment named others; emptied., type: list, elements: path, default: []}
  generation: {description: The generation the files carry., type: int, default: 0}
  applied_generation: {description: The generation that was applied last, if that is known., type: int}
  secret_file: {description: A file with the new probe secret; not given, one is drawn., type: path}
  reloaded: {description: Whether nginx has been told of the files., type: bool, default: false}
notes:
  - The arguments every module of Hostler takes are told in docs/ANSIBLE.md.
author: Hostler
"""
RETURN = r"""
hostler:
  description: C(already), C(was_on), C(generation) (C(compared)); C(generation) (C(present)).
  returned: always
  type: dict
"""

import re
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.hostler import arguments
from ansible.module_utils.hostler.environment import GENERATION_PLACE, SECRET_PLACE
from ansible.module_utils.hostler.outcome import Failure, finish
from ansible.module_utils.hostler.probe import Live
from ansible.module_utils.hostler.swap import Swap

# Requests that must all be answered by the recorded generation before it counts as live: after a reload
# that was cut off, workers of two configurations may answer for a moment.
LIVE_PROBES = 4
# The http file holds the secret.
MODES = (0o640, 0o644, 0o644)
REDACTED = re.compile(r'"(effect|peek|past|refresh|generation):[0-9a-f]+"')


def work(module):
    environment, roots = arguments.environment(module)
    swap = Swap(roots, module.params["state_dir"], environment.id)
    states = {
        "compared": compared,
        "kept": kept,
        "present": present,
        "restored": restored,
        "committed": committed,
    }
    return states[module.params["state"]](module, environment, roots, swap)


def filled(texts, generation, secret):
    """The texts with generation and secret in their places."""
    return [
        text.replace(GENERATION_PLACE, str(generation)).replace(SECRET_PLACE, secret).encode()
        for text in texts
    ]


def compared(module, environment, roots, _swap):
    applied = environment.applied(roots)
    document = {"state": "none", "already": False, "was_on": bool(applied and applied.enabled)}
    if applied is None:
        return False, "nothing is applied yet", document
    wanted = filled(module.params["contents"], applied.generation, applied.secret)
    known = module.params["applied_generation"]
    if known is not None and known != applied.generation:
        return False, "the files are not those that were applied last", document
    same = [content.data for content in map(roots.read, environment.files)] == wanted
    if not same or not is_live(Live(environment, applied.secret, roots), applied.generation):
        return False, "the files are to be changed", document
    document.update(state="skipped", already=True, generation=applied.generation)
    return False, "the files are as wanted and live", document


def is_live(live, generation):
    """Whether nothing but this generation answers."""
    for _ in range(LIVE_PROBES):
        try:
            if live.generation() != generation:
                return False
        except Failure:
            return False
    return True


def kept(module, environment, _roots, swap):
    if not module.check_mode:
        swap.watch(environment.files + module.params["moved"])
    return False, "the previous files are kept", {}


def present(module, environment, roots, swap):
    generation = module.params["generation"]
    wanted = filled(module.params["contents"], generation, secret(module, roots))
    diff = [difference(roots, path, data) for path, data in zip(environment.files, wanted)]
    if not module.check_mode:
        for path, data, mode in zip(environment.files, wanted, MODES):
            swap.put(path, data, mode)
        for path in module.params["moved"]:
            # Emptied, not removed: a vhost may still name it.
            swap.put(path, b"", 0o644)
    document = {"generation": generation, "diff": diff}
    return True, f"three files carry generation {generation}", document


def secret(module, roots):
    """The probe secret: given by a file, or drawn."""
    path = module.params["secret_file"]
    if not path:
        return secrets.token_hex(12)
    with open(path, encoding="ascii") as file:
        text = file.read().strip()
    if not re.fullmatch("[0-9a-f]{16,128}", text):
        raise Failure("SPEC_INVALID", f"{path} holds no probe secret")
    return text


def difference(roots, path, data):
    """What changes in a file, for `--diff`; without the secret."""
    now = roots.read(path)
    texts = [now.data if now else b"", data]
    before, after = (REDACTED.sub(r'"\1:[redacted]"', text.decode("utf-8", "replace")) for text in texts)
    return {"before": before, "after": after, "before_header": path, "after_header": path}


def restored(module, environment, roots, swap):
    if not swap.files or module.check_mode:
        return False, "nothing was changed", {"state": "none"}
    try:
        attempt = environment.applied(roots)
        changed = swap.undo()
        proof = "nginx has not heard of the new ones"
        if module.params["reloaded"]:
            proof = reload_old(module, environment, roots, attempt)
        swap.forget()
    except Failure as failure:
        raise Failure("NGINX_ROLLBACK_FAILED", failure.message) from None
    return True, f"{len(changed)} files are as they were; {proof}", {"state": "rolled_back"}


def reload_old(module, environment, roots, attempt):
    """Tells nginx of files that were put back, and proves that it goes by them: the generation of before
    answers again, or, where there was none, that of the attempt no more. An nginx that does not run needs
    no telling."""
    nginx = arguments.nginx(module)
    mark, workers = nginx.log_mark(), nginx.accepting_workers()
    try:
        nginx.reload()
        proof = prove_old(module, environment, roots, attempt, (nginx, mark, workers))
    except Failure:
        if nginx.runs():
            raise
        return "nginx is not running and will load them when it starts"
    nginx.retired(workers, mark)
    return proof


def prove_old(module, environment, roots, attempt, before):
    (nginx, mark, workers), secs_max = before, module.params["reload_secs"]
    applied = environment.applied(roots)
    if applied:
        live = Live(environment, applied.secret, roots)
        live.await_generation(nginx, applied.generation, mark, workers, secs_max)
        return f"generation {applied.generation} answers again"
    if attempt:
        Live(environment, attempt.secret, roots).await_gone(nginx, attempt.generation, mark, secs_max)
        return f"generation {attempt.generation} answers no more"
    return "nginx was told to reload; there is nothing to ask it by"


def committed(module, _environment, _roots, swap):
    if not module.check_mode:
        swap.forget()
    return False, "the previous files are forgotten", {"state": "none"}


def main():
    states = ["compared", "kept", "present", "restored", "committed"]
    module = AnsibleModule(
        argument_spec={
            **arguments.COMMON,
            "state": {"type": "str", "required": True, "choices": states},
            "contents": {"type": "list", "elements": "str"},
            "moved": {"type": "list", "elements": "path", "default": []},
            "generation": {"type": "int", "default": 0},
            "applied_generation": {"type": "int"},
            "secret_file": {"type": "path", "no_log": False},
            "reloaded": {"type": "bool", "default": False},
        },
        required_if=[("state", "compared", ["contents"]), ("state", "present", ["contents", "generation"])],
        supports_check_mode=True,
    )
    finish(module, work)


if __name__ == "__main__":
    main()
