"""Probes come to the server that includes our files; the samples are those of
agent/src/host/nginx/listen.rs and agent/src/steps/origin.rs."""

import unittest

import support
from ansible.module_utils.hostler import listen
from ansible.module_utils.hostler.environment import Environment, Origin
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.tree import sightings

ORIGINS = ["http://127.0.0.1", "http://[::1]", "https://127.0.0.1", "https://[::1]"]


class Answer:
    def __init__(self, status, location):
        self.status = status
        self.location = location


class Listens(unittest.TestCase):
    def test_a_listen_says_who_comes_to_it(self):
        cases = {
            "80": [0],
            "*:80 default_server": [0],
            "0.0.0.0": [0],
            "127.0.0.1": [0],
            "127.0.0.1:80": [0],
            "localhost:80": [0, 1],
            "79-81": [0],
            "[::]:80": [1],
            "[::]:80 ipv6only=off": [0, 1],
            "[::1]": [1],
            "443 ssl": [2],
            "443": [2],
            "[::]:443 ssl": [3],
            "192.0.2.1:443 ssl": [],
            "80 ssl": [],
            "8080": [],
        }
        for line, reached in cases.items():
            one = listen.Listen(line.split(" "))
            found = [at for at, text in enumerate(ORIGINS) if one.reached_by(Origin(text))]
            self.assertEqual(found, reached, line)
        for line in ["unix:/run/nginx.sock", "443 quic reuseport", "127.0.0.1:port"]:
            with self.assertRaises(ValueError, msg=line):
                listen.Listen(line.split(" "))

    def test_the_origin_it_suggests_comes_to_it(self):
        for line, expected in [
            ("443 ssl", "https://127.0.0.1:443"),
            ("[::]:8443 ssl", "https://[::1]:8443"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
            ("[2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ]:
            one = listen.Listen(line.split(" "))
            self.assertEqual(one.origin, expected)
            self.assertTrue(one.reached_by(Origin(expected)), line)

    def check(self, servers):
        document = support.environment()
        document["nginx"]["probe_origin"] = "http://127.0.0.1"
        environment = Environment(document)
        dump = f"# configuration file /etc/nginx/nginx.conf:\nhttp {{ {servers} }}\n"
        listen.check(environment, sightings(dump, environment.files))

    def test_the_server_with_our_files_is_the_one_to_ask(self):
        ours = "server_name shop.test; include /srv/shop/nginx/server.conf;"
        for good in [
            f"server {{ {ours} }}",
            f"server {{ listen 80; {ours} }}",
            f"server {{ listen 443 ssl; listen [::]:80; listen 80; {ours} }}",
            f"server {{ listen 443 ssl; {ours} }} server {{ listen 80; {ours} }}",
        ]:
            self.check(good)
        redirect = "server { listen 80; server_name shop.test; return 301 https://$host; }"
        for servers, other in [
            (f"{redirect} server {{ listen 443 ssl; {ours} }}", "https://127.0.0.1:443"),
            (f"server {{ listen 8080; listen 443 ssl; {ours} }}", "https://127.0.0.1:443"),
            (f"server {{ listen [::]:80; {ours} }}", "http://[::1]:80"),
        ]:
            with self.assertRaises(Failure, msg=servers) as caught:
                self.check(servers)
            self.assertEqual(caught.exception.code, "PROBE_ORIGIN_WRONG")
            self.assertIn(other, caught.exception.hint)

    def test_only_a_redirect_to_another_scheme_leads_elsewhere(self):
        for status, location, expected in [
            (301, "https://shop.test/", "https://127.0.0.1:443"),
            (308, "https://shop.test:8443/x", "https://127.0.0.1:8443"),
            (301, "http://www.shop.test/", None),
            (302, "/login", None),
            (200, "https://shop.test/", None),
            (301, None, None),
        ]:
            found = listen.elsewhere(Origin("http://127.0.0.1"), Answer(status, location))
            self.assertEqual(found, expected, location)


if __name__ == "__main__":
    unittest.main()
