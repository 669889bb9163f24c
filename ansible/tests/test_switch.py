"""The switch comes and goes without a trace; what is somebody else's is left alone."""

import os
import tempfile
import unittest

import support
from ansible.module_utils.hostler import php, switch
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

    def test_the_block_stands_behind_what_php_demands_first(self):
        strict = "declare(strict_types=1);"
        for head, rest in [
            (f"<?php\n{strict}\n", "define( 'DB_NAME', 'x' );\n"),
            (f"<?php\n/**\n * {strict}\n */\n{strict} // strict\nnamespace A;\n", "use B;\n"),
            (f"<?php {strict}", " define( 'DB_NAME', 'x' );\n"),
            (f"\ufeff<?php\r\n{strict}\r\n", "require 'x';\r\n"),
            (f"<?php\n{strict}", ""),
        ]:
            off = switch.with_switch(head + rest, True)
            self.assertTrue(off.startswith(f"{head}{switch.BEGIN}\n"), off)
            self.assertEqual(switch.without_block(off), head + rest)
            self.assertEqual(switch.with_switch(off, True), off)
        with self.assertRaises(Failure) as caught:
            switch.with_switch("<?php\nnamespace A {\n}\n", True)
        self.assertEqual(caught.exception.code, "WP_CONFIG_FOREIGN")

    def test_what_is_not_understood_is_not_edited(self):
        for text in ["", "<html>\n", "<?php define('A', 1);\n", "<?php"]:
            with self.assertRaises(Failure, msg=text) as caught:
                switch.with_switch(text, True)
            self.assertEqual(caught.exception.code, "FILE_FAILED")


class Source(unittest.TestCase):
    """The samples are those of agent/src/steps/php.rs."""

    def test_a_definition_is_seen_in_code_only(self):
        for text in [
            "<?php define('A', 1);",
            '<?php\nDEFINE ( /* x */ "A" , 1);',
            "<?php const B = 1, A=2;",
            "<?php $a = '/*'; define('A', 1); $b = '*/';",
            "<?php $a = <<<X\n it's\n  X . 'x'; define('A', 1);",
            "<?php $a = <<<'X'\n/*\nX;\ndefine('A', 1);",
            "<?php // it's ?>\n<b>it's</b>\n<?php define('A', 1);",
            "<?php #[Attribute] define('A', 1);",
        ]:
            self.assertTrue(php.defines(text, "A"), text)
        for text in [
            "<?php /* define('A', 1); */",
            "<?php # define('A', 1);\n// const A = 1;",
            "<?php $a = \"define('A', 1);\";",
            "<?php $a = <<<X\ndefine('A', 1);\nX;",
            "define('A', 1);",
            "<?php define('AA', 1); const AA = 1; $x = A == 1;",
        ]:
            self.assertFalse(php.defines(text, "A"), text)

    def test_the_preamble_ends_where_any_statement_may_stand(self):
        for before, after in [
            ("<?php\ndeclare(strict_types=1);", "\ndefine('A', 1);"),
            ("<?php /** declare(ticks=1); */ DECLARE ( strict_types = 1 ) /* ; */ ;", " $a;"),
            ("<?php\n// x;\ndeclare(encoding=')');\nnamespace A\\B;", "\nuse C;"),
            ("<?php\nnamespace A;", "\nnamespace\\f();"),
        ]:
            self.assertEqual(php.preamble(before + after), len(before), before)
        for text in ["<?php\n", "<?php\n$declare;", "<?php\n\\f();", "<?php # declare(ticks=1);"]:
            self.assertIsNone(php.preamble(text), text)
        for text in [
            "<?php namespace A { f(); }",
            "<?php namespace { f(); }",
            "<?php declare(ticks=1) { f(); }",
            "<?php declare(strict_types=1) ?>",
            "<?php declare(strict_types=1",
            "<?php // x ?>\n<?php declare(strict_types=1);",
        ]:
            with self.assertRaises(php.NotUnderstood, msg=text):
                php.preamble(text)


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

    def test_a_docroot_may_be_a_link_to_a_release_and_to_nothing_else(self):
        release = f"{self.root}/releases/1"
        os.makedirs(f"{release}/public/wp-content")
        self.write("releases/1/public/wp-config.php", CONFIG)
        os.rename(f"{self.root}/public", f"{self.root}/old")
        os.symlink("releases/1/public", f"{self.root}/public")
        self.assertEqual(self.plan(False).changes[0][0], f"{release}/public/wp-config.php")
        for target in ["../elsewhere", "/etc", ".", "public", "releases/../releases/1/public"]:
            os.unlink(f"{self.root}/public")
            os.symlink(target, f"{self.root}/public")
            self.assertEqual(self.code(False), "PATH_IS_SYMLINK", target)

    def test_wordpress_may_be_configured_above_its_docroot(self):
        self.write("wp-config.php", CONFIG)
        self.assertEqual(self.plan(False).changes[0][0], f"{self.root}/wp-config.php")


if __name__ == "__main__":
    unittest.main()
