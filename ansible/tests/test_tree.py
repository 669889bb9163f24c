"""Included files are seen in their blocks; the sample is that of agent/src/host/nginx/tree.rs."""

import unittest

import support
from ansible.module_utils.hostler.environment import Environment
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.tree import glob, parse, sightings
from hostler_nginx import header_level

DUMP = r"""# configuration file /etc/nginx/nginx.conf:
user www-data;
http {
    # include "not this";
    log_format a '$host { ; } "${request}"';
    include sites/*.conf;
    include /srv/shop/nginx/http*.conf;
    content_by_lua_block { local a = { b = "}" } }
}
# configuration file /etc/nginx/sites/a.conf:
server {
    server_name a.test *.b.test shop.test;
    add_header X-Frame-Options DENY;
    include /srv/shop/nginx/server.conf;
    location / { try_files $uri /index.php?$args; }
    location ~ \.php$ { include snippets/php.conf; include /srv/shop/nginx/location.conf; }
}
# configuration file /etc/nginx/snippets/php.conf:
fastcgi_pass unix:/run/php.sock;
# configuration file /srv/shop/nginx/server.conf:
add_header X-Hostler-Cache $hostler;
# configuration file /srv/shop/nginx/location.conf:
fastcgi_cache x;
"""


class Tree(unittest.TestCase):
    def setUp(self):
        self.environment = Environment(support.environment())

    def level(self, dump):
        return header_level(self.environment, sightings(dump, self.environment.files))

    def test_every_file_is_seen_in_its_block(self):
        seen = {
            sighting.file.rsplit("/", 1)[1]: [level.name for level in sighting.levels]
            for sighting in sightings(DUMP, self.environment.files)
        }
        self.assertEqual(
            seen,
            {
                "http.conf": ["http"],
                "server.conf": ["http", "server"],
                "location.conf": ["http", "server", "location"],
            },
        )

    def test_the_header_goes_where_it_takes_none_away(self):
        own = "    add_header X-Frame-Options DENY;\n"
        location = DUMP.replace(own, "").replace("fastcgi_pass unix", "add_header A b;\nfastcgi_pass unix")
        http = DUMP.replace(own, "").replace("user www-data;\nhttp {", "http {\nadd_header A b;")
        both = location.replace("server_name", "add_header C d;\nserver_name")
        for dump, expected in [
            (DUMP, "server"),
            (DUMP.replace(own, ""), "server"),
            (location, "location"),
            (http, "http"),
            (both, "location"),
        ]:
            self.assertEqual(self.level(dump), expected)
        other = "location ~ x { include /srv/shop/nginx/location.conf; add_header E f; }\n    location / {"
        with self.assertRaises(Failure) as caught:
            self.level(DUMP.replace("location / {", other))
        self.assertEqual(caught.exception.code, "NGINX_HEADERS_DROPPED")

    def test_a_missing_include_names_the_line_to_add(self):
        for gone, place in [
            ("    include /srv/shop/nginx/http*.conf;\n", "the `http` block"),
            ("    include /srv/shop/nginx/server.conf;\n", "the `server` block of shop.test"),
        ]:
            with self.assertRaises(Failure) as caught:
                self.level(DUMP.replace(gone, ""))
            self.assertEqual(caught.exception.code, "NGINX_NOT_INCLUDED")
            self.assertTrue(caught.exception.message.endswith(f"to {place}"), caught.exception.message)
        with self.assertRaises(Failure) as caught:
            self.level(DUMP.replace("shop.test;", "other.test;"))
        self.assertIn("a.test *.b.test other.test", caught.exception.message)

    def test_words_are_split_as_nginx_does(self):
        nodes = parse('a "b \\" c" d;# e;\nf { g h\\;i ${j k}; } l')
        self.assertEqual([(node.name, node.args) for node in nodes], [("a", ['b " c', "d"]), ("f", [])])
        self.assertEqual(nodes[1].block[0].name, "g")

    def test_globs_match_as_the_shell_does(self):
        yes = [("/a/*.conf", "/a/b.conf"), ("/a/?[b-d]/x", "/a/zc/x"), ("/a/*server.conf", "/a/server.conf")]
        no = [("/a/*.conf", "/a/.b.conf"), ("/a/*", "/a/b/c"), ("/a/?[!b-d]/x", "/a/zc/x")]
        for pattern, path in yes:
            self.assertTrue(glob(pattern).fullmatch(path), pattern)
        for pattern, path in no:
            self.assertFalse(glob(pattern).fullmatch(path), pattern)


if __name__ == "__main__":
    unittest.main()
