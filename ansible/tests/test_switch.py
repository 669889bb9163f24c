"""The switch comes and goes without a trace; what is somebody else's is left alone."""

import os
import tempfile
import unittest

import support
from ansible.module_utils.hostler import switch
from ansible.module_utils.hostler.environment import Environment
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.paths import Roots

CONFIG = (
    "<?php\n// define( 'WP_REDIS_DISABLED', true );\ndefine( 'DB_NAME', 'x' ); # it's\n"
    "/* That's all */\nrequire_once 'wp-settings.php';\n"
)
DROPIN = "<?php\n/*\nPlugin Name: Redis Object Cache Drop-In\n*/\n"


class Constants(unittest.TestCase):
    def test_the_block_comes_and_goes_without_a_trace(self):
        off = switch.with_switch(CONFIG, True)
        self.assertTrue(off.startswith("<?php\n/* BEGIN Hostler"), off)
        self.assertIn("\ndefine( 'WP_REDIS_DISABLED', true );\n", off)
        on = switch.with_switch(off, False)
        self.assertIn("\ndefine( 'WP_REDIS_DISABLED', false );\n", on)
        self.assertEqual(switch.with_switch(on, False), on)
        self.assertEqual(switch.without_block(on), CONFIG)

    def test_a_define_of_somebody_else_is_left_alone(self):
        theirs = [
            "define('WP_REDIS_DISABLED', true);",
            'define ( "WP_REDIS_DISABLED" , false );',
            "DEFINE('WP_REDIS_DISABLED', true);",
            "const WP_REDIS_DISABLED = true;",
            "const  WP_REDIS_DISABLED=true;",
            "$a = '/*'; define('WP_REDIS_DISABLED', true); $b = '*/';",
        ]
        for line in theirs:
            with self.assertRaises(Failure, msg=line) as caught:
                switch.with_switch(f"<?php\n{line}\n", True)
            self.assertEqual(caught.exception.code, "WP_CONFIG_FOREIGN")
        for line in [
            "/* define('WP_REDIS_DISABLED', true); */",
            "define('WP_REDIS_DISABLED_X', 1);",
            "const WP_REDIS_DISABLED_X = 1;",
            "// const WP_REDIS_DISABLED = true;",
        ]:
            switch.with_switch(f"<?php\n{line}\n", True)

    def test_what_is_not_understood_is_not_edited(self):
        for text in ["", "<html>\n", "<?php define('A', 1);\n", "<?php"]:
            with self.assertRaises(Failure, msg=text) as caught:
                switch.with_switch(text, True)
            self.assertEqual(caught.exception.code, "FILE_FAILED")


class Plans(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = os.path.realpath(directory.name)
        self.roots = Roots([self.root])
        os.makedirs(f"{self.root}/public/wp-content/plugins/redis-cache/includes")

    def write(self, path, text):
        with open(f"{self.root}/{path}", "w", encoding="utf-8") as file:
            file.write(text)

    def plan(self, enabled, kind="wordpress", may_edit=True):
        redis = {"url": "redis://127.0.0.1", "prefix": "a*ü", "switch_file": f"{self.root}/switch.json"}
        environment = Environment(support.environment(self.root, kind=kind, redis=redis))
        return switch.plan(environment, self.roots, enabled, may_edit)

    def code(self, *arguments, **named):
        with self.assertRaises(Failure) as caught:
            self.plan(*arguments, **named)
        return caught.exception.code

    def test_a_php_switch_file(self):
        done = self.plan(True, kind="php")
        self.assertEqual(done.changes[0][1], '{"enabled":true,"prefix":"a*ü"}\n'.encode())
        self.write("switch.json", '{"enabled":true,"prefix":"a*ü"}\n')
        self.assertEqual(self.plan(True, kind="php").changes, [])
        self.write("switch.json", "precious")
        self.assertEqual(self.code(True, kind="php"), "FILE_FOREIGN")

    def test_a_drop_in_of_another_plugin_is_never_overwritten(self):
        self.assertEqual(self.code(True), "PATH_MISSING")
        self.write("public/wp-config.php", CONFIG)
        self.assertEqual(self.code(True), "DROPIN_MISSING")
        self.write("public/wp-content/plugins/redis-cache/includes/object-cache.php", DROPIN)
        self.assertEqual(len(self.plan(True).changes), 2)
        self.assertEqual(self.code(True, may_edit=False), "POLICY_REFUSED")
        self.write("public/wp-content/object-cache.php", "<?php\n/*\nPlugin Name: Memcached\n*/\n")
        self.assertEqual(self.code(True), "DROPIN_FOREIGN")
        self.assertEqual(len(self.plan(False).changes), 1)

    def test_wordpress_may_be_configured_above_its_docroot(self):
        self.write("wp-config.php", CONFIG)
        self.assertEqual(self.plan(False).changes[0][0], f"{self.root}/wp-config.php")


if __name__ == "__main__":
    unittest.main()
