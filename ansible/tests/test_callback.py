"""The callback tells steps and failures, and nothing a task was given."""

import importlib.util
import json
import os
import tempfile
import types
import unittest

import support

PATH = os.path.join(support.PLAYBOOKS, "callback_plugins", "hostler_events.py")


def result(name, told):
    """What Ansible hands a callback, old style."""
    task = types.SimpleNamespace(get_name=lambda: name)
    return types.SimpleNamespace(_result=told, _task=task)


class Callback(unittest.TestCase):
    def setUp(self):
        self.file = tempfile.NamedTemporaryFile()
        self.addCleanup(self.file.close)
        os.environ["HOSTLER_EVENTS"] = self.file.name
        self.addCleanup(os.environ.pop, "HOSTLER_EVENTS")
        spec = importlib.util.spec_from_file_location("hostler_events", PATH)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.callback = module.CallbackModule()
        self.addCleanup(lambda: os.close(self.callback.events))

    def told(self):
        with open(self.file.name, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def test_a_step_is_read_from_the_name_and_data_from_the_module(self):
        data = {"code": "REDIS_DENIED", "state": "done"}
        given = {"invocation": {"module_args": {"password": "sesame"}}, "stdout": "sesame"}
        self.callback.v2_runner_on_failed(
            result("[redis_purge] Remove", {"msg": "no", "hostler": data, **given}), ignore_errors=True
        )
        self.callback.v2_runner_on_ok(result("Look", {"changed": True, **given}))
        failed, done = self.told()
        self.assertEqual((failed["event"], failed["step"], failed["ignored"]), ("failed", "redis_purge", True))
        self.assertEqual((failed["data"], failed["message"]), (data, "no"))
        self.assertEqual((done["event"], done["step"], done["changed"]), ("ok", None, True))
        self.assertNotIn("sesame", json.dumps([failed, done]))

    def test_of_a_module_that_crashed_its_last_words_are_told(self):
        crash = {"msg": "MODULE FAILURE", "rc": 1, "module_stderr": "x" * 50_000 + "Traceback"}
        self.callback.v2_runner_on_failed(result("[swap] Put", crash))
        (failed,) = self.told()
        self.assertEqual(failed["rc"], 1)
        self.assertTrue(failed["module_stderr"].endswith("Traceback"))
        self.assertLessEqual(len(failed["module_stderr"]), 10 * 1024)


if __name__ == "__main__":
    unittest.main()
