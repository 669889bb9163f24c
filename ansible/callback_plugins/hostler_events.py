"""Tells how a run goes, one JSON line an event, to the file named by HOSTLER_EVENTS.

For Hostler's agent, which reads steps and failures from here and not from what Ansible prints. Nothing of
a task's arguments is told, and of its result only what a module of Hostler's says of itself.
"""

import json
import os
import re

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: hostler_events
type: stdout
short_description: One JSON line an event, for Hostler's agent
description: Writes to the file that the environment variable C(HOSTLER_EVENTS) names, and prints nothing.
author: Hostler
"""

# Longest text of a module that failed without a code, in characters.
TEXT_CHARS_MAX = 10 * 1024
STEP = re.compile(r"\[([a-z_]+)\] ")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "hostler_events"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        path = os.environ.get("HOSTLER_EVENTS")
        self.events = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC) if path else None

    def _tell(self, event, **fields):
        if self.events is None:
            return
        line = json.dumps({"event": event, **fields}, default=str).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self.events, line) :]
        except OSError:
            # Nobody listens any more: whoever started this run is gone, and may be putting right what it
            # left. Not one more task may begin.
            os._exit(70)

    def v2_playbook_on_start(self, playbook):
        self._tell("start")

    def v2_playbook_on_no_hosts_matched(self):
        self._tell("no_hosts")

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._tell("task", **self._named(task))

    def v2_runner_on_ok(self, result):
        self._tell_end("ok", result)

    def v2_runner_on_skipped(self, result):
        self._tell_end("skipped", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._tell_end("failed", result, ignored=bool(ignore_errors))

    def v2_runner_on_unreachable(self, result):
        self._tell_end("unreachable", result)

    def v2_playbook_on_stats(self, stats):
        kinds = ("ok", "failures", "dark", "changed", "skipped", "rescued", "ignored")
        self._tell("stats", **{kind: sum(getattr(stats, kind).values()) for kind in kinds})

    @staticmethod
    def _named(task):
        name = task.get_name()
        step = STEP.match(name)
        return {"task": name, "step": step.group(1) if step else None}

    def _tell_end(self, event, result, **fields):
        # Ansible 2.19 renamed both and warns of the old names.
        told = result.result if hasattr(result, "result") else result._result
        task = result.task if hasattr(result, "task") else result._task
        fields.update(self._named(task), changed=bool(told.get("changed")), message=_text(told.get("msg")))
        data = told.get("hostler")
        if isinstance(data, dict):
            fields["data"] = data
        elif event in ("failed", "unreachable"):
            for key in ("rc", "module_stderr", "module_stdout", "stderr", "stdout", "exception"):
                if told.get(key) not in (None, ""):
                    value = told[key]
                    fields[key] = value if isinstance(value, int) else _text(value)
        self._tell(event, **fields)


def _text(value):
    return "" if value is None else str(value)[-TEXT_CHARS_MAX:]
