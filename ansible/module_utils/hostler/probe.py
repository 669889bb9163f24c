"""Asking the live configuration: its generation, whether requests go through the cache, what a
visitor would get. A probe connects where the environment says and names the domain in `Host`."""

import http.client
import os
import socket
import ssl
import time

from ansible.module_utils.hostler import cache, listen
from ansible.module_utils.hostler.outcome import Failure

GENERATION_SECS_MAX = 2
# Longest wait for old workers to stop answering.
EFFECT_SECS_MAX = 5
# How long after a line of despair in the log a configuration may still come: nginx tries an occupied
# port five times, half a second apart.
EMERGENCY_GRACE_SECS = 4
POLL_SECS = 0.02
BODY_BYTES_MAX = 64 * 1024
# What probes call themselves, as the agent's do.
USER_AGENT = "hostler-agent"
OWN_HEADERS = {"User-Agent": USER_AGENT, "Connection": "close"}
STATUSES = ("MISS", "BYPASS", "EXPIRED", "STALE", "UPDATING", "REVALIDATED", "HIT", "OFF")


class Answer:
    """One answer: HTTP status, the cache's word, whether the page varies, the body's beginning."""

    def __init__(self, response, whole):
        self.status = response.status
        word = response.getheader("X-Hostler-Cache")
        self.cache = word if word in STATUSES else "UNKNOWN"
        self.varies = response.getheader("Vary") is not None
        self.location = response.getheader("Location")
        # Names in lower case.
        self.headers = [(name.lower(), value) for name, value in response.getheaders()]
        self.body = response.read(BODY_BYTES_MAX)
        # nginx stores a page only when somebody reads it to its end.
        while whole and response.read(BODY_BYTES_MAX):
            pass


