"""Entries of nginx's cache on disk: found by key, with their variants, and nothing else touched."""

import os
import struct
import tempfile
import unittest

import support
from ansible.module_utils.hostler import cache
from ansible.module_utils.hostler.environment import md5
from ansible.module_utils.hostler.paths import Roots


class Cache(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = os.path.realpath(directory.name)
        self.path = os.path.join(self.root, "cache")
        os.mkdir(self.path)
        self.roots = Roots([self.root])
        self.cache = self.roots.dir(self.path)
        self.addCleanup(self.cache.__exit__)

    def store(self, key, name=None, version=5, vary=b""):
        """Puts an entry as nginx writes it; its path."""
        head = bytearray(336)
        struct.pack_into("<Qq", head, 0, version, 2_000_000_000)
        head[187] = len(vary)
        head[188 : 188 + len(vary)] = vary
        name = name or md5(key)
        path = os.path.join(self.path, name[-1], name[-3:-1])
        os.makedirs(path, exist_ok=True)
        path = os.path.join(path, name)
        with open(path, "wb") as file:
            file.write(bytes(head) + b"\nKEY: " + key + b"\npage")
        return path

    def test_an_entry_is_voided_before_it_goes(self):
        path = self.store(b"httpGETa.test/")
        with open(path, "rb") as held:
            tally = cache.find(self.cache, b"httpGETa.test/").remove()
            self.assertEqual(held.read(8), b"\0" * 8)
        self.assertEqual((tally.found, tally.removed), (1, 1))
        self.assertFalse(os.path.exists(path))
        self.assertIsNone(cache.find(self.cache, b"httpGETa.test/"))

    def test_an_entry_of_another_key_at_the_same_place_is_none(self):
        self.store(b"other", name=md5(b"key"))
        self.assertIsNone(cache.find(self.cache, b"key"))

    def test_an_entry_of_an_unknown_format_is_removed_and_not_written_to(self):
        path = self.store(b"key", version=9)
        entry = cache.find(self.cache, b"key")
        self.assertTrue(entry.varies)
        with open(path, "rb") as held:
            entry.remove()
            self.assertEqual(held.read(1), b"\x09")

    def test_a_link_in_place_of_an_entry_is_left_alone(self):
        path = self.store(b"key")
        os.rename(path, self.root + "/elsewhere")
        os.symlink(self.root + "/elsewhere", path)
        found = []
        cache.sweep_variants(self.cache, {b"no": 0}, False, lambda *told: found.append(told))
        self.assertEqual(found, [])
        self.assertTrue(os.path.exists(self.root + "/elsewhere"))

    def test_variants_go_with_their_page(self):
        self.store(b"page", vary=b"X-A")
        variants = [self.store(b"page", name=f"{number:032x}", vary=b"X-A") for number in range(3)]
        other = self.store(b"other", name="f" * 32)
        tally = cache.Tally()
        cache.sweep_variants(self.cache, {b"page": 0}, True, lambda _, one: tally.add(one))
        self.assertEqual((tally.found, tally.removed), (4, 0))
        cache.sweep_variants(self.cache, {b"page": 0}, False, lambda _, one: tally.add(one))
        self.assertEqual(tally.removed, 4)
        self.assertFalse(any(map(os.path.exists, variants)))
        self.assertTrue(os.path.exists(other))

    def test_a_variant_is_known_by_what_was_sent_for_it(self):
        # As in agent/src/host/fastcgi/vary.rs.
        def by(**sent):
            sent = {name.replace("_", "-"): value for name, value in sent.items()}
            return cache.variant(b"key", b"Accept-Encoding, X-One", sent)

        self.assertEqual(by(), by(user_agent="x"))
        self.assertEqual(by(accept_encoding="gzip,br"), by(accept_encoding="gzip , br"))
        self.assertNotEqual(by(x_one="a,b"), by(x_one="a, b"))
        self.assertNotEqual(by(), cache.variant(b"other", b"Accept-Encoding, X-One", {}))

    def test_everything_leaves_at_once_and_only_level_directories_do(self):
        for number in range(20):
            self.store(b"key%d" % number)
        kept = os.path.join(self.path, "precious")
        os.mkdir(kept)
        tally, whole = cache.remove_all(self.roots, self.cache, "bin")
        self.assertEqual((tally.found, tally.removed, whole), (20, 20, True))
        self.assertEqual(os.listdir(self.path), ["precious"])
        self.assertEqual(os.listdir(os.path.join(self.root, cache.TRASH)), [])

    def test_where_nothing_can_be_set_aside_entries_go_one_by_one(self):
        self.store(b"key")
        open(os.path.join(self.root, cache.TRASH), "w", encoding="ascii").close()
        tally, _ = cache.remove_all(self.roots, self.cache, "bin")
        self.assertEqual((tally.found, tally.removed), (1, 1))

    def test_links_go_and_what_they_lead_to_stays(self):
        elsewhere = os.path.join(self.root, "elsewhere")
        os.mkdir(elsewhere)
        trash = os.path.join(self.root, cache.TRASH)
        for aside in (True, False):
            entry = self.store(b"key")
            first = os.path.dirname(os.path.dirname(entry))
            free = "0" if not first.endswith("0") else "1"
            links = [os.path.join(self.path, free), os.path.join(first, free * 2), entry[:-32] + "ab" * 16]
            for link in links:
                os.symlink(elsewhere, link)
            if not aside:
                os.rmdir(trash)
                open(trash, "w", encoding="ascii").close()
            cache.remove_all(self.roots, self.cache, "bin")
            self.assertEqual([link for link in links if os.path.lexists(link)], [], aside)
            self.assertTrue(os.path.isdir(elsewhere))


if __name__ == "__main__":
    unittest.main()
