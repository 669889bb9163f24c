"""How a module ends: with what it did, or with a stable code.

Every module answers one dictionary named `hostler` beside Ansible's own keys. `state` in it is
`done` unless it says otherwise: `skipped` (there was nothing to do), `none` (nothing worth a step of
its own). On failure it holds `code`, and where it fits `hint`, `command`, `rc` and `output`.
No secret ever stands in it.
"""

import traceback

# Bytes kept of a command's output: the last ones.
OUTPUT_BYTES_MAX = 10 * 1024


class Failure(Exception):
    """A failure with the code the agent uses for the same thing."""

    def __init__(self, code, message, hint=None, command=None, rc=None, output=None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.command = command
        self.rc = rc
        self.output = output

    def document(self):
        """What goes into `hostler`."""
        document = {"code": self.code}
        for key in ("hint", "command", "rc"):
            if getattr(self, key) is not None:
                document[key] = getattr(self, key)
        if self.output is not None:
            document["output"] = self.output[-OUTPUT_BYTES_MAX:]
        return document


def finish(module, work):
    """Runs `work(module)`, which answers (changed, message, document), and ends the module."""
    try:
        changed, message, document = work(module)
    except Failure as failure:
        module.fail_json(msg=failure.message, hostler=failure.document())
    except OSError as error:
        module.fail_json(msg=str(error), hostler={"code": "FILE_FAILED"}, exception=traceback.format_exc())
    else:
        document.setdefault("state", "done")
        diff = document.pop("diff", [])
        module.exit_json(changed=changed, msg=message, hostler=document, diff=diff)
