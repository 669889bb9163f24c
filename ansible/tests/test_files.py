"""Paths are opened without following links; several files change as one; whose a directory is."""

import os
import tempfile
import unittest

import support
from ansible.module_utils.hostler import ownership
from ansible.module_utils.hostler.environment import Environment
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.paths import Roots
from ansible.module_utils.hostler.swap import Swap


class Files(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = os.path.realpath(directory.name)
        self.roots = Roots([self.root])

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def code(self, work, *arguments):
        with self.assertRaises(Failure) as caught:
            work(*arguments)
        return caught.exception.code

    def test_links_and_what_lies_outside_are_refused(self):
        os.makedirs(self.path("real"))
        os.symlink(self.path("real"), self.path("link"))
        os.symlink("/etc/passwd", self.path("real/file"))
        self.assertEqual(self.code(self.roots.dir, self.path("link")), "PATH_IS_SYMLINK")
        self.assertEqual(self.code(self.roots.read, self.path("link/x")), "PATH_IS_SYMLINK")
        self.assertEqual(self.code(self.roots.read, self.path("real/file")), "PATH_IS_SYMLINK")
        for outside in ["/etc/passwd", "relative", self.path("../x"), self.root + "x/y"]:
            self.assertEqual(self.code(self.roots.read, outside), "PATH_OUTSIDE_ROOTS", outside)
        self.assertEqual(self.code(self.roots.dir, self.path("nowhere")), "PATH_MISSING")
        self.assertIsNone(self.roots.read(self.path("nowhere/x")))
        self.assertEqual(self.code(Roots([]).read, self.path("link/x")), "PATH_IS_SYMLINK")

    def test_only_the_last_levels_are_made(self):
        with self.roots.make_dir(self.path("a/b")):
            pass
        self.assertEqual(self.code(self.roots.make_dir, self.path("a/c/d/e")), "PATH_MISSING")
        self.assertFalse(os.path.exists(self.path("a/c")))

    def test_a_swap_is_undone_whoever_undoes_it(self):
        state = self.path("state")
        old, new, gone = self.path("old"), self.path("new"), self.path("gone")
        for path in (old, gone):
            self.roots.write(path, b"before", 0o640)
        swap = Swap(self.roots, state, "env_x")
        swap.watch([old, new, gone])
        swap.put(old, b"after", 0o600)
        swap.put(new, b"after", 0o600)
        swap.put(gone, None, None)
        self.assertEqual(self.code(swap.put, self.path("unwatched"), b"", 0o600), "INTERNAL_ERROR")
        # As the next run finds it after a kill.
        found = Swap(self.roots, state, "env_x")
        self.assertEqual(sorted(found.undo()), sorted([old, new, gone]))
        self.assertEqual(self.roots.read(old).data, b"before")
        self.assertEqual(self.roots.read(old).mode, 0o640)
        self.assertEqual(self.roots.read(gone).data, b"before")
        self.assertIsNone(self.roots.read(new))
        found.forget()
        self.assertEqual(os.listdir(state), [])

    def test_only_a_directory_that_was_empty_becomes_a_cache(self):
        environment = Environment(support.environment(self.root))
        ownership.claim(environment, self.roots, None)
        os.makedirs(self.path("cache/x"))
        self.assertEqual(self.code(ownership.claim, environment, self.roots, None), "CACHE_DIR_NOT_OURS")
        ownership.claim(environment, self.roots, [self.path("cache")])
        os.makedirs(self.path("nginx"))
        declared = environment.mark + f"\n\nfastcgi_cache_path {self.path('cache')} levels=1:2;\n".encode()
        self.roots.write(environment.files[0], declared, 0o640)
        ownership.claim(environment, self.roots, None)
        self.assertEqual(self.code(ownership.claim, environment, self.roots, []), "CACHE_DIR_NOT_OURS")
        inside = Environment(support.environment(self.root, docroot=self.path("cache/public")))
        self.assertEqual(self.code(ownership.claim, inside, self.roots, None), "SPEC_INVALID")


if __name__ == "__main__":
    unittest.main()
