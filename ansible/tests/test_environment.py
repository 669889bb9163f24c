"""Keys, pages and origins are what the agent computes; see agent/src/steps/keys.rs."""

import unittest

import support
from ansible.module_utils.hostler.environment import Environment, KeyFormat, Origin, page, pages
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.tracking import canonical

DEFAULT = "$scheme$request_method$host$request_uri"


class Keys(unittest.TestCase):
    def test_a_format_expands_as_nginx_does(self):
        self.assertEqual(
            KeyFormat(DEFAULT).expand("https", "GET", "a.test", "/x?y=1"), b"httpsGETa.test/x?y=1"
        )
        self.assertEqual(
            KeyFormat("v1:$host|$request_uri").expand("https", "GET", "a.test", "/"), b"v1:a.test|/"
        )

    def test_other_variables_and_directive_ends_are_refused(self):
        bad = [
            "$host$uri",
            "$host$request_uri$cookie_x",
            "$hostname$request_uri",
            "$host$request_uri;",
            '$host$request_uri"',
            "$host$request_uri\n",
            "$scheme",
            "",
        ]
        for text in bad:
            with self.subTest(text), self.assertRaises(Failure) as caught:
                KeyFormat(text)
            self.assertEqual(caught.exception.code, "KEY_FORMAT_UNSUPPORTED")

    def test_a_page_has_a_key_per_scheme_method_and_spelling(self):
        self.assertEqual(len(KeyFormat(DEFAULT).keys(page("http://a.test/x"))), 4)
        keys = KeyFormat(DEFAULT).keys(page("http://a.test/%c3%BC"))
        self.assertEqual(len(keys), 12)
        self.assertIn(b"httpsHEADa.test/%c3%bc", keys)
        self.assertIn(b"httpGETa.test/%C3%BC", keys)
        keys = KeyFormat(DEFAULT).keys(page("http://a.test/x?utm_source=m"), ["http"])
        self.assertIn(b"httpGETa.test/x", keys)
        self.assertIn(b"httpGETa.test/x?utm_source=m", keys)

    def test_tracking_arguments_are_left_out_of_keys(self):
        # The samples are those of agent/src/steps/tracking.rs.
        cases = {
            "/a?utm_source=x": "/a",
            "/a?_ga=1&_gl=2&gclid": "/a",
            "/a?b=1&utm_x=1": "/a?b=1",
            "/a?utm_x=1&b=1": "/a?b=1",
            "/a?b&utm_a&c&fbclid=3&gclid&d&_ga=1": "/a?b&c&d",
            "/a?1&utm_a&2&utm_b&3&utm_c&4&utm_d&5": "/a?1&2&3&4&utm_d&5",
            "/a?&utm_a=1": "/a?",
            "/a?utm_a=1&": "/a?",
        }
        same = ["/a", "/a?", "/a?b=utm_a=1", "/a?fbclidx=1", "/a?x?utm_a=1", "/utm_a?b&&"]
        for uri, expected in [*cases.items(), *zip(same, same)]:
            self.assertEqual(canonical(uri), expected, uri)
        document = support.environment()
        document["nginx"]["probe_origin"] = "https://127.0.0.1"
        self.assertEqual(Environment(document).key("/x?fbclid=1"), b"httpsGETshop.test/x")

    def test_a_url_becomes_what_nginx_sees(self):
        cases = {
            "http://A.test": ("a.test", "/"),
            "https://a.test:8443/x?y#z": ("a.test", "/x?y"),
            "http://a.test.:80#/x": ("a.test", "/"),
            "http://a.test?q=1": ("a.test", "/?q=1"),
            "http://a.test/ü b": ("a.test", "/%C3%BC%20b"),
        }
        for url, expected in cases.items():
            self.assertEqual(page(url)[:2], expected, url)
        self.assertEqual(page("HTTPS://a.test/").scheme, "https")
        for url in [
            "a.test/",
            "ftp://a.test/",
            "http://",
            "http://.",
            "http://u@a.test/",
            "http://a.test:65536/",
            "http://a.test:1:2/",
            "http://a:b/",
            "http://a/" + "x" * 9000,
        ]:
            self.assertIsNone(page(url), url)

    def test_pages_of_others_are_refused(self):
        for urls, code in [
            (["http://blog.test/"], "URL_FOREIGN"),
            (["http://shop.test../"], "URL_FOREIGN"),
            (["/path/only"], "SPEC_INVALID"),
            (["http://shop.test/"] * 10_001, "SPEC_INVALID"),
        ]:
            with self.assertRaises(Failure) as caught:
                pages("shop.test", urls)
            self.assertEqual(caught.exception.code, code)


class Documents(unittest.TestCase):
    def test_what_could_be_a_directive_is_refused(self):
        Environment(support.environment()).check_rendering()
        bad = support.environment(domain='a.test"')
        other = support.environment()
        other["fastcgi"]["cache_dir"] = "/var/cache; load_module /tmp/x"
        for document in (bad, other):
            with self.assertRaises(Failure) as caught:
                Environment(document).check_rendering()
            self.assertEqual(caught.exception.code, "SPEC_INVALID")

    def test_what_is_missing_or_would_be_run_is_refused(self):
        script = support.environment()
        script["nginx"]["http_file"] = "/srv/shop/x.php"
        for document in (
            {},
            script,
            support.environment(id="../x"),
            support.environment(kind="perl"),
            support.environment(health={"path": "x", "status": 200, "timeout_ms": 1}),
        ):
            with self.assertRaises(Failure) as caught:
                Environment(document)
            self.assertEqual(caught.exception.code, "SPEC_INVALID")

    def test_origins_are_read(self):
        origin = Origin("http://127.0.0.1:8080")
        self.assertEqual((origin.scheme, origin.host, origin.port), ("http", "127.0.0.1", 8080))
        self.assertEqual((Origin("https://[::1]/").host, Origin("https://[::1]/").port), ("::1", 443))
        for bad in ["127.0.0.1", "ftp://a", "http://", "http://a@b", "http://a/b", "http://a:x"]:
            with self.assertRaises(Failure, msg=bad):
                Origin(bad)


if __name__ == "__main__":
    unittest.main()
