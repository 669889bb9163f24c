"""Whether probes come to the server block that includes our files. A site that speaks TLS alone has two
server blocks, one that redirects and the real one: a probe that connects to the first proves nothing
about the second. As agent/src/steps/origin.rs and agent/src/host/nginx/listen.rs do it."""

import ipaddress
from urllib.parse import urlsplit

from ansible.module_utils.hostler.outcome import Failure

# Port of a `listen` that names none, or of a server without one.
PORT_DEFAULT = 80
ANY, NAME = "any", "name"


def _address(text):
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


class Listen:
    """One `listen` of a server."""

    def __init__(self, args):
        """Raises ValueError for one no probe can come to, such as a Unix socket or QUIC."""
        place, *flags = args or [str(PORT_DEFAULT)]
        if place.startswith("unix:") or "quic" in flags:
            raise ValueError(place)
        host, colon, port = place.rpartition(":")
        if not colon:
            bare_port = place[:1].isdigit() and "." not in place
            host, port = ("*", place) if bare_port else (place, "")
        elif port.endswith("]"):
            host, port = place, ""  # The colon is one of an IPv6 address.
        first, _, last = (port or str(PORT_DEFAULT)).partition("-")
        self.ports = (int(first), int(last or first))
        self.tls = "ssl" in flags
        bare = host.lstrip("[").rstrip("]")
        self.ip = _address(bare)
        self.any = bare == "*" or (self.ip is not None and self.ip.is_unspecified)
        self.six = self.ip is not None and self.ip.version == 6
        self.both = self.any and self.six and "ipv6only=off" in flags

    def reached_by(self, origin):
        """Whether a connection to the origin comes here, as far as can be told. A socket may speak TLS
        because another server says so, so only what surely cannot be counts as a no."""
        asked = _address(origin.host)
        if asked is None or (self.ip is None and not self.any):
            here = True
        elif self.any:
            here = self.both or (asked.version == 6) == self.six
        else:
            here = self.ip == asked
        first, last = self.ports
        return here and first <= origin.port <= last and (origin.scheme == "https" or not self.tls)

    @property
    def origin(self):
        """A probe origin that comes here."""
        host = "127.0.0.1"
        if self.any and self.six:
            host = "[::1]"
        elif self.ip is not None and not self.any:
            host = f"[{self.ip}]" if self.six else str(self.ip)
        return f"{'https' if self.tls else 'http'}://{host}:{self.ports[0]}"


def check(environment, seen):
    """Whether a server block of the domain that includes our server file listens at the probe origin."""
    servers = {
        id(sighting.server): sighting.server
        for sighting in seen
        if sighting.file == environment.files[1]
        and sighting.server
        and sighting.server.answers_for(environment.domain)
    }
    listens = []
    for server in servers.values():
        for args in server.listens or [[]]:
            try:
                listens.append(Listen(args))
            except ValueError:
                pass
    if not listens or any(listen.reached_by(environment.origin) for listen in listens):
        return
    best = next((listen for listen in listens if listen.tls), listens[0])
    why = f"the server of {environment.domain} that includes our files does not listen there"
    raise wrong(environment, why, best.origin)


def elsewhere(origin, answer):
    """The origin an answer redirects to, if that speaks another scheme; None otherwise."""
    if not 300 <= answer.status < 400 or not answer.location:
        return None
    try:
        parts = urlsplit(answer.location)
        port = parts.port
    except ValueError:
        return None
    if not parts.scheme or parts.scheme == origin.scheme:
        return None
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"


def redirects(environment, other):
    """The failure of an origin that redirects to another."""
    return wrong(environment, "what answers there redirects to another scheme", other)


def wrong(environment, why, other):
    """The failure of an origin that is not where the site is."""
    message = f"the probe origin {environment.origin.text} is not where the site is: {why}"
    hint = f"Set the environment's probe origin to {other}."
    return Failure("PROBE_ORIGIN_WRONG", message, hint=hint)
