"""Redis URLs, patterns, and what a server that misbehaves is told as."""

import socket
import threading
import unittest

import support
from ansible.module_utils.hostler import resp
from ansible.module_utils.hostler.outcome import Failure
from ansible.module_utils.hostler.paths import Roots


class Server:
    """Answers each request it gets with the next of its answers, then hangs up."""

    def __init__(self, *answers):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.heard = []
        self.thread = threading.Thread(target=self._serve, args=(answers,), daemon=True)
        self.thread.start()

    def _serve(self, answers):
        connection, _ = self.socket.accept()
        with connection:
            for answer in answers:
                self.heard.append(connection.recv(65536))
                connection.sendall(answer)
        self.socket.close()


class Redis(unittest.TestCase):
    def connection(self, server, user="", password=None):
        target = resp.Target(f"redis://{user}127.0.0.1:{server.port}")
        target.password = password
        connection = resp.Connection(target)
        self.addCleanup(connection.close)
        return connection

    def code(self, work, *arguments):
        with self.assertRaises(Failure) as caught:
            work(*arguments)
        self.assertNotIn("sesame", caught.exception.message)
        return caught.exception.code

    def test_urls_are_read_and_never_hold_a_password(self):
        target = resp.Target("redis://site@127.0.0.1:6380/3")
        self.assertEqual(
            (target.user, target.host, target.port, target.database), ("site", "127.0.0.1", 6380, 3)
        )
        self.assertEqual(resp.Target("unix:///run/redis.sock").path, "/run/redis.sock")
        for bad in ["redis://u:p@h", "redis://:p@h", "http://h", "unix://x", "redis://h/x"]:
            self.assertEqual(self.code(resp.Target, bad), "SPEC_INVALID", bad)
        empty = {"url": "redis://h", "prefix": ""}
        self.assertEqual(self.code(resp.target, empty, Roots([])), "SPEC_INVALID")

    def test_glob_characters_stand_for_themselves(self):
        self.assertEqual(resp.escape("a*b[c]?\\"), "a\\*b\\[c\\]\\?\\\\")

    def test_refusals_are_told_by_code(self):
        cases = [
            (b"-WRONGPASS invalid\r\n", "REDIS_AUTH_FAILED"),
            (b"-ERR AUTH <password> called without any password\r\n", "REDIS_AUTH_FAILED"),
            (b"-ERR sesame\r\n", "REDIS_UNREACHABLE"),
            (b"nonsense\r\n", "REDIS_UNREACHABLE"),
            (b"", "REDIS_UNREACHABLE"),
        ]
        for answer, code in cases:
            server = Server(answer)
            self.assertEqual(self.code(self.connection, server, "u@", "sesame"), code, answer)
        connection = self.connection(Server(b"-NOPERM no\r\n"))
        self.assertEqual(self.code(connection.remove_prefix, "p:", False), "REDIS_DENIED")
        closed = socket.create_server(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        closed.close()
        self.assertEqual(
            self.code(resp.Connection, resp.Target(f"redis://127.0.0.1:{port}")), "REDIS_UNREACHABLE"
        )

    def test_a_key_outside_the_prefix_is_never_removed(self):
        # A server that takes no notice of the pattern.
        server = Server(b"*2\r\n$1\r\n0\r\n*2\r\n$3\r\np:1\r\n$5\r\nother\r\n", b"-NOPERM no\r\n", b":1\r\n")
        connection = self.connection(server)
        self.assertEqual(connection.remove_prefix("p:", False), (1, 1, 0))
        server.thread.join()
        self.assertIn(b"UNLINK", server.heard[2])
        self.assertNotIn(b"other", server.heard[2])


if __name__ == "__main__":
    unittest.main()