class Live:
    """A configuration that can be asked."""

    def __init__(self, environment, secret, roots):
        """Without a secret: a site none of our files speaks for, asked as a visitor asks."""
        self.environment = environment
        self.roots = roots
        self.origin = environment.origin
        self.secret = secret
        self.health_secs = int(environment.health["timeout_ms"]) / 1000

    def get(self, mode, path, timeout, nonce=""):
        """One GET in a probe mode; PROBE_FAILED when there is no answer."""
        origin = self.origin
        headers = {}
        if self.secret:
            headers = {"X-Hostler-Probe": f"{mode}:{self.secret}", "X-Hostler-Nonce": nonce}
        return get(origin, self.environment.domain, path, headers, timeout)

    def generation(self):
        """The generation that answers; None when something else does."""
        answer = self._ask_generation()
        text = answer.body.decode("utf-8", "replace").strip()
        return int(text) if answer.status == 200 and text.isdecimal() else None

    def _ask_generation(self):
        return self.get("generation", self.environment.generation_path, GENERATION_SECS_MAX)

    def await_generation(self, nginx, wanted, mark, workers, secs_max):
        """Waits until the generation probe answers the wanted one, unless nobody is left to."""
        last, emergency, elsewhere = "nothing", None, None
        deadline = time.monotonic() + secs_max
        while time.monotonic() < deadline:
            try:
                found = self.generation()
                if found == wanted:
                    return
                last = "no generation" if found is None else f"generation {found}"
                if found is None:
                    elsewhere = listen.elsewhere(self.origin, self._ask_generation())
                    # Once no worker of before takes connections, every answer is the new
                    # configuration's.
                    if elsewhere and workers and not nginx.accepting_workers() & workers:
                        break
            except Failure as failure:
                last = failure.message
                if not nginx.runs():
                    break
            now = time.monotonic()
            if emergency is None and nginx.emergency_since(mark):
                emergency = now
            if emergency is not None and now - emergency > EMERGENCY_GRACE_SECS:
                break
            time.sleep(POLL_SECS)
        nginx.master()
        if elsewhere:
            raise listen.redirects(self.environment, elsewhere)
        why = nginx.severe_since(mark) or f"the generation probe answered {last}"
        raise Failure("NGINX_RELOAD_NOT_APPLIED", why)

    def await_gone(self, nginx, unwanted, mark, secs_max):
        """Waits until something else than that generation answers. A probe that fails proves nothing,
        since the old workers may merely be slow; one that fails all the time has nobody to answer it."""
        silent, deadline = True, time.monotonic() + secs_max
        while time.monotonic() < deadline:
            try:
                if self.generation() != unwanted:
                    return
                silent = False
            except Failure:
                pass
            time.sleep(POLL_SECS)
        if not silent:
            why = nginx.severe_since(mark) or f"generation {unwanted} still answers"
            raise Failure("NGINX_RELOAD_NOT_APPLIED", why)

    def _past_the_visitors(self, times):
        """Requests for the health page under a key of their own, whose entry is removed again."""
        path = self.environment.health["path"]
        nonce = os.urandom(8).hex()
        try:
            return [self.get("effect", path, self.health_secs, nonce) for _ in range(times)]
        finally:
            # A probe that got no answer in time may have stored one all the same.
            self._remove_entry(nonce)

    def _remove_entry(self, nonce):
        fastcgi = self.environment.fastcgi
        if not fastcgi or not self.secret:
            return
        key = self.environment.key(self.environment.health["path"])
        try:
            with self.roots.dir(fastcgi["cache_dir"]) as opened:
                entry = cache.find(opened, f"hostler-probe:{nonce}:".encode() + key)
        except Failure as failure:
            if failure.code != "PATH_MISSING":
                raise
            return  # No directory, no entry.
        if entry:
            entry.remove()

    def health(self):
        """HTTP status of the health page, past the visitors' entries."""
        return self._past_the_visitors(1)[0].status

    def prove(self, enabled):
        """Proves that requests go through the cache, or past it; waits for old workers to leave."""
        deadline = time.monotonic() + EFFECT_SECS_MAX
        while True:
            first, second = self._past_the_visitors(2)
            off = first.cache == "OFF" and second.cache == "OFF"
            if first.cache != "UNKNOWN" and off != enabled:
                return self._proof(first.cache, second.cache, second.status, enabled)
            if time.monotonic() > deadline:
                raise self._missing(first.cache, second.status, enabled)
            time.sleep(POLL_SECS)

    def _missing(self, first, status, enabled):
        path = self.environment.health["path"]
        if first == "UNKNOWN":
            why = f"{status} without the cache status header: no PHP location answers it, or it has headers of its own"
        elif enabled:
            why = f"{status} past the cache"
        else:
            return Failure("CACHE_EFFECT_MISSING", f"{path} still answers {first} from a cache")
        return Failure("CACHE_EFFECT_MISSING", f"{path} answered {why}")

    def _proof(self, first, second, status, enabled):
        path = self.environment.health["path"]
        if not enabled:
            return f"two requests for {path} answered OFF (HTTP {status})"
        so = {
            "HIT": "the second was answered from the cache",
            "BYPASS": "the cache is engaged; its rules let this page pass",
        }.get(second, "the cache is engaged; the page says it must not be stored")
        return f"two requests for {path} answered {first} then {second} (HTTP {status}): {so}"


def get(origin, domain, path, headers, timeout, whole=False):
    """One GET; a status such as 500 is an answer, PROBE_FAILED is none. `whole`: read it to its end."""
    where = f"{origin.host}:{origin.port}"
    try:
        sock = socket.create_connection((origin.host, origin.port), timeout)
    except (socket.timeout, TimeoutError):
        raise Failure("PROBE_FAILED", f"no answer within {round(timeout * 1000)} ms") from None
    except OSError as error:
        raise Failure("PROBE_FAILED", f"{where} cannot be connected to: {error.strerror}") from None
    connection = http.client.HTTPConnection(origin.host, origin.port, timeout=timeout)
    try:
        if origin.scheme == "https":
            # Any certificate: a probe asks the machine it runs on.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            sock = context.wrap_socket(sock, server_hostname=domain)
        connection.sock = sock
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**OWN_HEADERS, "Host": domain, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return Answer(connection.getresponse(), whole)
    except (socket.timeout, TimeoutError):
        raise Failure("PROBE_FAILED", f"no answer within {round(timeout * 1000)} ms") from None
    except ssl.SSLError:
        raise Failure("PROBE_FAILED", f"{where} does not complete a TLS handshake") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = f"the server at {where} did not answer in HTTP: {error}"
        raise Failure("PROBE_FAILED", message) from None
    finally:
        connection.close()
        sock.close()
